//! The stream on which a server speaks outside the answers to calls: a GET of the session, or `subscriptions/listen` since 2026-07-28.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use service_kit::cancel::Cancel;
use tokio::{
    select,
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    answer::Answers,
    client::{Client, Era},
    error::UpstreamError,
    heard::Heard,
    message::Outgoing,
    modern::names::LISTEN,
    open_session::OpenSession,
    pending::Pending,
    pool::Body,
    post::Begun,
    session::Session,
    subscribed::{Own, Topics, wanted},
    target::{Scope, Target},
    upstreams::Upstreams,
};

/// As good as for ever.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A stream that stays open.
#[derive(Debug)]
pub(crate) struct Standing {
    answers: Answers,
    /// Of a modern server.
    subscription: Option<Subscription>,
}

/// Which resources and tasks the stream of a modern server tells of.
#[derive(Debug)]
struct Subscription {
    own: Arc<Own>,
    topics: watch::Receiver<Topics>,
    /// Those that were asked for.
    asked: Topics,
}

impl Upstreams {
    /// The sessions of this client.
    pub(crate) fn sessions_of(&self, client: &Client) -> Vec<OpenSession> {
        self.inner.by_client.sessions(client)
    }

    /// Lets the session of this target live on while somebody listens.
    pub(crate) async fn touch(&self, target: &Target) {
        self.inner.sessions.get(&target.key).await;
        if let Scope::Client(client) = &target.key.scope {
            self.inner.subscribed.touch(client, target.installation());
        }
    }

    /// Opens the stream of a session, for no caller, with the headers of this target; `None`: the server has none, or has lost the session, which then says so.
    pub(crate) async fn stand(
        &self,
        open: &OpenSession,
        target: &Arc<Target>,
    ) -> Result<Option<Standing>, UpstreamError> {
        let session = &open.session;
        if session.era == Era::Legacy {
            let target = &target.in_background();
            let request = self.request("", b"", &[]);
            let opened = self.standing_body(target, session, None).await;
            session.stream_begun.set();
            return Ok(opened?.map(|body| self.standing(target, session, request, body, None)));
        }
        let Scope::Client(client) = &target.key.scope else {
            return Ok(None);
        };
        let own = self.inner.subscribed.of(client, target.installation());
        self.stand_for(target, session, own).await
    }

    /// Opens the stream of a modern server, for these resources and tasks.
    pub(super) async fn stand_for(
        &self,
        target: &Arc<Target>,
        session: &Arc<Session>,
        own: Arc<Own>,
    ) -> Result<Option<Standing>, UpstreamError> {
        let target = &target.in_background();
        let mut subscription = Subscription {
            topics: own.watch(),
            own,
            asked: Topics::default(),
        };
        let opened = self.subscribe(target, session, &mut subscription).await?;
        Ok(opened.map(|(request, body)| self.standing(target, session, request, body, Some(subscription))))
    }

    async fn subscribe(
        &self,
        target: &Arc<Target>,
        session: &Session,
        subscription: &mut Subscription,
    ) -> Result<Option<(Outgoing, Body)>, UpstreamError> {
        subscription.asked = subscription.topics.borrow_and_update().clone();
        let params = wanted(&subscription.asked);
        let request = self.request(LISTEN, &params, &[]);
        let body = self.standing_body(target, session, Some(&request)).await?;
        Ok(body.map(|body| (request, body)))
    }

    /// With a request: by POST, else by GET.
    async fn standing_body(
        &self,
        target: &Target,
        session: &Session,
        request: Option<&Outgoing>,
    ) -> Result<Option<Body>, UpstreamError> {
        let within = self.limits().headers;
        let response = match request {
            Some(request) => self.post_modern(target, session, request, within).await?,
            None => self.open_stream(target, session, None).await?,
        };
        let status = response.status();
        // To the server, the one before may still be open.
        if status == StatusCode::CONFLICT {
            return Err(UpstreamError::invalid("HTTP 409"));
        }
        let refusal = match self.begin(target, response, Some(session)).await {
            Ok(Begun::Events(body)) => return Ok(Some(body)),
            Ok(Begun::SessionLost) => Bytes::new(),
            Ok(Begun::SessionDoubted(text, _)) => text,
            Ok(Begun::Refused(_)) if is_for_a_while(status) => {
                return Err(UpstreamError::invalid(format!("HTTP {}", status.as_u16())));
            }
            // The server has no such stream, or the client may not have it.
            Ok(Begun::Json(_) | Begun::Refused(_)) => return Ok(None),
            Err(_) if status.is_client_error() && !is_for_a_while(status) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Or it has lost the session, if it refuses everything else there, too.
        if self.is_lost(target, session, &refusal).await? {
            let _ = session.lost.set(());
        }
        Ok(None)
    }

    fn standing(
        &self,
        target: &Arc<Target>,
        session: &Arc<Session>,
        request: Outgoing,
        body: Body,
        subscription: Option<Subscription>,
    ) -> Standing {
        let pending = Pending::not_to_be_cancelled(self.clone(), Arc::clone(target));
        let never = (Instant::now() + YEAR, Cancel::default());
        // It is no call, and takes none of their permits.
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let permit = permit.expect("a new semaphore has its permit");
        let answers = Answers::new(pending, Arc::clone(session), request, body, never.0, never.1, permit);
        Standing {
            answers: answers.standing(),
            subscription,
        }
    }
}

/// What is tried again, or with another credential.
fn is_for_a_while(status: StatusCode) -> bool {
    let refused = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    refused || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

impl Drop for Standing {
    fn drop(&mut self) {
        let (_, _, session) = self.answers.whose();
        session.stream_begun.end();
    }
}

impl Standing {
    /// The next that the server says. Fails when the stream ends. Nothing is lost if this is dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Result<Heard, UpstreamError> {
        loop {
            let other = async {
                match &mut self.subscription {
                    Some(subscription) => subscription.topics.changed().await,
                    None => std::future::pending().await,
                }
            };
            select! {
                event = self.answers.next() => {
                    let event = event?;
                    self.answers.forget_length();
                    // The first message acknowledges it.
                    if let Some(Subscription { own, asked, .. }) = &self.subscription {
                        own.acknowledge(asked);
                    }
                    let (target, is_over) = (self.answers.target(), event.is_reply());
                    match Heard::of(event, target.installation()) {
                        Some(heard) => return Ok(heard),
                        None if is_over => return Err(UpstreamError::invalid("it ended the subscription")),
                        None => {}
                    }
                }
                changed = other => match changed {
                    Ok(()) => self.subscribe_anew().await?,
                    // The client has been forgotten.
                    Err(_) => self.subscription = None,
                },
            }
        }
    }

    /// Opens a stream for other resources, and only then closes this one.
    async fn subscribe_anew(&mut self) -> Result<(), UpstreamError> {
        let (upstreams, target, session) = self.answers.whose();
        let Some(mut subscription) = self.subscription.take() else {
            return Ok(());
        };
        let opened = upstreams.subscribe(&target, &session, &mut subscription).await?;
        let (request, body) = opened.ok_or_else(|| UpstreamError::invalid("it refuses the subscription"))?;
        *self = upstreams.standing(&target, &session, request, body, Some(subscription));
        Ok(())
    }
}
