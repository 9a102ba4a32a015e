//! The headers an installation sends to its upstream.

#[cfg(test)]
mod fuzz;
mod headers;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::credential::{ErrorReason, VendHeadersRequest, vend_service_client::VendServiceClient};
use http::HeaderMap;
use moka::{Expiry, future::Cache};
use registry_model::destination;
use service_kit::{Clock, status::reason_of};
use tonic::{Code, Status, transport::Channel};

pub(crate) use headers::passthrough;

use crate::domain::{CallError, ConsumerRef, Entry, Links, Repair, RepairReason, Running};

/// Installations whose headers are kept ready.
const CACHED: u64 = 50_000;
/// The longest time headers are kept: vended ones expire within five minutes anyway.
const MAX_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long before their expiry headers are vended again.
const MARGIN: Duration = Duration::from_secs(10);
/// How long credential-svc may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which credentials: those of an installation and those stored on its entry, each by the count of its puts. 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Generations {
    /// Of the installation's own.
    pub(crate) installation: i64,
    /// Of the entry's.
    pub(crate) entry: i64,
}

/// Everything to send to an installation's upstream, but what MCP itself and the client's passthrough add.
pub(crate) struct Vended {
    /// Additional headers, install fields and credential; names differ.
    pub(crate) headers: HeaderMap,
    /// Of the credentials they were made from.
    pub(crate) generations: Generations,
    kept: Duration,
}

impl fmt::Debug for Vended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vended")
            .field("generations", &self.generations)
            .finish_non_exhaustive()
    }
}

/// Why there are no headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VendError {
    /// A required secret is not there.
    #[error("a required credential has not been entered")]
    Required,
    /// The upstream refuses the stored secret.
    #[error("the upstream refuses the credential that was entered")]
    Expired,
    /// The entry points elsewhere, or something else runs, than when the secret was entered.
    #[error("where the credential would go has changed since it was entered; its owner must confirm that")]
    DestinationChanged,
    /// credential-svc did not answer.
    #[error("credentials are unavailable")]
    Unavailable,
}

impl VendError {
    /// As the caller learns it.
    pub(crate) fn into_call_error(self, entry: &Entry, consumer: &ConsumerRef, links: &Links) -> CallError {
        let name = &entry.display_name;
        let (reason, message) = match self {
            Self::Unavailable => return CallError::CredentialsUnavailable,
            Self::Required => (
                RepairReason::CredentialRequired,
                format!("{name} lacks a credential. Open the link to enter it, then try again."),
            ),
            Self::Expired => (
                RepairReason::CredentialExpired,
                format!(
                    "{name} no longer accepts the stored credential. Open the link to enter a new one, then try again."
                ),
            ),
            Self::DestinationChanged => (
                RepairReason::DestinationChanged,
                format!(
                    "{name} has changed since its credential was entered, and that would now go elsewhere or to other code. Its owner (for a credential of the entry, an admin) must open the link, see what has changed and confirm it. Try again after that."
                ),
            ),
        };
        Repair {
            reason,
            entry: Arc::clone(&entry.slug),
            display_name: Arc::clone(name),
            message,
            install_url: links.install(&entry.slug, Some(consumer)),
        }
        .into()
    }
}

/// Vends, once for all concurrent calls that require the same headers.
#[derive(Debug)]
pub(crate) struct Vendor {
    credentials: VendServiceClient<Channel>,
    kept: Cache<Key, Arc<Vended>>,
    /// The outcome of a refused credential: requested once for all calls to which it was refused.
    replaced: Cache<(Key, Generations), Arc<Vended>>,
    clock: Clock,
}

/// A change of any of these changes the headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    installation: Arc<str>,
    generation: i64,
    credentials: Generations,
    destination: Option<Arc<str>>,
}

struct KeptFor;

impl<K> Expiry<K, Arc<Vended>> for KeptFor {
    fn expire_after_create(&self, _: &K, vended: &Arc<Vended>, _: Instant) -> Option<Duration> {
        Some(vended.kept)
    }

    fn expire_after_update(&self, _: &K, vended: &Arc<Vended>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(vended.kept)
    }
}

