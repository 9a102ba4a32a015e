//! Removes the marks of owners that were erased, once nobody can need them any more.

use std::{sync::Arc, time::Duration};

use service_kit::clock::to_micros;
use tokio_util::sync::CancellationToken;

use super::{
    credentials::Credentials,
    error::Error,
    owner::Owner,
    ports::{Store, StoreError},
    record::Value,
};

/// No change that was authorized before an owner was deleted is under way for as long as this.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Owners that are listed at once.
const PAGE: usize = 512;
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a walk through the store found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Marks that were removed.
    pub(crate) removed: usize,
    /// Records of owners that the registry does not know. They stay: that something is absent never deletes a secret.
    pub(crate) unknown: usize,
}

/// Sweeps once a day, once the registry has told what there is, until `stop` is cancelled.
pub(crate) async fn sweep<S: Store, R: Send + Sync>(credentials: Arc<Credentials<S, R>>, stop: CancellationToken) {
    let forever = async {
        let mut seen = credentials.seen.subscribe();
        if seen.wait_for(|seen| *seen > 0).await.is_err() {
            return;
        }
        loop {
            match credentials.sweep().await {
                Ok(Swept { removed, unknown }) => {
                    tracing::info!(removed, unknown, "looked for records of owners that are gone");
                }
                Err(error) => tracing::warn!(error = %error, "records of owners that are gone could not be looked for"),
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = forever => {}
        () = stop.cancelled() => {}
    }
}

impl<S: Store, R> Credentials<S, R> {
    /// Walks through all owners that the store has, page by page.
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
                    Ok(Some((_, Value::Erased { time }))) => {
                        let age = self.clock.now_micros().saturating_sub(time);
                        if age > to_micros(std::time::UNIX_EPOCH + KEPT) {
                            self.store.delete(owner).await?;
                            swept.removed += 1;
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
