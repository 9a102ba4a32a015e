//! The lease for running servers. One orchestrator of a registry holds it and runs the servers; the others are on standby.
//!
//! The lease has an epoch, and the registry refuses reports under any other: a former holder that has not noticed yet does no harm.

use std::time::Duration;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ReleaseRuntimeLeaseRequest, RuntimeLease,
    report_service_client::ReportServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// The delay between attempts to acquire a lease that another process holds.
const LOOK: Duration = Duration::from_secs(1);
/// The delay before a retry when the registry is unavailable.
const RETRY: Duration = Duration::from_millis(250);
/// A lease is renewed after this part of its duration.
const RENEW: f64 = 1.0 / 3.0;

/// Acquires the lease and keeps it.
pub(crate) struct Leases {
    registry: Channel,
    /// See `AcquireRuntimeLeaseRequest.holder`.
    holder: String,
    /// Whether this process has never held the lease: then it replaces a process of the same holder that has ended.
    replaces: bool,
}

/// A lease that this process holds.
pub(crate) struct Held {
    pub(crate) lease: RuntimeLease,
    /// The time until it must be renewed.
    renew_after: Duration,
}

impl Leases {
    pub(crate) fn new(registry: Channel, holder: String) -> Self {
        Self {
            registry,
            holder,
            replaces: true,
        }
    }

    /// Waits until this process holds the lease. Calls `waits` with the holder's name while another process does. Returns `None` if the service
    /// stops.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken, waits: impl Fn(&str)) -> Option<Held> {
        loop {
            let pause = match self.ask(0).await {
                Ok(answer) if answer.held => {
                    self.replaces = false;
                    return Some(held(answer));
                }
                Ok(answer) => {
                    waits(&answer.lease.unwrap_or_default().holder);
                    LOOK
                }
                Err(error) => {
                    tracing::warn!(error = %error.message(), "the lease for running servers could not be acquired");
                    RETRY
                }
            };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
        }
    }

    /// Renews the lease until another process holds it. While the registry is unreachable, the servers keep running: no other orchestrator can
    /// acquire the lease either.
    pub(crate) async fn keep(&self, mut held: Held) {
        loop {
            tokio::time::sleep(held.renew_after).await;
            match self.ask(held.lease.epoch).await {
                Ok(answer) if answer.held && answer.lease.as_ref() == Some(&held.lease) => held = self::held(answer),
                Ok(answer) => {
                    let holder = answer.lease.unwrap_or_default().holder;
                    tracing::warn!(holder, "the lease for running servers was lost to another orchestrator");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %error.message(), "the lease for running servers could not be renewed");
                    held.renew_after = RETRY;
                }
            }
        }
    }

    /// Releases the lease. If that fails, other orchestrators wait until it expires.
    pub(crate) async fn release(&self, lease: RuntimeLease) {
        let request = ReleaseRuntimeLeaseRequest { lease: Some(lease) };
        let mut client = ReportServiceClient::new(self.registry.clone());
        let error = match tokio::time::timeout(LOOK, client.release_runtime_lease(request)).await {
            Ok(Ok(_)) => {
                return tracing::info!("all servers have ended, and the lease for running servers is released");
            }
            Ok(Err(error)) => error,
            Err(_) => Status::deadline_exceeded("the registry does not answer"),
        };
        tracing::warn!(
            error = %error.message(),
            "all servers have ended, but the lease for running servers could not be released; the next start with this data folder takes it at \
             once, another orchestrator when it expires"
        );
    }

    async fn ask(&self, epoch: i64) -> Result<AcquireRuntimeLeaseResponse, Status> {
        let request = AcquireRuntimeLeaseRequest {
            holder: self.holder.clone(),
            epoch,
            replaces: self.replaces,
        };
        let answer = ReportServiceClient::new(self.registry.clone())
            .acquire_runtime_lease(request)
            .await?;
        Ok(answer.into_inner())
    }
}

fn held(answer: AcquireRuntimeLeaseResponse) -> Held {
    let remaining = Duration::try_from(answer.remaining.unwrap_or_default()).unwrap_or_default();
    Held {
        lease: answer.lease.unwrap_or_default(),
        renew_after: remaining.mul_f64(RENEW),
    }
}