impl Vendor {
    /// Over the gateway's channel to credential-svc.
    pub(crate) fn new(credential: Channel, clock: Clock) -> Self {
        Self {
            credentials: VendServiceClient::new(credential),
            kept: Cache::builder().max_capacity(CACHED).expire_after(KeptFor).build(),
            replaced: Cache::builder().max_capacity(CACHED).expire_after(KeptFor).build(),
            clock,
        }
    }

    /// The headers for an installation. `rejected` are the generations that the upstream has just answered with 401: another is
    /// required, and an error means that there is none.
    pub(crate) async fn headers(
        &self,
        running: &Running,
        rejected: Option<Generations>,
    ) -> Result<Arc<Vended>, VendError> {
        let Running {
            installation, entry, ..
        } = running;
        let key = Key {
            installation: Arc::clone(&installation.uid),
            generation: installation.generation,
            credentials: Generations {
                installation: installation.credential_generation,
                entry: entry.credential_generation,
            },
            destination: destination(running),
        };
        let Some(rejected) = rejected else {
            // The usual case first: it allocates no future.
            if let Some(kept) = self.kept.get(&key).await {
                return Ok(kept);
            }
            return self
                .kept
                .try_get_with(key, self.vend(running, Generations::default()))
                .await
                .map_err(|error| *error);
        };
        if let Some(kept) = self.kept.get(&key).await
            && kept.generations != rejected
        {
            return Ok(kept);
        }
        self.kept.invalidate(&key).await;
        let replaced = self
            .replaced
            .try_get_with((key.clone(), rejected), self.vend(running, rejected))
            .await;
        let replaced = replaced.map_err(|error| *error)?;
        self.kept.insert(key, Arc::clone(&replaced)).await;
        Ok(replaced)
    }

    async fn vend(&self, running: &Running, rejected: Generations) -> Result<Arc<Vended>, VendError> {
        let mut headers = headers::fixed(running);
        if !running.revision.vends_headers {
            return Ok(Arc::new(Vended {
                headers,
                generations: Generations::default(),
                kept: MAX_KEPT,
            }));
        }
        let request = VendHeadersRequest {
            installation_uid: running.installation.uid.to_string(),
            destination: destination(running).as_deref().unwrap_or_default().to_owned(),
            rejected_credential_generation: rejected.installation,
            rejected_entry_credential_generation: rejected.entry,
        };
        let mut credentials = self.credentials.clone();
        let answer = tokio::time::timeout(TIMEOUT, credentials.vend_headers(request)).await;
        let vended = answer
            .map_err(|_| Status::deadline_exceeded("no answer in time"))
            .and_then(|answer| answer)
            .map_err(|status| refused(running, &status))?
            .into_inner();
        headers::add_secret(&mut headers, vended.headers, running);
        let ends = vended
            .expire_time
            .and_then(|time| std::time::SystemTime::try_from(time).ok());
        let left = ends
            .and_then(|ends| ends.duration_since(self.clock.now()).ok())
            .unwrap_or_default();
        Ok(Arc::new(Vended {
            headers,
            generations: Generations {
                installation: vended.credential_generation,
                entry: vended.entry_credential_generation,
            },
            kept: left.saturating_sub(MARGIN).min(MAX_KEPT),
        }))
    }
}

/// Where the secrets of an installation go.
fn destination(running: &Running) -> Option<Arc<str>> {
    let code = running.revision.destination.as_ref()?;
    Some(match &running.installation.foreign {
        None => Arc::clone(code),
        foreign => destination::with(code, foreign.as_ref()).into(),
    })
}

fn refused(running: &Running, status: &Status) -> VendError {
    match (status.code(), reason_of(status, ErrorReason::from_str_name)) {
        (Code::FailedPrecondition, Some(ErrorReason::CredentialRequired)) | (Code::NotFound, _) => VendError::Required,
        (Code::FailedPrecondition, Some(ErrorReason::CredentialExpired)) => VendError::Expired,
        (Code::FailedPrecondition, Some(ErrorReason::DestinationChanged)) => VendError::DestinationChanged,
        (code, _) => {
            tracing::error!(installation.uid = %running.installation.uid, grpc.code = ?code, error = %status.message(), "credential-svc vended nothing");
            VendError::Unavailable
        }
    }
}
