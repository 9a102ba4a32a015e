//! Keeps the domain's views true to the registry's watch.

use std::sync::Arc;

use contracts::registry::{Change, ObjectKind, WatchedObject, change, watched_object::Object};
use registry_client::watch::Sink;
use service_kit::Readiness;
use tokio::sync::watch;

use super::{convert, report::Reporter};
use crate::domain::{
    credentials::Credentials,
    record::Owner,
    views::{EntryView, InstallationView, Views},
};
use crate::store::local::LocalStore;

/// What this service follows.
pub(crate) const KINDS: [ObjectKind; 2] = [ObjectKind::Entry, ObjectKind::Installation];

/// Takes what the watch brings. Reports follow from the queue: an acknowledgement must not wait for one.
#[derive(Debug)]
pub(crate) struct Follower {
    credentials: Arc<Credentials<LocalStore, Reporter>>,
    ready: watch::Sender<Readiness>,
}

impl Follower {
    pub(crate) fn new(credentials: Arc<Credentials<LocalStore, Reporter>>, ready: watch::Sender<Readiness>) -> Self {
        Self { credentials, ready }
    }
}

impl Sink for Follower {
    async fn snapshot(&mut self, revision: i64, objects: Vec<WatchedObject>) {
        let mut installations: Vec<InstallationView> = Vec::new();
        let mut entries: Vec<EntryView> = Vec::new();
        for object in objects {
            match object.object {
                Some(Object::Installation(watched)) => installations.extend(convert::installation(watched)),
                Some(Object::Entry(entry)) => entries.push(convert::entry(entry)),
                _ => {}
            }
        }
        tracing::debug!(
            registry.revision = revision,
            installations = installations.len(),
            "took a snapshot"
        );
        self.credentials.replace(installations, entries).await;
    }

    async fn changes(&mut self, _revision: i64, changes: Vec<Change>) {
        self.credentials
            .update(|views| changes.into_iter().filter_map(|change| apply(views, change)).collect())
            .await;
    }

    fn connected(&mut self, connected: bool) {
        let readiness = if connected {
            Readiness::Ready
        } else if *self.ready.borrow() == Readiness::Ready {
            Readiness::Degraded("the registry is out of reach; what was known is still vended".to_owned())
        } else {
            return;
        };
        self.ready
            .send_if_modified(|known| std::mem::replace(known, readiness.clone()) != readiness);
    }
}

/// Applies a change; returns whom to look at again.
fn apply(views: &mut Views, change: Change) -> Option<Owner> {
    match change.change? {
        change::Change::Put(object) => match object.object? {
            Object::Installation(watched) => {
                let view = convert::installation(watched)?;
                let owner = Owner::Installation(view.uid.clone());
                views.put_installation(view);
                Some(owner)
            }
            Object::Entry(entry) => {
                let view = convert::entry(entry);
                let owner = view.deleted.then(|| Owner::Entry(view.uid.clone()));
                views.put_entry(view);
                owner
            }
            _ => None,
        },
        change::Change::Remove(removal) => {
            match removal.kind() {
                ObjectKind::Installation => views.remove_installation(&removal.key),
                ObjectKind::Entry => views.remove_entry(&removal.key),
                _ => {}
            }
            None
        }
    }
}
