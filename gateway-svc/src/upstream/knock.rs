//! What an exchange with a server says about whether it is there, and the question whether it is.

use std::sync::Arc;

use super::{
    circuit::Trial,
    door::Tried,
    error::{Away, Failure, UpstreamError},
    pool::Body,
    post::{is_message, message},
    response::{Response, media_type},
    target::{Endpoint, Target, Whose},
    upstreams::Upstreams,
};

impl Upstreams {
    /// Takes into account what came of an exchange. How long the answer takes says nothing here: not all servers answer all that they are asked.
    pub(super) async fn learn(&self, target: &Target, exchanged: &Result<Response<Body>, UpstreamError>) {
        let (failure, why) = match exchanged {
            Ok(response) => match Failure::in_front(response.status()) {
                None => return self.inner.circuits.answered(target),
                // It may be the server's own, which shows when it is read: see `Upstreams::begin`.
                Some(_) if is_json(response) => return,
                Some(what) => (what, ""),
            },
            Err(UpstreamError::Unreachable(why)) => (Failure::Connect, &**why),
            Err(_) => return,
        };
        Box::pin(self.failed(target, failure, why)).await;
    }

    /// The server has failed. One that answers something is not given up, whatever it fails to do. What fails where no caller waits says nothing: many
    /// streams may break and be opened again while a server is started again, of which no call would have taken notice.
    pub(super) async fn failed(&self, target: &Target, what: Failure, why: &str) {
        if target.background || target.key.endpoint.hosted {
            return;
        }
        if self.inner.circuits.failed(target, what, why) {
            if what != Failure::Connect && self.is_there(target, what).await {
                self.inner.circuits.answered(target);
            } else {
                self.inner.circuits.give_up(target, what);
            }
        }
    }

    /// Makes an attempt for which no caller waits, again and again until it shows that the server of this target can be reached. Before each, it decides
    /// whether it is still to be made. If this is dropped, nobody waits for it. A self-hosted server may be elsewhere: there, one attempt is made.
    pub(crate) async fn once_reachable<T, F>(&self, target: &Target, attempt: impl Fn() -> F) -> Tried<T>
    where
        F: Future<Output = Tried<T>>,
    {
        if target.key.endpoint.hosted {
            return attempt().await;
        }
        self.inner.doors.of(target).through(attempt).await
    }

    /// Why requests to an installation's server are refused now, if they are: those of a caller who sends headers of their own, or of all others.
    pub(crate) fn away(
        &self,
        installation: &Arc<str>,
        endpoint: &Endpoint,
        whose: Option<&Whose>,
    ) -> Option<Box<Away>> {
        self.inner.circuits.refusal(installation, endpoint, whose)
    }

    /// Asks a server that was away whether it is there: a request that fails by itself would tell nothing.
    pub(super) async fn try_again(&self, target: &Target, trial: Trial) -> Result<(), UpstreamError> {
        if !self.is_there(target, trial.failure()).await {
            return Err(trial.failed());
        }
        self.inner.circuits.answered(target);
        Ok(())
    }

    /// Whether the server, which has failed so, answers anything to a ping. A refusal is an answer, too. Headers and credential are left out: what they
    /// alone come to says nothing to others. But a caller who sends their own asks for themselves, with these; and where no connection could be
    /// made, one is enough, since without them the server may not be reached.
    async fn is_there(&self, target: &Target, failed: Failure) -> bool {
        let own = target.whose.is_some();
        let connects = own && failed == Failure::Connect;
        let bare = target.bare();
        let target = if own && !connects { target } else { &bare };
        let ping = message(target, None, self.request("ping", b"", &[]).body);
        let within = self.limits().side_message;
        let exchanged = self.exchange_at_once(target, ping, within).await;
        let Ok(response) = exchanged else { return false };
        connects
            || Failure::in_front(response.status()).is_none()
            || is_json(&response) && is_message(&self.read_start(response.into_body()).await)
    }
}

fn is_json(response: &Response<Body>) -> bool {
    media_type(response.headers()) == "application/json"
}
