//! Where the calls of one client go, worked out once: as long as the registry says the same, they go there again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::Instant;

use crate::{
    domain::Running,
    resolve,
    snapshot::Snapshot,
    upstream::{Client, Revision, Target},
    vend::Vended,
};

/// Tools of which this is kept for one client, and installations. One who uses more begins again.
const TOOLS: usize = 32;
const SERVERS: usize = 32;

/// Where the calls of one client go by one gateway or agent, while one snapshot is in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Kept as little as possible of: it is only compared.
    snapshot: Weak<Snapshot>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tools: HashMap<Box<str>, (Arc<resolve::Target>, Arc<Server>)>,
    servers: Vec<Arc<Server>>,
}

/// What calls are sent with to the server of an installation, until that is to be vended again.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) revision: Revision,
    pub(super) running: Running,
    pub(super) vended: Arc<Vended>,
    pub(super) target: Arc<Target>,
}

impl Server {
    /// Whether these calls are sent with it at this moment.
    fn is_for(&self, client: &Client, revision: Revision, now: Instant) -> bool {
        self.client == *client && self.revision == revision && self.vended.until > now
    }
}

/// Where a call goes.
pub(super) struct Way {
    pub(super) to: Arc<resolve::Target>,
    /// What it is sent with, where that is known.
    pub(super) with: Option<Arc<Server>>,
    /// Whether further calls of the tool can go there.
    pub(super) lasts: bool,
}

impl Prepared {
    /// For a caller who was identified, and found to belong to the gateway or agent, by this snapshot.
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let snapshot = Arc::downgrade(snapshot);
        Self {
            snapshot,
            kept: Mutex::default(),
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
        let (to, server) = self.lock().tools.get(tool)?.clone();
        server.is_for(client, revision, Instant::now()).then(|| Way {
            to,
            with: Some(server),
            lasts: false,
        })
    }

    /// What calls to this installation are sent with, if that is known. It must be what an installation runs in the snapshot that this is of.
    pub(super) fn server(&self, running: &Running, client: &Client, revision: Revision) -> Option<Arc<Server>> {
        let kept = self.lock();
        let server = kept.servers.iter().find(|server| server.running.runs_as(running))?;
        server
            .is_for(client, revision, Instant::now())
            .then(|| Arc::clone(server))
    }

    /// Calls of this tool go there from now on, sent with that.
    pub(super) fn keep(&self, tool: &str, to: &Arc<resolve::Target>, server: Arc<Server>) {
        // These come with each request.
        if !to.consumer.passthrough_headers.is_empty() {
            return;
        }
        let mut kept = self.lock();
        if !kept.servers.iter().any(|known| Arc::ptr_eq(known, &server)) {
            kept.forget(&server.running);
            if kept.servers.len() == SERVERS {
                *kept = Kept::default();
            }
            kept.servers.push(Arc::clone(&server));
        }
        if kept.tools.len() == TOOLS && !kept.tools.contains_key(tool) {
            kept.tools.clear();
        }
        kept.tools.insert(tool.into(), (Arc::clone(to), server));
    }

    /// What calls to this installation were sent with was refused.
    pub(super) fn forget(&self, running: &Running) {
        self.lock().forget(running);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, running: &Running) {
        let is_other = |server: &Arc<Server>| server.running.installation.uid != running.installation.uid;
        self.servers.retain(is_other);
        self.tools.retain(|_, (_, server)| is_other(server));
    }
}
