//! One request to an upstream and its answer, in a session that is opened where there is none.

use std::{borrow::Cow, pin::pin, sync::Arc};

use service_kit::{cancel::Cancel, turns::off_thread};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{
    answer::{Answers, Started},
    client::Era,
    error::{Failure, UpstreamError},
    in_use::Used,
    message::{Message, Outgoing, Reply},
    messages::{Answer, Messages},
    modern::{
        names::FOLLOW_TASK,
        reply::{Judged, is_modern_refusal, judge},
        rounds::{First, Rounds},
    },
    pending::Pending,
    pool::Body,
    post::{Begun, mentions_session},
    session::{Session, is_subscription},
    subscribing::Subscribing,
    target::{Scope, Target},
    upstreams::Upstreams,
};
use crate::json::Object;

impl Upstreams {
    /// Sends a request and begins to read the answer. `cancel` ends it, and cancels it at the upstream.
    pub(crate) async fn call(
        &self,
        target: &Arc<Target>,
        request: Outgoing,
        cancel: Cancel,
    ) -> Result<Answer, UpstreamError> {
        let now = Instant::now();
        let deadline = now + self.inner.limits.total;
        let started = self.start(target, request, now, deadline, cancel.clone()).await?;
        let first = match started {
            Started::Whole {
                session,
                request,
                reply,
            } if session.is_newer_than(request.era) => {
                let (judged, length) = (reply.clone(), reply.result().map_or(0, |result| result.len()));
                match off_thread(length, || judge(judged))
                    .await
                    .map_err(|error| error.masked(target))?
                {
                    Judged::Complete(reply) => return Ok(Answer::Whole(reply)),
                    Judged::Asks(_) => First::Reply(Box::new(request), reply),
                }
            }
            Started::Whole { reply, .. } => return Ok(Answer::Whole(reply)),
            Started::Events(answers) if answers.is_for_older_client() => First::Stream(answers),
            Started::Events(answers) => return Ok(Answer::Stream(Messages::Plain(answers))),
        };
        let rounds = Rounds::new(self.clone(), Arc::clone(target), first, deadline, cancel);
        Ok(Answer::Stream(Messages::Rounds(Box::new(rounds))))
    }

    /// The same, for a call that may have further rounds.
    pub(super) async fn start(
        &self,
        target: &Arc<Target>,
        request: Outgoing,
        now: Instant,
        deadline: Instant,
        cancel: Cancel,
    ) -> Result<Started, UpstreamError> {
        let mut pending = Pending::new(self.clone(), Arc::clone(target), request.id);
        self.inner.tokens.remember(target, &request);
        let sent = {
            let sending = pin!(self.call_session(target, &request, now, deadline, &mut pending.subscribing));
            let sent = cancel.run_until_cancelled(sending).await;
            sent.ok_or(UpstreamError::Cancelled)?
        };
        match sent {
            Ok(Sent::Whole(session, reply)) => {
                pending.answered(Some(&reply));
                Ok(Started::Whole {
                    session,
                    request,
                    reply,
                })
            }
            Ok(Sent::Events(session, permit, body)) => Ok(Started::Events(Box::new(Answers::new(
                pending, session, request, body, deadline, cancel, permit,
            )))),
            Err(error) => {
                if !error.may_be_carried_out() {
                    pending.answered(None);
                }
                // A server that takes long may still be working on it.
                if !matches!(error, UpstreamError::Timeout { .. }) {
                    pending.settle();
                }
                Err(error.masked(target))
            }
        }
    }

