//! Which access token a call gets, and whether another must be requested first.

use std::sync::Arc;

use service_kit::clock::from_micros;

use super::{
    asked::{Asked, Issued},
    attempts::rejected_again,
    flights::Flight,
    grant::{Age, Grant},
    per_caller::passed_on,
    plan::{ClientCredentials, SignIn, Source},
    renewing::{Order, Why},
    requests::basis,
    scopes,
    servers::AuthorizationServers,
};
use crate::domain::{
    credentials::Credentials,
    error::Error,
    owner::Owner,
    ports::{Registry, Store},
    readiness::Readiness,
    record::Record,
    records::Limit,
    state::State,
};

/// What comes next.
pub(in crate::domain) enum Step {
    Serve(Issued),
    /// Decide again when this has ended.
    Wait(Flight),
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Decides about the token of an installation, or of one caller. Does not wait for another of an installation unless it `may_wait`.
    pub(in crate::domain) async fn step(
        self: &Arc<Self>,
        uid: &str,
        state: &State,
        source: &Source,
        asked: &Asked,
        may_wait: bool,
    ) -> Result<Step, Error> {
        match source {
            Source::SignIn(plan) => self.of_account(uid, state, plan, asked, may_wait).await,
            Source::ClientCredentials(plan) => self.of_client(uid, state, plan, asked, may_wait),
            Source::Exchange(plan) => self.exchanged(uid, state, plan, asked).await.map(Step::Serve),
            Source::Passthrough(plan) => passed_on(plan, asked).map(Step::Serve),
        }
    }

    /// A token of a record that is kept; `None` where it does not serve, or another should be waited for.
    pub(in crate::domain) async fn kept_token(
        self: &Arc<Self>,
        uid: &str,
        state: &State,
        source: &Source,
        asked: &Asked,
        limit: Limit,
    ) -> Option<Issued> {
        match source {
            Source::Exchange(_) => return self.exchanged_before(uid, state, asked).await,
            Source::Passthrough(plan) => return passed_on(plan, asked).ok(),
            Source::SignIn(_) | Source::ClientCredentials(_) => {}
        }
        let serves = match state.secrets.own.tokens.grant.as_ref()?.age(self.clock.now_micros()) {
            Age::Fresh | Age::Aging => true,
            Age::Last => limit == Limit::Any,
            Age::Expired => false,
        };
        if !serves {
            return None;
        }
        match self.step(uid, state, source, asked, false).await {
            Ok(Step::Serve(issued)) => Some(issued),
            Ok(Step::Wait(_)) | Err(_) => None,
        }
    }

    async fn of_account(
        self: &Arc<Self>,
        uid: &str,
        state: &State,
        plan: &SignIn,
        asked: &Asked,
        may_wait: bool,
    ) -> Result<Step, Error> {
        let own = &state.secrets.own;
        let grant = match (
            Readiness::of_account(plan, own, self.clock.now_micros()),
            &own.tokens.grant,
        ) {
            (Readiness::Connected, Some(grant)) => grant,
            (other, _) => return Err(other.into_error()),
        };
        let missing = grant.lacks(&asked.demanded);
        if !missing.is_empty() {
            self.remember(&Owner::Installation(uid.to_owned()), &missing).await?;
            let repair = "connect the account again to allow them";
            return Err(Error::ScopeRequired {
                scopes: missing,
                repair,
            });
        }
        if grant.refresh.is_some() {
            return self.renewable(uid, state, Some(grant), asked, may_wait);
        }
        if asked.rejected_token == own.tokens.number {
            let why = "the upstream rejects the token, and the authorization server issued none that could renew it";
            let owner = Owner::Installation(uid.to_owned());
            self.note_refusal(&owner, own.tokens.number, why).await?;
            return Err(Readiness::Reconnect { why: why.to_owned() }.into_error());
        }
        Ok(serve(own, grant))
    }

