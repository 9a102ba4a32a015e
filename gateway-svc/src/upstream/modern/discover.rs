//! `server/discover`: whether a server speaks 2026-07-28, and what it offers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    names::REVISION,
    reply::{is_modern_refusal, names, supports},
};
use crate::{
    json::Object,
    upstream::{
        error::UpstreamError,
        message::Reply,
        session::{Offers, Session},
        target::Target,
        upstreams::Upstreams,
    },
};

/// What a server's answer says.
#[derive(Debug)]
pub(in crate::upstream) enum Found {
    /// It speaks 2026-07-28.
    Modern(Arc<Session>),
    /// It does not.
    Legacy,
    /// It gives no answer that can be read, as servers of older revisions do before `initialize`, and others that are at fault.
    Unknown(UpstreamError),
}

impl Upstreams {
    /// Asks a server. An error: it did not get the question, or refuses the credential, so that nothing is known.
    pub(in crate::upstream) async fn discover(
        &self,
        target: &Arc<Target>,
        within: Duration,
    ) -> Result<Found, UpstreamError> {
        let session = Session::modern(Offers::ALL, Arc::new(Semaphore::new(self.limits().concurrency)));
        let asked = async {
            let deadline = Instant::now() + within;
            let request = self.request("server/discover", b"", &[]);
            let response = self.post_modern(target, &session, &request, within).await?;
            self.only_reply(target, request, response, deadline).await
        };
        match timeout(within, asked).await {
            Ok(Ok(reply)) => Ok(match offers(&reply) {
                Some(offers) => {
                    tracing::debug!(installation.uid = %target.installation(), "the upstream speaks {REVISION}");
                    Found::Modern(Arc::new(Session { offers, ..session }))
                }
                None => Found::Legacy,
            }),
            Ok(Err(
                error @ (UpstreamError::Unauthorized
                | UpstreamError::InsufficientScope { .. }
                | UpstreamError::Unreachable(_)
                | UpstreamError::Away(_)
                | UpstreamError::NotTaken
                | UpstreamError::TooManyRequests
                | UpstreamError::Full
                | UpstreamError::ShareUsed),
            )) => Err(error),
            Ok(Err(error)) => Ok(Found::Unknown(error)),
            Err(_) => Ok(Found::Unknown(UpstreamError::Timeout {
                what: "answer server/discover",
                within,
            })),
        }
    }
}

/// What a server offers that speaks 2026-07-28; `None`: it does not.
fn offers(reply: &Reply) -> Option<Offers> {
    let Some(result) = reply.result() else {
        // With -32022 it may support revisions between that and the older ones alone.
        let speaks = is_modern_refusal(reply) && (reply.code() != Some(-32022) || supports(reply, REVISION).ok()?);
        return speaks.then_some(Offers::ALL);
    };
    let result = Object::parse(std::str::from_utf8(&result).ok()?).ok()?;
    let speaks = names(result.get("supportedVersions"), REVISION).ok()?;
    speaks.then(|| Offers::of(&result))
}