    async fn call_session(
        &self,
        target: &Arc<Target>,
        request: &Outgoing,
        now: Instant,
        deadline: Instant,
        subscribing: &mut Option<Box<Subscribing>>,
    ) -> Result<Sent, UpstreamError> {
        let limits = &self.inner.limits;
        let mut renewed = false;
        let mut doubted: Option<(Era, Reply)> = None;
        loop {
            let Used { session, post } = self.in_use(target, now).await?;
            if let Some((era, refusal)) = doubted.take()
                && session.era == era
            {
                return Ok(Sent::Whole(session, refusal));
            }
            if !session.answers(&request.method) {
                return Err(UpstreamError::NotOffered);
            }
            if is_subscription(&request.method)
                && let Scope::Client(client) = &target.key.scope
            {
                let (subscribed, installation) = (&self.inner.subscribed, target.installation());
                // The gateway itself subscribes to nothing in a client's session.
                let caller = request.caller.clone().unwrap_or_default();
                if session.era == Era::Modern {
                    let answered = subscribed.answer(client, &caller, installation, request);
                    // What changes from the answer on, the client is told of.
                    if answered.result().is_some() && self.is_listened_to(client) {
                        subscribed.acknowledged(client, installation).await;
                    }
                    return Ok(Sent::Whole(session, answered));
                }
                // A session that takes the place of this one is to have them, too. What is not known is neither subscribed to again there, nor unsubscribed from
                // when the client listens no longer.
                if subscribing.is_none() {
                    match subscribed.begin(client, &caller, installation, request) {
                        Ok(claim) => *subscribing = claim.map(|claim| Box::new(Subscribing::new(self, target, claim))),
                        Err(refused) => return Ok(Sent::Whole(session, refused)),
                    }
                }
            }
            if &*request.method == FOLLOW_TASK {
                return Err(UpstreamError::NotOffered);
            }
            // Its stream asks for what all have subscribed to who share it.
            if session.subscribes(&request.method) {
                return Ok(Sent::Whole(session, Reply::of_result("{}")));
            }
            let mut within = limits.headers;
            if request.hears && session.era == Era::Legacy {
                session.stream_begun.wait().await;
                // Its answer may not begin before the client has answered what the server asks beside it.
                within += limits.idle;
            }
            let permit = match Arc::clone(&session.permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => Box::pin(self.permit(&session)).await?,
            };
            let response = match (session.era, &post) {
                (Era::Legacy, Some(post)) => self.post_prepared(target, post, &request.body, within).await,
                (Era::Legacy, None) => Box::pin(self.post(target, Some(&session), request.body.clone(), within)).await,
                (Era::Modern, _) => Box::pin(self.post_modern(target, &session, request, limits.headers)).await,
            };
            if let Err(UpstreamError::Timeout { .. }) = response {
                Box::pin(self.failed(target, Failure::Silence, "")).await;
            }
            match self.begin(target, response?, Some(&session)).await? {
                Begun::Json(body) => {
                    let text = self.read(body, deadline, target, request).await?;
                    let reply = reply(self.parse(text, target, request).await?)?;
                    return Ok(Sent::Whole(session, reply));
                }
                Begun::Refused(text) => {
                    let reply = reply(Message::parse(text, request, true)?)?;
                    if renewed || !is_of_other_era(&session, &reply) {
                        return Ok(Sent::Whole(session, reply));
                    }
                    // Only a server that speaks another era now has not processed it.
                    renewed = true;
                    self.inner.eras.invalidate(&target.key.endpoint);
                    Box::pin(self.forget(target, &session)).await;
                    doubted = Some((session.era, reply));
                }
                Begun::Events(body) => return Ok(Sent::Events(session, permit, body)),
                Begun::SessionDoubted(text, is_json)
                    if renewed
                        || !Box::pin(self.is_lost(target, &session, &text))
                            .await
                            .unwrap_or_default() =>
                {
                    if !is_json {
                        return Err(UpstreamError::invalid("HTTP 400"));
                    }
                    let reply = reply(Message::parse(text, request, true)?)?;
                    return Ok(Sent::Whole(session, reply));
                }
                Begun::SessionLost if renewed => {
                    return Err(UpstreamError::invalid("it loses its session at once"));
                }
                Begun::SessionLost | Begun::SessionDoubted(..) => {
                    // The server did not process the call, so it may be sent again.
                    renewed = true;
                    Box::pin(self.forget(target, &session)).await;
                }
            }
        }
    }

