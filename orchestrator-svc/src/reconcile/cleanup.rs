//! Cleans up after deleted installations and entries, and reports to the registry that nothing is left.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use contracts::registry::{
    ReportCleanupRequest, report_cleanup_request::Subject, report_service_client::ReportServiceClient,
};
use futures::StreamExt as _;
use tokio::sync::Notify;
use tonic::Code;

use super::context::Context;

/// How many cleanups run at a time.
const AT_ONCE: usize = 8;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Cleanups that are due and that no reconciler does: of entries, and of installations without a reconciler.
#[derive(Debug, Default)]
pub(crate) struct Cleanup {
    waiting: Mutex<BTreeSet<Deleted>>,
    added: Notify,
}

/// Something deleted, by uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deleted {
    Installation(String),
    /// Nothing is stored here for an entry itself; its installations are cleaned up separately.
    Entry(String),
}

impl Cleanup {
    /// Adding the same one again has no effect.
    pub(crate) fn add(&self, deleted: Deleted) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(deleted);
        self.added.notify_one();
    }

    fn take(&self) -> BTreeSet<Deleted> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cleans up until dropped; retries what fails.
    pub(crate) async fn run(&self, context: &Context) {
        let mut delay = FIRST_DELAY;
        let mut failed: BTreeSet<Deleted> = BTreeSet::new();
        loop {
            if failed.is_empty() {
                self.added.notified().await;
                delay = FIRST_DELAY;
            } else {
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_DELAY);
            }
            failed.append(&mut self.take());
            let outcomes = futures::stream::iter(std::mem::take(&mut failed)).map(|deleted| async move {
                let done = clean_up(context, &deleted).await;
                (!done).then_some(deleted)
            });
            let outcomes = outcomes.buffer_unordered(AT_ONCE).filter_map(std::future::ready);
            failed = outcomes.collect().await;
        }
    }
}

/// Returns true if nothing is left and that was reported.
async fn clean_up(context: &Context, deleted: &Deleted) -> bool {
    let subject = match deleted {
        Deleted::Entry(uid) => Subject::EntryUid(uid.clone()),
        Deleted::Installation(uid) => {
            if let Err(error) = context.runtime.remove(uid).await {
                tracing::error!(installation.uid = %uid, error = %error, "a server could not be removed");
                return false;
            }
            Subject::InstallationUid(uid.clone())
        }
    };
    cleaned_up(context, subject).await
}

/// Reports that nothing is left; returns true if the registry accepted it.
async fn cleaned_up(context: &Context, subject: Subject) -> bool {
    let request = ReportCleanupRequest {
        subject: Some(subject),
        lease: Some(context.lease.clone()),
    };
    match ReportServiceClient::new(context.registry.clone())
        .report_cleanup(request)
        .await
    {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => true,
        Err(status) => {
            tracing::warn!(error = %status.message(), "a cleanup could not be reported");
            false
        }
    }
}

/// Repeats [`cleaned_up`] until the registry accepts it.
pub(crate) async fn report_cleanup(context: &Context, subject: Subject) {
    let mut delay = FIRST_DELAY;
    while !cleaned_up(context, subject.clone()).await {
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}
