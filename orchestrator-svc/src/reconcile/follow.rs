//! Passes the changes of the registry's watch on to the controller.

use std::{collections::BTreeSet, sync::Arc};

use contracts::registry::{Change, ObjectKind, Removal, WatchedObject, change, watched_object::Object};
use registry_client::watch::Sink;
use service_kit::Readiness;
use tokio::sync::watch;

use super::{cleanup::Deleted, controller::Controller, index::Index, report::Shown};

/// The kinds of objects that are watched.
pub(crate) const KINDS: [ObjectKind; 4] = [
    ObjectKind::Entry,
    ObjectKind::EntryRevision,
    ObjectKind::Installation,
    ObjectKind::Runtime,
];

/// Keeps the index, and passes changes on to the controller.
pub(crate) struct Follower {
    controller: Arc<Controller>,
    readiness: watch::Sender<Readiness>,
    index: Index,
    /// The snapshot that is being received.
    coming: Coming,
    /// Counts the snapshots received.
    snapshots: u64,
}

#[derive(Debug, Default)]
struct Coming {
    index: Index,
    deleted: BTreeSet<Deleted>,
}

/// The objects that a change concerns.
#[derive(Debug, Default)]
struct Touched {
    /// Uids of owners whose desired state may have changed.
    desired: BTreeSet<String>,
    /// Uids of owners whose runtime in the registry changed.
    shown: BTreeSet<String>,
    deleted: BTreeSet<Deleted>,
}

impl Follower {
    pub(crate) fn new(controller: Arc<Controller>, readiness: watch::Sender<Readiness>) -> Self {
        Self {
            controller,
            readiness,
            index: Index::default(),
            coming: Coming::default(),
            snapshots: 0,
        }
    }

    fn shown(&self, uid: &str) -> Shown {
        Shown {
            snapshot: self.snapshots,
            runtime: self.index.runtime(uid),
        }
    }

    /// Passes the desired state of an owner, and its runtime in the registry, on to the controller.
    fn hand_over(&self, uid: &str) {
        if let Some(desired) = self.index.desired(uid) {
            self.controller.put(uid, desired, self.shown(uid));
        }
    }

    fn remove(&mut self, removal: &Removal, touched: &mut Touched) {
        let key = &removal.key;
        match removal.kind() {
            ObjectKind::Installation => {
                touched.desired.extend(self.index.remove_installation(key));
                self.controller.remove(key);
            }
            ObjectKind::Entry => {
                self.index.remove_entry(key);
                self.controller.remove(key);
            }
            ObjectKind::EntryRevision => self.index.remove_revision(key),
            ObjectKind::Runtime => {
                self.index.remove_runtime(key);
                touched.shown.insert(key.clone());
            }
            _ => {}
        }
    }
}

/// Puts an object into the index. The index always has the owners that have a reconciler.
fn take(index: &mut Index, controller: &Controller, object: WatchedObject, touched: &mut Touched) {
    match object.object {
        Some(Object::EntryRevision(revision)) => {
            let waiting = index.put_revision(object.key, revision);
            touched.desired.extend(waiting);
        }
        Some(Object::Entry(entry)) => {
            touched.desired.extend(index.put_entry(&entry));
            if entry.delete_time.is_some() && !controller.reconciles(&entry.uid) {
                touched.deleted.insert(Deleted::Entry(entry.uid));
            }
        }
        Some(Object::Installation(installation)) => {
            let uid = installation.uid.clone();
            let here = controller.reconciles(&uid);
            if installation.delete_time.is_some() && !here {
                touched.desired.extend(index.remove_installation(&uid));
                touched.deleted.insert(Deleted::Installation(uid));
                return;
            }
            touched.desired.extend(index.put_installation(installation, here));
        }
        Some(Object::Runtime(runtime)) => {
            touched.shown.insert(object.key.clone());
            index.put_runtime(object.key, runtime);
        }
        _ => {}
    }
}

impl Sink for Follower {
    fn snapshot_begin(&mut self) {
        self.coming = Coming::default();
    }

    async fn snapshot_objects(&mut self, objects: Vec<WatchedObject>) {
        let mut touched = Touched::default();
        for object in objects {
            take(&mut self.coming.index, &self.controller, object, &mut touched);
        }
        self.coming.deleted.append(&mut touched.deleted);
    }

    async fn snapshot_end(&mut self, _revision: i64) {
        let coming = std::mem::take(&mut self.coming);
        self.index = coming.index;
        self.controller.retain(|uid| self.index.has(uid));
        self.controller.retain_cleanups(&coming.deleted).await;
        self.snapshots += 1;
        for uid in self.index.owners() {
            self.hand_over(uid);
        }
        for deleted in coming.deleted {
            self.controller.clean_up(deleted);
        }
    }

    async fn changes(&mut self, _revision: i64, changes: Vec<Change>) {
        let mut touched = Touched::default();
        for change in changes {
            match change.change {
                Some(change::Change::Put(object)) => take(&mut self.index, &self.controller, object, &mut touched),
                Some(change::Change::Remove(removal)) => self.remove(&removal, &mut touched),
                None => {}
            }
        }
        for uid in &touched.desired {
            self.hand_over(uid);
        }
        for uid in &touched.shown {
            self.controller.show(uid, self.shown(uid));
        }
        for deleted in touched.deleted {
            self.controller.clean_up(deleted);
        }
    }

    fn connected(&mut self, connected: bool) {
        let readiness = match (connected, self.snapshots > 0) {
            (true, _) => Readiness::Ready,
            (false, true) => {
                Readiness::Degraded("the registry is unreachable; running servers are not affected".to_owned())
            }
            (false, false) => Readiness::NotReady("waiting for the registry's first snapshot".to_owned()),
        };
        self.readiness.send_if_modified(|r| {
            let changed = *r != readiness;
            *r = readiness;
            changed
        });
    }
}
