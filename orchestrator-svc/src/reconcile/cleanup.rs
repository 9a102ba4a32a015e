//! What was deleted: its folder goes, and the registry is told that nothing is left.

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

/// Under way at a time.
const AT_ONCE: usize = 8;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Whose cleanup is due, where no reconciler sees to it: entries, and installations that do not run here. However many are
/// deleted at once, a few are worked on at a time.
#[derive(Debug, Default)]
pub(crate) struct Cleanup {
    waiting: Mutex<BTreeSet<Deleted>>,
    added: Notify,
}

/// Something deleted, by uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deleted {
    Installation(String),
    /// Nothing is ever left of an entry here but its installations, which are looked after one by one.
    Entry(String),
}

impl Cleanup {
    /// To add one twice is to add it once.
    pub(crate) fn add(&self, deleted: Deleted) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(deleted);
        self.added.notify_one();
    }

    fn take(&self) -> BTreeSet<Deleted> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cleans up for ever; tries again what fails.
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

/// True once nothing is left, and the registry knows.
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

/// Reports that nothing is left. True once it is taken.
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

/// As [`cleaned_up`], until it is taken.
pub(crate) async fn report_cleanup(context: &Context, subject: Subject) {
    let mut delay = FIRST_DELAY;
    while !cleaned_up(context, subject.clone()).await {
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}
