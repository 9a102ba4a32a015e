//! A client's request to subscribe to a resource in a session of its own, until its server has answered.

use std::sync::Arc;

use super::{subscribed::Claim, target::Target, upstreams::Upstreams};

/// A request to subscribe that is under way. Its client counts as subscribed, so that a session that takes the place of this one has it, too. Dropped
/// before the answer, the client has not subscribed; the request may have arrived all the same, so the server is told.
pub(super) struct Subscribing {
    upstreams: Upstreams,
    target: Arc<Target>,
    /// `None`: it is decided.
    claim: Option<Claim>,
}

impl Subscribing {
    pub(super) fn new(upstreams: &Upstreams, target: &Arc<Target>, claim: Claim) -> Self {
        Self {
            upstreams: upstreams.clone(),
            target: Arc::clone(target),
            claim: Some(claim),
        }
    }

    /// The server has agreed; or it has refused, or not received the request.
    pub(super) fn decide(mut self, agreed: bool) {
        match self.claim.take() {
            Some(claim) if agreed => claim.keep(),
            Some(claim) => drop(claim.withdraw()),
            None => {}
        }
    }
}

impl Drop for Subscribing {
    fn drop(&mut self) {
        let Some(uri) = self.claim.take().and_then(Claim::withdraw) else {
            return;
        };
        let (upstreams, target) = (self.upstreams.clone(), Arc::clone(&self.target));
        self.upstreams.in_background(async move {
            if let (Some(client), Some(session)) = (target.client(), upstreams.inner.sessions.get(&target.key).await) {
                upstreams.end_subscription(client, &uri, &target, &session).await;
            }
        });
    }
}
