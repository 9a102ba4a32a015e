//! Sends requests to modern servers.

use std::time::Duration;

use service_kit::turns::in_place;

use super::request::{Speaker, prepare};
use crate::upstream::{
    error::UpstreamError,
    message::Outgoing,
    pool::Body,
    response::Response,
    session::Session,
    target::{Scope, Target},
    upstreams::Upstreams,
};

impl Upstreams {
    pub(in crate::upstream) async fn post_modern(
        &self,
        target: &Target,
        session: &Session,
        request: &Outgoing,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let level = match &target.key.scope {
            Scope::Client(client) => self.inner.levels.get(client),
            _ => None,
        };
        let speaker = Speaker {
            profile: self.profile(target),
            level: level.as_deref(),
        };
        let prepared = in_place(request.body.len(), || prepare(request, speaker)).await?;
        self.post_with(target, Some(session), prepared.headers, prepared.body, within)
            .await
    }
}
