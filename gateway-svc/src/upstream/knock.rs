//! What an exchange with a server says about whether it is there, and the question whether it is.

use http::{Response, StatusCode};

use super::{
    circuit::Trial,
    error::{Failure, UpstreamError},
    pool::Body,
    post::{media_type, message},
    target::Target,
    upstreams::Upstreams,
};

impl Upstreams {
    /// Takes into account what came of an exchange. How long the answer takes says nothing here: not all servers answer all that they are asked.
    pub(super) async fn learn(&self, target: &Target, exchanged: &Result<Response<Body>, UpstreamError>) {
        let (failure, why) = match exchanged {
            Ok(response) => match gateway_status(response) {
                None => return self.inner.circuits.answered(target),
                Some(status) => (Failure::Gateway(status), ""),
            },
            Err(UpstreamError::Unreachable(why)) => (Failure::Connect, &**why),
            Err(_) => return,
        };
        Box::pin(self.failed(target, failure, why)).await;
    }

    /// The server has failed. One that answers something is not given up, whatever it fails to do.
    pub(super) async fn failed(&self, target: &Target, what: Failure, why: &str) {
        if !target.key.endpoint.hosted && self.inner.circuits.failed(target, what, why) {
            if what != Failure::Connect && self.is_there(target).await {
                self.inner.circuits.answered(target);
            } else {
                self.inner.circuits.give_up(target);
            }
        }
    }

    /// Asks a server that was away whether it is there: a request that fails by itself would tell nothing.
    pub(super) async fn try_again(&self, target: &Target, trial: Trial) -> Result<(), UpstreamError> {
        if !self.is_there(target).await {
            return Err(trial.failed());
        }
        self.inner.circuits.answered(target);
        Ok(())
    }

    /// Whether the server answers anything to a ping. A refusal is an answer, too. The caller's headers and credential are left out: what they alone
    /// come to says nothing to others.
    async fn is_there(&self, target: &Target) -> bool {
        let target = &target.bare();
        let ping = message(target, None, self.request("ping", b"", &[]).body);
        let within = self.limits().side_message;
        let exchanged = self.exchange_at_once(target, ping, within).await;
        exchanged.is_ok_and(|response| gateway_status(&response).is_none())
    }
}

/// The status of a response that something in front of a server has made, which cannot get one of the server.
fn gateway_status(response: &Response<Body>) -> Option<u16> {
    let status = response.status();
    let is_one = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    (is_one && media_type(response.headers()) != "application/json").then_some(status.as_u16())
}
