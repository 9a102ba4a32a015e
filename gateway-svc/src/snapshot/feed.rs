//! Fills a [`Store`] from the watch.

use std::sync::Arc;

use contracts::registry::{Change, WatchedObject};
use registry_client::watch::Sink;
use tokio::sync::mpsc;

use super::{store::Store, writer::Writer};

/// Fills a [`Store`] from the watch, and sends discovery the installations that it should look at.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Arc<Store>,
    changed: mpsc::UnboundedSender<Arc<str>>,
    writer: Writer,
    /// The objects so far of a snapshot that is being received.
    coming: Option<Writer>,
}

impl Feed {
    /// Tells `changed` the uids of installations once their new state is in force.
    pub(crate) fn new(store: Arc<Store>, changed: mpsc::UnboundedSender<Arc<str>>) -> Self {
        Self {
            store,
            changed,
            writer: Writer::default(),
            coming: None,
        }
    }

    fn put_in_force(&mut self, revision: i64) {
        let (snapshot, installations) = self.writer.snapshot(revision);
        self.store.publish(snapshot, &self.writer.concerned());
        for uid in installations {
            // The receiver is gone: the service stops.
            let _ = self.changed.send(uid);
        }
    }
}

impl Sink for Feed {
    fn snapshot_begin(&mut self) {
        self.coming = Some(Writer::default());
    }

    async fn snapshot_objects(&mut self, objects: Vec<WatchedObject>) {
        if let Some(coming) = &mut self.coming {
            for object in objects {
                coming.put(object);
            }
        }
    }

    async fn snapshot_end(&mut self, revision: i64) {
        let Some(coming) = self.coming.take() else { return };
        let before = std::mem::replace(&mut self.writer, coming);
        self.put_in_force(revision);
        tracing::debug!(registry.revision = revision, "a snapshot of the registry is in force");
        // Freeing a whole snapshot takes time, which those who wait for the new one do not spend.
        drop(tokio::task::spawn_blocking(move || drop(before)));
    }

    async fn changes(&mut self, revision: i64, changes: Vec<Change>) {
        self.writer.apply(changes);
        self.put_in_force(revision);
    }

    fn connected(&mut self, connected: bool) {
        self.store.connected(connected);
    }
}
