//! The lease of what runs servers: of all orchestrators of a registry one holds it, and works; the others wait.
//!
//! What another orchestrator's holder does meanwhile is harmless: the registry refuses reports under an epoch that is not the present one.

use std::time::Duration;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ReleaseRuntimeLeaseRequest, RuntimeLease,
    report_service_client::ReportServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// Between two looks at a lease that another holds.
const LOOK: Duration = Duration::from_secs(1);
/// Until the registry is asked again that did not answer.
const RETRY: Duration = Duration::from_millis(250);
/// A lease is renewed when this part of it is over.
const RENEW: f64 = 1.0 / 3.0;

/// Acquires the lease and keeps it.
pub(crate) struct Leases {
    registry: Channel,
    /// See `AcquireRuntimeLeaseRequest.holder`.
    holder: String,
    /// Whether this process has never held it: then it takes the place of the one before it.
    replaces: bool,
}

/// The lease, held.
pub(crate) struct Held {
    pub(crate) lease: RuntimeLease,
    /// Until it has to be renewed.
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

    /// Waits until this process holds the lease. `waits` is called with the name of whoever holds it. `None`: the service stops.
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
                    tracing::warn!(error = %error.message(), "the lease of what runs servers could not be acquired");
                    RETRY
                }
            };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
        }
    }

    /// Renews the lease until another process holds it. While the registry is unreachable, what runs goes on: nobody else can be told to
    /// run it.
    pub(crate) async fn keep(&self, mut held: Held) {
        loop {
            tokio::time::sleep(held.renew_after).await;
            match self.ask(held.lease.epoch).await {
                Ok(answer) if answer.held && answer.lease.as_ref() == Some(&held.lease) => held = self::held(answer),
                Ok(answer) => {
                    let holder = answer.lease.unwrap_or_default().holder;
                    tracing::warn!(holder, "another orchestrator runs the servers from now on");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %error.message(), "the lease of what runs servers could not be renewed");
                    held.renew_after = RETRY;
                }
            }
        }
    }

    /// Gives the lease up. Where that fails, others wait for its end.
    pub(crate) async fn release(&self, lease: RuntimeLease) {
        let request = ReleaseRuntimeLeaseRequest { lease: Some(lease) };
        let mut client = ReportServiceClient::new(self.registry.clone());
        if let Ok(Err(error)) = tokio::time::timeout(LOOK, client.release_runtime_lease(request)).await {
            // In one process, the registry may have stopped before.
            tracing::info!(error = %error.message(), "the lease of what runs servers was not released: other orchestrators wait for its end");
        }
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
