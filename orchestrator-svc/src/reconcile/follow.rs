//! From the registry's watch to the controller.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use contracts::registry::{Change, Entry, ObjectKind, WatchedObject, change, watched_object::Object};
use registry_client::watch::Sink;
use service_kit::Readiness;
use tokio::sync::watch;

use super::controller::Controller;

/// What is followed.
pub(crate) const KINDS: [ObjectKind; 2] = [ObjectKind::Entry, ObjectKind::Installation];

/// Hands what changes to the controller.
#[derive(Debug)]
pub(crate) struct Follower {
    controller: Arc<Controller>,
    readiness: watch::Sender<Readiness>,
    known: bool,
    /// Deleted entries whose cleanup is being reported.
    deleted: BTreeSet<String>,
}

impl Follower {
    pub(crate) fn new(controller: Arc<Controller>, readiness: watch::Sender<Readiness>) -> Self {
        Self {
            controller,
            readiness,
            known: false,
            deleted: BTreeSet::new(),
        }
    }

    fn put(&mut self, object: WatchedObject) {
        match object.object {
            Some(Object::Installation(watched)) => self.controller.put(&object.key, watched),
            Some(Object::Entry(entry)) => self.entry(&object.key, &entry),
            _ => {}
        }
    }

    fn entry(&mut self, uid: &str, entry: &Entry) {
        if entry.delete_time.is_some() && self.deleted.insert(uid.to_owned()) {
            self.controller.entry_deleted(uid.to_owned());
        }
    }
}

impl Sink for Follower {
    async fn snapshot(&mut self, _revision: i64, objects: Vec<WatchedObject>) {
        let keys: HashSet<String> = objects.iter().map(|o| o.key.clone()).collect();
        self.controller.retain(|uid| keys.contains(uid));
        self.deleted.clear();
        for object in objects {
            self.put(object);
        }
        self.known = true;
    }

    async fn changes(&mut self, _revision: i64, changes: Vec<Change>) {
        for change in changes {
            match change.change {
                Some(change::Change::Put(object)) => self.put(object),
                Some(change::Change::Remove(removal)) => {
                    if removal.kind() == ObjectKind::Installation {
                        self.controller.remove(&removal.key);
                    }
                    self.deleted.remove(&removal.key);
                }
                None => {}
            }
        }
    }

    fn connected(&mut self, connected: bool) {
        let readiness = match (connected, self.known) {
            (true, _) => Readiness::Ready,
            (false, true) => Readiness::Degraded("the registry is out of reach; running servers go on".to_owned()),
            (false, false) => Readiness::NotReady("the registry has not told yet what should run".to_owned()),
        };
        self.readiness.send_if_modified(|r| {
            let changed = *r != readiness;
            *r = readiness;
            changed
        });
    }
}