    /// Waits until another call may be in progress in this session.
    async fn permit(&self, session: &Session) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let within = self.inner.limits.headers;
        timeout(within, Arc::clone(&session.permits).acquire_owned())
            .await
            .map_err(|_| UpstreamError::Timeout {
                what: "finish earlier calls",
                within,
            })?
            .map_err(|_| UpstreamError::invalid("its session has ended"))
    }

    /// Whether a server that refuses a request with this text refuses everything in this session: then it has carried out nothing.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(super) async fn is_lost(
        &self,
        target: &Target,
        session: &Session,
        refusal: &[u8],
    ) -> Result<bool, UpstreamError> {
        Ok(match self.ping(target, session).await? {
            Some(Begun::SessionLost) => true,
            Some(Begun::SessionDoubted(text, _)) => said(&text) == said(refusal),
            _ => false,
        })
    }

    /// What a ping is answered with, if that can be used.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn ping(&self, target: &Target, session: &Session) -> Result<Option<Begun>, UpstreamError> {
        let ping = self.request("ping", b"", &[]);
        let within = self.inner.limits.side_message;
        match self.post(target, Some(session), ping.body, within).await {
            Ok(response) => Ok(self.begin(target, response, Some(session)).await.ok()),
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The session for this target, opened by the first call that requires it; the others wait for it.
    pub(super) async fn session(&self, target: &Arc<Target>) -> Result<Arc<Session>, UpstreamError> {
        Ok(self.in_use(target, Instant::now()).await?.session)
    }

    /// The same, with what is prepared for it.
    async fn in_use(&self, target: &Arc<Target>, now: Instant) -> Result<Used, UpstreamError> {
        if let Some(used) = target.in_use.get(now)
            && !used.session.is_outdated(self.inner.limits.discovered)
        {
            return Ok(used);
        }
        // The futures of the cache are large, and aligned to cache lines.
        let session = Box::pin(self.look_up(target)).await?;
        let post = self.prepare_post(target, &session).map(Arc::new);
        let used = Used { session, post };
        target.in_use.set(used.clone(), now);
        Ok(used)
    }

    async fn look_up(&self, target: &Arc<Target>) -> Result<Arc<Session>, UpstreamError> {
        if let Some(session) = self.inner.sessions.get(&target.key).await {
            if !session.is_outdated(self.inner.limits.discovered) {
                return Ok(session);
            }
            self.forget(target, &session).await;
        }
        // A session may be being opened that no caller waits for, which is not refused. A call that joins it would wait where it is to fail at once.
        if !target.background
            && let Some(away) = self.inner.circuits.turned_away(target)
        {
            return Err(away);
        }
        if let Scope::Client(client) = &target.key.scope {
            return self.own_session(client, target).await;
        }
        let open = Box::pin(self.open(target));
        let sessions = &self.inner.sessions;
        let opened = sessions.try_get_with_by_ref(&target.key, open).await;
        let session = opened.map_err(|error| (*error).clone())?;
        self.has_opened(target, &session).await;
        Ok(session)
    }

    pub(super) async fn forget(&self, target: &Target, lost: &Arc<Session>) {
        lost.set_forgotten();
        if let Some(current) = self.inner.sessions.get(&target.key).await
            && Arc::ptr_eq(&current, lost)
        {
            self.inner.sessions.invalidate(&target.key).await;
        }
    }
}

/// A request that was sent, and whose answer has begun.
enum Sent {
    Whole(Arc<Session>, Reply),
    Events(Arc<Session>, OwnedSemaphorePermit, Body),
}

/// What an error says, whichever request it answers.
fn said(text: &[u8]) -> Cow<'_, [u8]> {
    let error = std::str::from_utf8(text).ok().and_then(|text| {
        let object = Object::parse(text).ok()?;
        object.get("error").map(|error| error.as_bytes().to_vec())
    });
    error.map_or(text.into(), Cow::Owned)
}

fn reply(message: Message) -> Result<Reply, UpstreamError> {
    match message {
        Message::Reply(reply) => Ok(reply),
        _ => Err(UpstreamError::invalid("it is not an answer to the request")),
    }
}

/// Whether a refusal in this session looks as if the server spoke another era than it did.
fn is_of_other_era(session: &Session, reply: &Reply) -> bool {
    match session.era {
        Era::Legacy => is_modern_refusal(reply),
        Era::Modern => {
            let said = reply.refusal().unwrap_or_default();
            reply.code() == Some(-32022) || !is_modern_refusal(reply) && mentions_session(said.as_bytes())
        }
    }
}
