//! Requests in progress at upstreams.

use std::sync::Arc;

use super::{target::Target, upstreams::Upstreams};

/// A request in progress at an upstream. If it is dropped before the reply, the upstream is sent a cancellation: closing a
/// connection does not cancel a request in MCP.
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

    /// A request of the gateway's own, which is never cancelled.
    pub(super) fn not_to_be_cancelled(upstreams: Upstreams, target: Arc<Target>) -> Self {
        Self {
            upstreams,
            target,
            id: 0,
            over: true,
        }
    }

    /// The upstream has finished it.
    pub(super) fn settle(&mut self) {
        self.over = true;
    }

    /// Sends the cancellation, once.
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
