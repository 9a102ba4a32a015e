//! What workloads get: the secrets of an installation and of its entry, for one destination and a limited time.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};

use super::{
    authorization::{
        access::Step,
        asked::{Asked, Generations, Issued},
        plan::{Source, TokenPlan},
        servers::AuthorizationServers,
    },
    credentials::Credentials,
    error::Error,
    ports::{Registry, Store},
    readiness::Readiness,
    rendering::Vended,
    state::State,
};

/// How long workloads may use what is vended.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a vend waits for a token: less than its callers wait for it.
const PATIENCE: Duration = Duration::from_secs(8);

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// The headers that carry an installation's secrets to `destination`. Fails unless they are newer than those that were rejected.
    pub(crate) async fn vend_headers(
        self: &Arc<Self>,
        uid: &str,
        destination: &str,
        asked: &Asked,
    ) -> Result<Vended, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.ready_state(uid, destination).await?;
            let present = state.generations;
            let Some(TokenPlan { source, injection }) = &state.plan.tokens else {
                let rejected = asked.rejected;
                let any = rejected.own != 0 || rejected.entry != 0;
                if any && present.own <= rejected.own && present.entry <= rejected.entry {
                    return Err(Error::CredentialExpired);
                }
                return Ok(self.vended(state.secrets.headers(&state.plan, None), present, None));
            };
            let may_wait = Instant::now() < deadline;
            match self.step(uid, &state, source, asked, may_wait).await? {
                Step::Serve(issued) => {
                    let token = injection.header(&issued.token);
                    let headers = state.secrets.headers(&state.plan, Some(token));
                    return Ok(self.vended(headers, present, Some(&issued)));
                }
                // Where it takes too long, it goes on all the same.
                Step::Wait(flight) => drop(timeout_at(deadline, flight).await),
            }
        }
    }

    /// The secrets that an installation's server gets when it starts.
    pub(crate) async fn vend_runtime(&self, uid: &str, destination: &str) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        check_account(&state)?;
        Ok(self.vended(state.secrets.runtime(&state.plan), state.generations, None))
    }

    fn vended(&self, secrets: Vec<(String, SecretString)>, generations: Generations, token: Option<&Issued>) -> Vended {
        let longest = self.clock.now() + LIFETIME;
        Vended {
            secrets,
            generation: generations.own,
            entry_credential_generation: generations.entry,
            expire_time: token
                .and_then(|token| token.expire_time)
                .map_or(longest, |end| end.min(longest)),
            token_number: token.map_or(0, |token| token.number),
            for_caller_only: token.is_some_and(|token| token.for_caller_only),
        }
    }
}

/// A server starts once an account is connected. It gets no token when it starts, so whether the token can be renewed does not matter.
fn check_account(state: &State) -> Result<(), Error> {
    if let Some(Source::SignIn(plan)) = state.plan.tokens.as_ref().map(|tokens| &tokens.source) {
        let readiness = Readiness::of_account(plan, &state.secrets.own);
        if matches!(readiness, Readiness::NotConnected) {
            return Err(readiness.into_error());
        }
    }
    Ok(())
}
