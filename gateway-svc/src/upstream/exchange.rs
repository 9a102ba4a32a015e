//! One request to an upstream and its answer, in a session that is opened where there is none.

use std::sync::Arc;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Answers},
    error::UpstreamError,
    message::{Message, Outgoing},
    pending::Pending,
    pool::Body,
    post::Begun,
    session::Session,
    target::{Scope, Target},
    upstreams::Upstreams,
};

impl Upstreams {
    /// Sends a request and begins to read the answer. `cancel` ends it, and cancels it at the upstream.
    pub(crate) async fn call(
        &self,
        target: &Arc<Target>,
        request: Outgoing,
        cancel: CancellationToken,
    ) -> Result<Answer, UpstreamError> {
        let deadline = Instant::now() + self.inner.limits.total;
        let mut pending = Pending::new(self.clone(), Arc::clone(target), request.id);
        let answer = tokio::select! {
            answer = self.call_session(target, &request, deadline) => answer,
            () = cancel.cancelled() => return Err(UpstreamError::Cancelled),
        };
        match answer {
            Ok(Started::Whole(message)) => {
                pending.settle();
                Ok(message)
            }
            Ok(Started::Events(session, permit, body)) => Ok(Answer::Stream(Box::new(Answers::new(
                pending, session, request, body, deadline, cancel, permit,
            )))),
            Err(error) => {
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
        deadline: Instant,
    ) -> Result<Started, UpstreamError> {
        let limits = &self.inner.limits;
        let mut renewed = false;
        loop {
            let session = self.session(target).await?;
            if !session.offers.answers(&request.method) {
                return Err(UpstreamError::NotOffered);
            }
            let permit = timeout(limits.headers, Arc::clone(&session.permits).acquire_owned())
                .await
                .map_err(|_| UpstreamError::Timeout {
                    what: "finish earlier calls",
                    within: limits.headers,
                })?
                .map_err(|_| UpstreamError::invalid("its session has ended"))?;
            let response = self
                .post(target, Some(&session), request.body.clone(), limits.headers)
                .await?;
            match self.begin(response, Some(&session)).await? {
                Begun::Json(body) => {
                    let text = self.read(body, deadline, target, request).await?;
                    return whole(self.parse(text, target, request).await?);
                }
                Begun::Refused(text) => return whole(Message::parse(text, request, true)?),
                Begun::Events(body) => return Ok(Started::Events(session, permit, body)),
                Begun::SessionLost if renewed => {
                    return Err(UpstreamError::invalid("it loses its session at once"));
                }
                Begun::SessionLost => {
                    // The server did not process the call, so it may be sent again.
                    renewed = true;
                    self.forget(target, &session).await;
                }
            }
        }
    }

    /// The session for this target, initialized by the first call that requires it; the others wait for it.
    async fn session(&self, target: &Arc<Target>) -> Result<Arc<Session>, UpstreamError> {
        if let Some(session) = self.inner.sessions.get(&target.key).await {
            return Ok(session);
        }
        if let Scope::Client(client) = &target.key.scope {
            return self.own_session(client, target).await;
        }
        let initialize = Box::pin(self.initialize(target));
        self.inner
            .sessions
            .try_get_with_by_ref(&target.key, initialize)
            .await
            .map_err(|error| (*error).clone())
    }

    async fn forget(&self, target: &Target, lost: &Arc<Session>) {
        if let Some(current) = self.inner.sessions.get(&target.key).await
            && Arc::ptr_eq(&current, lost)
        {
            self.inner.sessions.invalidate(&target.key).await;
        }
    }
}

/// An answer that has begun.
enum Started {
    Whole(Answer),
    Events(Arc<Session>, tokio::sync::OwnedSemaphorePermit, Body),
}

fn whole(message: Message) -> Result<Started, UpstreamError> {
    match message {
        Message::Reply(reply) => Ok(Started::Whole(Answer::Whole(reply))),
        _ => Err(UpstreamError::invalid("it is not an answer to the request")),
    }
}
