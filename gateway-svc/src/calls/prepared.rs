//! Where the calls of one client go, worked out once: as long as the registry says the same, they go there again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::time::Instant;

use crate::{
    resolve,
    snapshot::Snapshot,
    upstream::{Client, Revision, Target},
    vend::Vended,
};

/// Tools of which this is kept for one client. One who uses more begins again.
const TOOLS: usize = 128;

/// Where the calls of one client go by one gateway or agent, while one snapshot is in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Kept as little as possible of: it is only compared.
    snapshot: Weak<Snapshot>,
    ready: Mutex<HashMap<Box<str>, Arc<Ready>>>,
}

/// Where calls of one tool go, until what they are sent with is to be vended again.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) client: Client,
    pub(super) revision: Revision,
    pub(super) to: Arc<resolve::Target>,
    pub(super) vended: Arc<Vended>,
    pub(super) target: Arc<Target>,
}

/// Where a call goes.
pub(super) struct Way {
    pub(super) to: Arc<resolve::Target>,
    /// What it is sent with, where that is known.
    pub(super) with: Option<Arc<Ready>>,
    /// Whether further calls of the client can go there.
    pub(super) lasts: bool,
}

impl Prepared {
    /// For a caller who was identified, and found to belong to the gateway or agent, by this snapshot.
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let snapshot = Arc::downgrade(snapshot);
        Self {
            snapshot,
            ready: Mutex::default(),
        }
    }

    /// Whether it is of this snapshot.
    pub(crate) fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        // What a weak reference points to is not used again for another.
        std::ptr::eq(self.snapshot.as_ptr(), Arc::as_ptr(snapshot))
    }

    /// Where calls of this tool go, if that is known.
    pub(super) fn find(
        &self,
        tool: &str,
        client: &Client,
        revision: Revision,
        snapshot: &Arc<Snapshot>,
    ) -> Option<Way> {
        if !self.is_of(snapshot) {
            return None;
        }
        let ready = Arc::clone(self.lock().get(tool)?);
        let is_its_own = ready.client == *client && ready.revision == revision;
        (is_its_own && ready.vended.until > Instant::now()).then(|| Way {
            to: Arc::clone(&ready.to),
            with: Some(ready),
            lasts: false,
        })
    }

    /// Calls of this tool go there from now on.
    pub(super) fn keep(&self, tool: &str, ready: Ready) {
        // These come with each request.
        if !ready.to.consumer.passthrough_headers.is_empty() {
            return;
        }
        let mut kept = self.lock();
        if kept.len() == TOOLS && !kept.contains_key(tool) {
            kept.clear();
        }
        kept.insert(tool.into(), Arc::new(ready));
    }

    /// What calls of this tool were sent with was refused.
    pub(super) fn forget(&self, tool: &str) {
        self.lock().remove(tool);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<Ready>>> {
        // Nothing panics between two changes that belong together.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
