//! Cleans up after deleted installations and entries, and reports to the registry that nothing is left.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::registry::{
    ReportCleanupRequest, report_cleanup_request::Subject, report_service_client::ReportServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::context::Context;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Something deleted, by uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Deleted {
    Installation(String),
    /// What is stored is that of the server which the entry's installations share, if it ever had one. The installations are cleaned up
    /// separately.
    Entry(String),
}

/// The cleanups that no reconciler does: of entries and installations without one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cleanups(Arc<Mutex<HashMap<Deleted, Life>>>);

/// The end of a cleanup.
#[derive(Clone, Debug, Default)]
struct Life {
    cancelled: CancellationToken,
    ended: CancellationToken,
}

impl Cleanups {
    /// The work of one more cleanup; `None` if that cleanup is in progress.
    pub(crate) fn add(
        &self,
        context: Arc<Context>,
        deleted: Deleted,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let life = Life::default();
        let mut all = self.all();
        if all.contains_key(&deleted) {
            return None;
        }
        all.insert(deleted.clone(), life.clone());
        drop(all);
        let this = self.clone();
        let ended = life.ended.drop_guard();
        Some(async move {
            let _ended = ended;
            let cleaned = life.cancelled.run_until_cancelled(clean_up(&context, &deleted));
            if cleaned.await.is_some() {
                this.all().remove(&deleted);
            }
        })
    }

    /// Cancels the cleanups that are not in `due`: a restored registry may have their installations again. Returns once they have ended.
    pub(crate) async fn retain(&self, due: &BTreeSet<Deleted>) {
        let cancelled: Vec<Life> = {
            let mut all = self.all();
            all.extract_if(|deleted, _| !due.contains(deleted))
                .map(|(_, life)| life)
                .collect()
        };
        for life in &cancelled {
            life.cancelled.cancel();
        }
        for life in cancelled {
            life.ended.cancelled().await;
        }
    }

    /// Whether no cleanup is in progress.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Deleted, Life>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is stored for something deleted, and reports that nothing is left. Retries until both have succeeded; the caller drops it
/// when the registry has the thing again.
pub(crate) async fn clean_up(context: &Context, deleted: &Deleted) {
    let mut delay = FIRST_DELAY;
    while !attempt(context, deleted).await {
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Returns true if nothing is left and that was reported.
async fn attempt(context: &Context, deleted: &Deleted) -> bool {
    let (uid, subject) = match deleted {
        Deleted::Entry(uid) => (uid, Subject::EntryUid(uid.clone())),
        Deleted::Installation(uid) => (uid, Subject::InstallationUid(uid.clone())),
    };
    if let Err(error) = context.runtime.remove(uid).await {
        tracing::error!(runtime.owner = %uid, error = %error, "a server could not be removed");
        return false;
    }
    let request = ReportCleanupRequest {
        subject: Some(subject),
        lease: Some(context.lease.clone()),
    };
    let _turn = context.cleanup_reports.acquire().await;
    let mut client = ReportServiceClient::new(context.registry.clone());
    match client.report_cleanup(request).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => true,
        Err(status) => {
            tracing::warn!(error = %status.message(), "a cleanup could not be reported");
            false
        }
    }
}
