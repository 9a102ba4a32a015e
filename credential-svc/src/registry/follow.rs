//! Applies the registry's watch to the domain's views.

use std::sync::Arc;

use contracts::registry::{Change, ObjectKind, WatchedObject, change, watched_object::Object};
use registry_client::watch::Sink;

use crate::{
    convert,
    domain::{credentials::Credentials, owner::Owner, ports::Store, views::Views},
    health::Health,
};

/// The kinds of objects this service watches.
pub(crate) const KINDS: [ObjectKind; 3] = [ObjectKind::Entry, ObjectKind::EntryRevision, ObjectKind::Installation];

/// Applies what the watch brings. Reports are queued: the acknowledgement of a revision must not wait for them.
#[derive(Debug)]
pub(crate) struct Follower<S, R, A> {
    credentials: Arc<Credentials<S, R, A>>,
    health: Health,
}

impl<S, R, A> Follower<S, R, A> {
    pub(crate) fn new(credentials: Arc<Credentials<S, R, A>>, health: Health) -> Self {
        Self { credentials, health }
    }
}

impl<S: Store, R: Send + Sync, A: Send + Sync> Sink for Follower<S, R, A> {
    fn snapshot_begin(&mut self) {
        self.credentials.begin_snapshot();
    }

    async fn snapshot_objects(&mut self, objects: Vec<WatchedObject>) {
        self.credentials.fill_snapshot(|views| {
            for object in objects {
                put(views, object);
            }
        });
    }

    async fn snapshot_end(&mut self, _revision: i64) {
        self.credentials.end_snapshot();
    }

    async fn changes(&mut self, _revision: i64, changes: Vec<Change>) {
        self.credentials
            .update(|views| changes.into_iter().flat_map(|change| apply(views, change)).collect());
    }

    fn connected(&mut self, connected: bool) {
        self.health.registry(connected);
    }
}

/// Applies a change; returns the owners to reconcile.
fn apply(views: &mut Views, change: Change) -> Vec<Owner> {
    let Some(change) = change.change else {
        return Vec::new();
    };
    match change {
        change::Change::Put(object) => put(views, object),
        change::Change::Remove(removal) => {
            match removal.kind() {
                ObjectKind::Installation => views.remove_installation(&removal.key),
                ObjectKind::Entry => views.remove_entry(&removal.key),
                ObjectKind::EntryRevision => views.remove_plan(&removal.key),
                _ => {}
            }
            Vec::new()
        }
    }
}

/// Applies an object; returns the owners to reconcile. None for an entry revision: the installations that run it change as well.
fn put(views: &mut Views, object: WatchedObject) -> Vec<Owner> {
    let Some(watched) = object.object else {
        return Vec::new();
    };
    match watched {
        Object::Installation(installation) => {
            let view = convert::installation(installation);
            let owner = Owner::Installation(view.uid.clone());
            views.put_installation(view);
            vec![owner]
        }
        Object::Entry(entry) => {
            let view = convert::entry(entry);
            let owner = Owner::Entry(view.uid.clone());
            let mut owners = views.put_entry(view);
            owners.push(owner);
            owners
        }
        Object::EntryRevision(revision) => {
            views.put_plan(object.key, Arc::new(convert::plan(&revision)));
            Vec::new()
        }
        _ => Vec::new(),
    }
}
