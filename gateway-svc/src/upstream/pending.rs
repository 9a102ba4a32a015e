//! Requests in progress at upstreams.

use std::sync::Arc;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{message::Reply, subscribing::Subscribing, target::Target, upstreams::Upstreams};

/// A request in progress at an upstream. If it is dropped before the reply, the upstream is sent a cancellation: closing a
/// connection does not cancel a request in MCP.
pub(super) struct Pending {
    pub(super) upstreams: Upstreams,
    pub(super) target: Arc<Target>,
    id: u64,
    /// `None`: the upstream has nothing to be told.
    open: Option<TaskTrackerToken>,
    /// Where it subscribes its client to a resource that this has not subscribed to.
    pub(super) subscribing: Option<Box<Subscribing>>,
}

impl Pending {
    pub(super) fn new(upstreams: Upstreams, target: Arc<Target>, id: u64) -> Self {
        let open = Some(upstreams.inner.open.token());
        Self {
            upstreams,
            target,
            id,
            open,
            subscribing: None,
        }
    }

    /// A request of the gateway's own, which is never cancelled.
    pub(super) fn not_to_be_cancelled(upstreams: Upstreams, target: Arc<Target>) -> Self {
        Self {
            upstreams,
            target,
            id: 0,
            open: None,
            subscribing: None,
        }
    }

    /// The upstream has answered it; `None`: it has not received it.
    pub(super) fn answered(&mut self, reply: Option<&Reply>) {
        if let Some(subscribing) = self.subscribing.take() {
            subscribing.decide(reply.is_some_and(|reply| reply.result().is_some()));
        }
        self.settle();
    }

    /// The upstream has finished it.
    pub(super) fn settle(&mut self) {
        self.open = None;
    }

    /// Sends the cancellation, once.
    pub(super) fn cancel(&mut self) {
        if let Some(open) = self.open.take() {
            self.upstreams.tell_cancelled(&self.target, self.id, open);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.cancel();
    }
}