    fn of_client(
        self: &Arc<Self>,
        uid: &str,
        state: &State,
        plan: &ClientCredentials,
        asked: &Asked,
        may_wait: bool,
    ) -> Result<Step, Error> {
        let own = &state.secrets.own;
        let client = super::client::resolve(&state.plan, &state.secrets, &plan.client)?;
        let basis = basis(&state.plan, plan, &state.secrets, &client.id);
        let grant = own.tokens.grant.as_ref().filter(|grant| grant.basis == basis);
        let missing = grant.map(|grant| grant.lacks(&asked.demanded)).unwrap_or_default();
        if !missing.is_empty() {
            // An upstream does not decide what a machine may do: that would give it a token for whatever it likes.
            let repair = "an admin decides whether the entry's scopes should have them, and the authorization server must grant them";
            return Err(Error::ScopeRequired {
                scopes: missing,
                repair,
            });
        }
        self.renewable(uid, state, grant, asked, may_wait)
    }

    /// Decides about a token that can be renewed without a person; without `grant`, there is none yet.
    fn renewable(
        self: &Arc<Self>,
        uid: &str,
        state: &State,
        grant: Option<&Grant>,
        asked: &Asked,
        may_wait: bool,
    ) -> Result<Step, Error> {
        let own = &state.secrets.own;
        let (now, number) = (self.clock.now_micros(), own.tokens.number);
        let owner = Owner::Installation(uid.to_owned());
        let Some(grant) = grant else {
            return self.another(uid, state, Why::Age, may_wait);
        };
        if asked.rejected_token == number {
            if self.authorization.attempts.has_replaced(&owner, now, number) {
                return Err(rejected_again());
            }
            return self.another(uid, state, Why::Rejected, may_wait);
        }
        let has_trouble = self
            .authorization
            .attempts
            .trouble(&owner, state.basis(), now)
            .is_some();
        match grant.age(now) {
            Age::Fresh => {}
            Age::Aging => {
                let holder = self.authorization.holder;
                let lease = own.tokens.lease.filter(|lease| lease.until > now);
                if !has_trouble && lease.is_none_or(|lease| lease.holder == holder) {
                    drop(self.fly(uid, state, Why::Age));
                }
            }
            Age::Last if has_trouble || !may_wait => {}
            Age::Last | Age::Expired => return self.another(uid, state, Why::Age, may_wait),
        }
        Ok(serve(own, grant))
    }

    /// Requests another token, unless the last attempt failed a moment ago.
    fn another(self: &Arc<Self>, uid: &str, state: &State, why: Why, may_wait: bool) -> Result<Step, Error> {
        let owner = Owner::Installation(uid.to_owned());
        let now = self.clock.now_micros();
        if let Some(trouble) = self.authorization.attempts.trouble(&owner, state.basis(), now) {
            return Err(trouble.into());
        }
        if !may_wait {
            return Err(Error::AuthorizationServerUnavailable(
                "the authorization server has not issued a token yet".to_owned(),
            ));
        }
        Ok(Step::Wait(self.fly(uid, state, why)))
    }

    fn fly(self: &Arc<Self>, uid: &str, state: &State, why: Why) -> Flight {
        let (number, basis) = (state.secrets.own.tokens.number, state.basis());
        let owner = Owner::Installation(uid.to_owned());
        self.authorization.flights.join(&owner, || {
            let (credentials, uid) = (Arc::clone(self), uid.to_owned());
            async move { credentials.renew(&uid, Order { number, basis, why }).await }
        })
    }

    /// Keeps scopes that the next sign-in asks for.
    async fn remember(&self, owner: &Owner, demanded: &[String]) -> Result<(), Error> {
        let add = |record: &mut Record| {
            let before = record.tokens.demanded.len();
            record.tokens.demanded = scopes::union(std::mem::take(&mut record.tokens.demanded), demanded.to_vec());
            record.tokens.demanded.len() != before
        };
        self.amend(owner, add).await.map(drop)
    }
}

fn serve(own: &Record, grant: &Grant) -> Step {
    Step::Serve(Issued {
        token: grant.access.clone(),
        expire_time: grant.expire_time.map(from_micros),
        number: own.tokens.number,
        for_caller_only: false,
    })
}
