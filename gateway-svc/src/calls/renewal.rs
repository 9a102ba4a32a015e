//! A newer credential for a call whose server asks its client first: meanwhile, the one that it began with may expire.

use std::sync::Arc;

use crate::{
    domain::{CallError, CallerToken, ConsumerRef, Links, Running},
    upstream::{Messages, UpstreamError},
    vend::{Generations, Refused, VendError, Vendor},
};

/// What draws it.
pub(super) struct Renewal {
    pub(super) vendor: Arc<Vendor>,
    pub(super) token: Option<Arc<CallerToken>>,
    pub(super) consumer: ConsumerRef,
    pub(super) links: Links,
    /// Of the credentials that the call began with; `None`: they were renewed.
    pub(super) generations: Option<Generations>,
}

impl Renewal {
    /// Whether that was it, and the request is sent again.
    pub(super) async fn mends(
        &mut self,
        error: &UpstreamError,
        messages: &mut Messages,
        running: &Running,
    ) -> Result<bool, CallError> {
        let (Messages::Rounds(rounds), UpstreamError::Unauthorized) = (messages, error) else {
            return Ok(false);
        };
        let fail = |error: VendError| error.into_call_error(running, &self.consumer, &self.links);
        let generations = self.generations.ok_or_else(|| fail(VendError::Expired))?;
        let refused = Some(Refused::Credential(generations));
        let vended = self
            .vendor
            .headers(running, self.token.as_deref(), refused)
            .await
            .map_err(fail)?;
        self.generations = None;
        rounds.renew(&vended.headers);
        Ok(true)
    }
}
