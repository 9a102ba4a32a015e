//! Removes tombstones of deleted owners once they are no longer needed.

use std::{sync::Arc, time::Duration};

use service_kit::clock::to_micros;
use tokio_util::sync::CancellationToken;

use super::{
    authorization::servers::AuthorizationServers,
    credentials::Credentials,
    error::Error,
    owner::Owner,
    ports::{Store, StoreError},
    record::Value,
};

/// How long tombstones stay. No change takes this long, so none that was authorized before the deletion is still in progress.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Owners on one page of the listing.
const PAGE: usize = 512;
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// The pause after a sweep that failed. It doubles each time.
const RETRY: Duration = Duration::from_secs(30);

/// What a walk through the store found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Tombstones that were removed.
    pub(crate) removed: usize,
    /// Records of owners that the registry does not know. They are kept: absence never deletes a secret.
    pub(crate) unknown: usize,
}

/// Sweeps once a day, beginning after the first snapshot of the registry, until `stop` is cancelled.
pub(crate) async fn sweep<S: Store, R: Send + Sync, A: AuthorizationServers>(
    credentials: Arc<Credentials<S, R, A>>,
    stop: CancellationToken,
) {
    let forever = async {
        let mut seen = credentials.seen.subscribe();
        if seen.wait_for(|seen| *seen > 0).await.is_err() {
            return;
        }
        let mut pauses = Pauses::default();
        loop {
            let swept = credentials.sweep().await;
            let pause = pauses.after(swept.is_ok());
            match swept {
                Ok(Swept { removed, unknown }) => {
                    tracing::info!(removed, unknown, "swept the secret store");
                }
                Err(error) => {
                    tracing::warn!(error = %error, retry.seconds = pause.as_secs(), "sweeping the secret store failed; it is retried");
                }
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = forever => {}
        () = stop.cancelled() => {}
    }
}

/// How long until the next sweep.
#[derive(Debug, Default)]
struct Pauses {
    /// Sweeps that failed since one succeeded.
    failed: u32,
}

impl Pauses {
    fn after(&mut self, succeeded: bool) -> Duration {
        if succeeded {
            self.failed = 0;
            return EVERY;
        }
        let pause = RETRY.saturating_mul(1 << self.failed.min(16));
        self.failed += 1;
        pause.min(EVERY)
    }
}

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// Walks through all owners in the store, page by page.
    pub(crate) async fn sweep(&self) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let mut after: Option<Owner> = None;
        loop {
            let page = self.store.list(after.as_ref(), PAGE).await?;
            for owner in &page {
                if self.views().knows(owner) {
                    continue;
                }
                match self.store.read(owner).await {
                    Ok(Some((_, Value::Erased { time, unrevoked }))) => {
                        let age = self.clock.now_micros().saturating_sub(time);
                        if age > to_micros(std::time::UNIX_EPOCH + KEPT) {
                            self.store.delete(owner).await?;
                            swept.removed += 1;
                        } else if !unrevoked.is_empty() {
                            // A process before this one may have left it.
                            self.revoker.begin(owner);
                        }
                    }
                    Ok(Some((_, Value::Record(_)))) => swept.unknown += 1,
                    Ok(None) => {}
                    Err(StoreError::Corrupt(_)) => swept.unknown += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            if page.len() < PAGE {
                return Ok(swept);
            }
            after = page.into_iter().next_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_away_at_the_start_is_swept_soon_after() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = [false, false, false, true, false]
            .map(|succeeded| pauses.after(succeeded).as_secs())
            .into();
        assert_eq!(seconds, [30, 60, 120, 24 * 3_600, 30]);
        let longest = (0..100).map(|_| pauses.after(false)).max();
        assert_eq!(longest, Some(EVERY));
    }
}
