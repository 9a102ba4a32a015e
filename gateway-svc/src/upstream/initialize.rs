//! Opens sessions with upstreams.

use std::sync::Arc;

use http::HeaderValue;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    answer::{Answers, Event, rest},
    challenge,
    error::{Failure, UpstreamError},
    message::{Message, Outgoing, Reply},
    pending::Pending,
    pool::Body,
    post::Begun,
    response::Response,
    session::{Offers, Session},
    target::{Revision, Target},
    upstreams::Upstreams,
};
use crate::json::Object;

const MAX_SESSION_ID: usize = 1024;

impl Upstreams {
    pub(super) async fn initialize(&self, target: &Arc<Target>) -> Result<Arc<Session>, UpstreamError> {
        let within = self.limits().initialize;
        let mut given = None;
        let shaken = timeout(within, self.handshake(target, &mut given)).await;
        let shaken = shaken.unwrap_or(Err(UpstreamError::Timeout {
            what: "answer initialize",
            within,
        }));
        if matches!(shaken, Err(UpstreamError::Timeout { .. })) {
            Box::pin(self.failed(target, Failure::Silence, "")).await;
        }
        if let Some(id) = given.filter(|_| shaken.is_err()) {
            // Nobody will use it, and it may have a process of its own.
            let (this, target) = (self.clone(), Arc::clone(target));
            tokio::spawn(async move {
                let session = Session::new(Some(id), Arc::new(Semaphore::new(0)));
                this.end_session(&target.key, target.headers.clone(), &session).await;
            });
        }
        match shaken {
            // The call was not sent: it can go to the server's successor.
            Err(UpstreamError::RuntimeEnded) => Err(UpstreamError::Unreachable("its runtime ended".to_owned())),
            Ok(session) => {
                tracing::debug!(installation.uid = %target.installation(), mcp.session = session.id.is_some(), "initialized the upstream");
                Ok(session)
            }
            Err(error) => Err(error),
        }
    }

    /// `given` is set to the id of the session, also if the rest fails.
    async fn handshake(
        &self,
        target: &Arc<Target>,
        given: &mut Option<HeaderValue>,
    ) -> Result<Arc<Session>, UpstreamError> {
        let limits = self.limits();
        let deadline = Instant::now() + limits.initialize;
        let profile = self.profile(target);
        let (capabilities, info) = (profile.capabilities(), profile.info());
        let revision = target.key.revision.as_str();
        let params = format!(r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{info}}}"#);
        let request = self.request("initialize", params.as_bytes(), &[]);
        let response = self.post(target, None, request.body.clone(), limits.initialize).await?;
        let id = response.headers().get("mcp-session-id").cloned();
        if id
            .as_ref()
            .is_some_and(|id| id.len() > MAX_SESSION_ID || id.to_str().is_err())
        {
            return Err(UpstreamError::invalid("its session id cannot be used"));
        }
        given.clone_from(&id);
        let mut session = Session::new(id, Arc::new(Semaphore::new(limits.concurrency)));
        let reply = self.only_reply(target, request, response, deadline).await?;
        (session.version, session.offers) = agreed(&reply, target)?;
        let session = Arc::new(session);
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let response = self
            .post(target, Some(&session), initialized.into(), limits.initialize)
            .await?;
        if let Some(error) = challenge::refusal(&response) {
            return Err(error);
        }
        rest::read(response.into_body());
        Ok(session)
    }

    /// Reads the answer to a request that belongs to no session.
    pub(super) async fn only_reply(
        &self,
        target: &Arc<Target>,
        request: Outgoing,
        response: Response<Body>,
        deadline: Instant,
    ) -> Result<Reply, UpstreamError> {
        let message = match self.begin(target, response, None).await? {
            Begun::Json(body) => {
                let text = self.read(body, deadline, target, &request).await?;
                self.parse(text, target, &request).await?
            }
            Begun::Refused(text) => Message::parse(text, &request, true)?,
            Begun::Events(body) => return self.last_reply(target, request, body, deadline).await,
            Begun::SessionLost | Begun::SessionDoubted(..) => Message::Nothing,
        };
        match message {
            Message::Reply(reply) => Ok(reply),
            _ => Err(UpstreamError::invalid(format!("it does not answer {}", request.method))),
        }
    }

    async fn last_reply(
        &self,
        target: &Arc<Target>,
        request: Outgoing,
        body: Body,
        deadline: Instant,
    ) -> Result<Reply, UpstreamError> {
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits)
            .try_acquire_owned()
            .map_err(|_| UpstreamError::Cancelled)?;
        let session = Arc::new(Session::new(None, permits));
        let stop = service_kit::cancel::Cancel::default();
        let pending = Pending::not_to_be_cancelled(self.clone(), Arc::clone(target));
        let mut answers = Answers::new(pending, session, request, body, deadline, stop, permit);
        loop {
            if let Event::Reply(reply) = answers.next().await? {
                return Ok(reply);
            }
        }
    }
}

/// The version header for the revision that the upstream chose, and what it offers.
fn agreed(reply: &Reply, target: &Target) -> Result<(Option<HeaderValue>, Offers), UpstreamError> {
    if let Some(said) = reply.refusal() {
        let said = shorten(&said, target);
        return Err(UpstreamError::invalid(format!("it refuses initialize: {said}")));
    }
    let result = reply.result().unwrap_or_default();
    let text = std::str::from_utf8(&result).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let result = Object::parse(text)?;
    let version = result.string("protocolVersion");
    let header = match version.as_deref() {
        // This revision has no such header; servers that answer it here speak streamable HTTP all the same.
        Some("2024-11-05") => Ok(None),
        Some(version) => match Revision::parse(version) {
            Some(Revision::V2025_03_26) => Ok(None),
            Some(revision) => Ok(Some(HeaderValue::from_static(revision.as_str()))),
            None => Err(UpstreamError::invalid(format!(
                "it speaks revision {}, which is not supported",
                shorten(version, target)
            ))),
        },
        None => Err(UpstreamError::invalid(
            "its answer to initialize names no protocolVersion",
        )),
    };
    Ok((header?, Offers::of(&result)))
}

/// Limits what a server adds to logs and errors. Secrets are masked first, since a part of a secret is one, too.
fn shorten(text: &str, target: &Target) -> String {
    target.masked(text).chars().take(200).collect()
}
