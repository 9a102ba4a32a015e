//! Calls of clients without a session at servers with sessions, which may ask on the stream that a client with a session would hold open.
//!
//! While such a call runs, and a while after it, the stream of its session is received.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use service_kit::{cancel::Cancel, per_caller::PerCaller};
use tokio::{
    select,
    sync::{Semaphore, watch},
    time::sleep,
};

use super::{
    Call, Calls,
    during::{InSession, Line, Said},
    listeners::Listeners,
    listening::receive,
};
use crate::upstream::{Answer, Client, Messages, Outgoing, SessionKey, Target, UpstreamError, Upstreams};

/// In the course of these, clients of 2026-07-28 can be asked.
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// How long a stream is kept after the last call of its session.
const KEPT: Duration = Duration::from_secs(60);
/// So many streams are kept without a call, of one caller and in all.
const KEPT_EACH: usize = 64;
const KEPT_IN_ALL: usize = 4096;

/// The streams that are kept without a call.
pub(super) struct IdleStreams {
    each: PerCaller,
    all: Semaphore,
}

impl Default for IdleStreams {
    fn default() -> Self {
        Self {
            each: PerCaller::new(KEPT_EACH),
            all: Semaphore::new(KEPT_IN_ALL),
        }
    }
}

/// A call that is told what its server says beside the answer, until this is dropped.
pub(super) struct Hearing {
    listeners: Arc<Listeners>,
    client: Client,
    key: SessionKey,
    line: Arc<Line>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.listeners.end_call(&self.client, &self.key, &self.line);
    }
}

impl Hearing {
    /// The next that the server says. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&self) -> Said {
        self.line.next().await
    }

    /// What is said for the call.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Sends the request. A server that says something for this call works on it, and may begin its answer only when it has been answered itself.
    pub(super) async fn call(
        &self,
        upstreams: Upstreams,
        target: Arc<Target>,
        request: Outgoing,
        cancel: Cancel,
    ) -> Result<Answer, UpstreamError> {
        let mut coming: BoxFuture<'static, _> =
            Box::pin(async move { upstreams.call(&target, request.hearing(), cancel).await });
        select! {
            biased;
            answer = &mut coming => match answer? {
                // It comes behind what was said before.
                whole @ Answer::Whole(_) if !self.line.is_empty() => {
                    let whole = Box::pin(std::future::ready(Ok(whole)));
                    Ok(Answer::Stream(Messages::Awaited(whole)))
                }
                answer => Ok(answer),
            },
            () = self.line.addressed() => Ok(Answer::Stream(Messages::Awaited(coming))),
        }
    }
}

impl Calls {
    /// Receives what the server of this target says during the call; `None`: nothing that is for this client.
    pub(super) fn hear_during(
        self: &Arc<Self>,
        call: &Call<'_>,
        target: &Arc<Target>,
        request: &Outgoing,
    ) -> Option<Hearing> {
        let client = target
            .client()
            .filter(|client| matches!(client, Client::Stateless { .. }))?;
        if !ASKING.contains(&call.method) || self.upstreams.has_no_sessions(target) {
            return None;
        }
        let line = Arc::new(Line::new(request.progress_token()));
        if self.listeners.begin_call(client, target.key(), &line) {
            let (calls, client) = (Arc::clone(self), client.clone());
            self.upstreams.in_background(keep(calls, client, Arc::clone(target)));
        }
        Some(Hearing {
            listeners: Arc::clone(&self.listeners),
            client: client.clone(),
            key: target.key().clone(),
            line,
        })
    }
}

/// Receives the session of this target until no call has run in it for long.
async fn keep(calls: Arc<Calls>, client: Client, target: Arc<Target>) {
    let known = |known: &InSession| (Arc::clone(&known.wake), known.running());
    let Some((wake, mut running)) = calls.listeners.calls(&client, target.key(), known) else {
        return;
    };
    loop {
        select! {
            () = calls.stop.cancelled() => return,
            () = wake.notified() => {
                for (ear, mut session) in calls.ears(&client) {
                    if session.key() == target.key() {
                        session.target = Arc::clone(&target);
                    }
                    calls.upstreams.in_background(receive(Arc::clone(&calls), ear, session));
                }
            }
            () = idle(&calls.idle, &client, &mut running) => {
                if calls.listeners.forget_calls(&client, target.key()) {
                    return;
                }
            }
        }
    }
}

/// Waits until no call runs, and none has begun for a while.
async fn idle(streams: &IdleStreams, client: &Client, running: &mut watch::Receiver<usize>) {
    loop {
        if running.wait_for(|running| *running == 0).await.is_err() {
            return;
        }
        let Client::Stateless { subject, .. } = client else {
            return;
        };
        let (Ok(_own), Ok(_place)) = (streams.each.of(subject).try_acquire_owned(), streams.all.try_acquire()) else {
            return;
        };
        select! {
            () = sleep(KEPT) => return,
            _ = running.changed() => {}
        }
    }
}
