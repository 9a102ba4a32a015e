//! Requests that upstreams work on.

use std::sync::Arc;

use super::{target::Target, upstreams::Upstreams};

/// A request that an upstream works on. Where it ends without a reply, because nobody waits for one any more, the upstream is told: a connection
/// that is closed says nothing to a server.
pub(super) struct Pending {
    pub(super) upstreams: Upstreams,
    pub(super) target: Arc<Target>,
    id: u64,
    over: bool,
}

impl Pending {
    pub(super) fn new(upstreams: Upstreams, target: Arc<Target>, id: u64) -> Self {
        Self {
            upstreams,
            target,
            id,
            over: false,
        }
    }

    /// One that no client made: the upstream is told nothing when it ends.
    pub(super) fn not_to_be_cancelled(upstreams: Upstreams, target: Arc<Target>) -> Self {
        Self {
            upstreams,
            target,
            id: 0,
            over: true,
        }
    }

    /// The upstream is done with it.
    pub(super) fn settle(&mut self) {
        self.over = true;
    }

    /// Nobody waits any more.
    pub(super) fn cancel(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.upstreams.tell_cancelled(&self.target, self.id);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.cancel();
    }
}
