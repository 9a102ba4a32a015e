//! What workloads get: the secrets of an installation and of its entry, for one destination and a limited time.

use std::{pin::pin, sync::Arc, time::Duration};

use secrecy::SecretString;
use service_kit::clock::from_micros;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    authorization::{
        access::Step,
        asked::{Asked, Generations, Issued},
        plan::{Source, TokenPlan},
        servers::AuthorizationServers,
    },
    credentials::Credentials,
    error::Error,
    owner::Owner,
    ports::{Registry, Store, StoreError},
    readiness::Readiness,
    records::Limit,
    rendering::Vended,
    state::State,
};

/// How long workloads may use what is vended.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a vend waits where it could do with what is kept.
const SOON: Duration = Duration::from_secs(1);
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
        let owner = &Owner::Installation(uid.to_owned());
        if let Some(vended) = self.headers_kept(owner, destination, asked, self.store.limit()).await {
            return Ok(vended);
        }
        let present = self.headers_now(owner, destination, asked);
        let kept = self.headers_kept(owner, destination, asked, Limit::Any);
        or_kept(present, kept).await
    }

    /// The secrets that the server of an installation gets when it starts, or the one that an entry's installations share.
    pub(crate) async fn vend_runtime(&self, owner: &Owner, destination: &str) -> Result<Vended, Error> {
        let kept = async {
            let state = self.kept_state(owner, destination, Generations::default(), Limit::Any)?;
            self.runtime(&state).ok()
        };
        let present = async { self.runtime(&self.ready_state(owner, destination).await?) };
        or_kept(present, kept).await
    }

    async fn headers_now(self: &Arc<Self>, owner: &Owner, destination: &str, asked: &Asked) -> Result<Vended, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.ready_state(owner, destination).await?;
            let present = state.generations;
            let Some(TokenPlan { source, .. }) = &state.plan.tokens else {
                let rejected = asked.rejected;
                let any = rejected.own != 0 || rejected.entry != 0;
                if any && present.own <= rejected.own && present.entry <= rejected.entry {
                    return Err(Error::CredentialExpired);
                }
                return Ok(self.headers(&state, None));
            };
            let may_wait = Instant::now() < deadline;
            match self.step(owner.uid(), &state, source, asked, may_wait).await? {
                Step::Serve(issued) => return Ok(self.headers(&state, Some(&issued))),
                // Where it takes too long, it goes on all the same.
                Step::Wait(flight) => drop(timeout_at(deadline, flight).await),
            }
        }
    }

    /// The same of what is kept, without a request to the store. `None` where anything else must be done than to send it.
    async fn headers_kept(
        self: &Arc<Self>,
        owner: &Owner,
        destination: &str,
        asked: &Asked,
        limit: Limit,
    ) -> Option<Vended> {
        if asked.is_refused() {
            return None;
        }
        let state = self.kept_state(owner, destination, asked.known, limit)?;
        let Some(TokenPlan { source, .. }) = &state.plan.tokens else {
            return Some(self.headers(&state, None));
        };
        let issued = self.kept_token(owner.uid(), &state, source, asked, limit).await?;
        Some(self.headers(&state, Some(&issued)))
    }

    fn headers(&self, state: &State, issued: Option<&Issued>) -> Vended {
        let injected = state.plan.tokens.as_ref().zip(issued);
        let token = injected.map(|(plan, issued)| plan.injection.header(&issued.token));
        self.vended(state, state.secrets.headers(&state.plan, token), issued)
    }

    fn runtime(&self, state: &State) -> Result<Vended, Error> {
        if !state.shared {
            check_account(state, self.clock.now_micros())?;
        }
        Ok(self.vended(state, state.secrets.runtime(&state.plan), None))
    }

    fn vended(&self, state: &State, secrets: Vec<(String, SecretString)>, token: Option<&Issued>) -> Vended {
        let longest = (self.clock.now() + LIFETIME).min(from_micros(state.until));
        Vended {
            secrets,
            generation: state.generations.own,
            entry_credential_generation: state.generations.entry,
            expire_time: token
                .and_then(|token| token.expire_time)
                .map_or(longest, |end| end.min(longest)),
            token_number: token.map_or(0, |token| token.number),
            for_caller_only: token.is_some_and(|token| token.for_caller_only),
        }
    }
}

/// What is vended now; what is kept, where the store does not answer, or not soon.
async fn or_kept(
    present: impl Future<Output = Result<Vended, Error>>,
    kept: impl Future<Output = Option<Vended>>,
) -> Result<Vended, Error> {
    let mut present = pin!(present);
    match timeout(SOON, &mut present).await {
        Ok(Err(error @ Error::Store(StoreError::Unavailable(_)))) => kept.await.ok_or(error),
        Ok(outcome) => outcome,
        Err(_) => match kept.await {
            Some(vended) => Ok(vended),
            None => present.await,
        },
    }
}

/// A server starts once an account is connected. It gets no token when it starts, so whether the token can be renewed does not matter.
fn check_account(state: &State, now: i64) -> Result<(), Error> {
    if let Some(Source::SignIn(plan)) = state.plan.tokens.as_ref().map(|tokens| &tokens.source) {
        let readiness = Readiness::of_account(plan, &state.secrets.own, now);
        if matches!(readiness, Readiness::NotConnected) {
            return Err(readiness.into_error());
        }
    }
    Ok(())
}
