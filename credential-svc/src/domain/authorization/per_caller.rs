//! Tokens that are made from the caller's own, for an installation.

use super::{
    asked::{Asked, Generations, Issued},
    attempts::{Trouble, rejected_again},
    authority::Authority,
    client,
    exchange::{Caller, CallerToken, Clients, ExchangeError, Key, pass_through},
    plan::{Exchange, Flow, Passthrough},
    servers::AuthorizationServers,
};
use crate::domain::{credentials::Credentials, error::Error, owner::Owner, ports::Store, state::State};

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// A token for the caller in exchange for the caller's own.
    pub(super) async fn exchanged(
        &self,
        uid: &str,
        state: &State,
        plan: &Exchange,
        asked: &Asked,
    ) -> Result<Issued, Error> {
        let caller = caller(asked)?;
        let resolve = |client| client::resolve(&state.plan, &state.secrets, client);
        let clients = Clients {
            client: resolve(&plan.client)?,
            resource: match &plan.flow {
                Flow::IdentityAssertion { client, .. } => Some(resolve(client)?),
                Flow::Exchange { .. } | Flow::OnBehalfOf => None,
            },
        };
        let key = key(uid, state, caller);
        let (exchanger, servers) = (&self.authorization.exchanger, &*self.authorization.servers);
        let (attempts, exchanges) = (&self.authorization.attempts, &self.authorization.exchanges);
        let (owner, basis, now) = (
            Owner::Installation(uid.to_owned()),
            state.basis(),
            self.clock.now_micros(),
        );
        let rejected = asked.rejected_token;
        let before = exchanger.kept(&key).await;
        let trouble = attempts.trouble(&owner, basis, now);
        if let Some(trouble) = trouble.or_else(|| exchanges.trouble(&key, basis, now)) {
            // Whoever has a token goes on with it.
            return match before.filter(|token| token.number != rejected) {
                Some(token) => Ok(issued(&token)),
                None => Err(trouble.into()),
            };
        }
        let replaces = rejected != 0 && before.is_none_or(|token| token.number == rejected);
        if replaces && exchanges.has_replaced(&key, now, rejected) {
            return Err(rejected_again());
        }
        let answer = exchanger
            .token(servers, plan, &clients, key.clone(), caller, rejected)
            .await;
        let now = self.clock.now_micros();
        match &answer {
            Ok(token) => {
                attempts.succeeded(&owner);
                exchanges.succeeded(&key);
                if replaces {
                    exchanges.replaced(&key, now, token.number);
                }
            }
            // The server is not asked again by each call that waits for it, and what it does to one caller's token concerns no other caller.
            Err(ExchangeError::Away(why)) => attempts.failed(&owner, basis, now, Trouble::Unavailable(why.clone())),
            Err(ExchangeError::Unavailable(why)) => {
                exchanges.failed(&key, basis, now, Trouble::Unavailable(why.clone()));
            }
            Err(ExchangeError::Busy { why, pause }) => {
                let (why, pause) = (why.clone(), *pause);
                exchanges.failed(&key, basis, now, Trouble::Busy { why, pause });
            }
            Err(
                ExchangeError::Full(_)
                | ExchangeError::WrongToken(_)
                | ExchangeError::CallerRefused(_)
                | ExchangeError::Unusable(_),
            ) => {}
        }
        Ok(issued(&*answer?))
    }

    /// The token that the caller got before.
    pub(super) async fn exchanged_before(&self, uid: &str, state: &State, asked: &Asked) -> Option<Issued> {
        let key = key(uid, state, asked.caller.as_ref()?);
        let token = self.authorization.exchanger.kept(&key).await?;
        Some(issued(&token))
    }
}

fn key(uid: &str, state: &State, caller: &Caller) -> Key {
    Key {
        installation: uid.to_owned(),
        revision: state.entry_revision,
        generations: (state.generations.own, state.generations.entry),
        issuer: caller.issuer.clone(),
        subject: caller.subject.clone(),
        authority: Authority::of(&caller.token, caller.is_id_token),
    }
}

/// The caller's own token.
pub(super) fn passed_on(plan: &Passthrough, asked: &Asked) -> Result<Issued, Error> {
    let token = pass_through(plan, caller(asked)?)?;
    if asked.rejected != Generations::default() {
        return Err(Error::CallerTokenRefused(
            "the upstream rejects the token with which the caller signed in; sign in again".to_owned(),
        ));
    }
    Ok(issued(&token))
}

fn caller(asked: &Asked) -> Result<&Caller, Error> {
    asked.caller.as_ref().ok_or_else(|| {
        Error::CallerTokenRequired(
            "the credential is made from the JWT of the caller, who called without one; sign in in place of using a gateway token".to_owned(),
        )
    })
}

fn issued(token: &CallerToken) -> Issued {
    Issued {
        token: token.value.clone(),
        expire_time: Some(token.expire_time),
        number: token.number,
        for_caller_only: true,
    }
}

impl From<ExchangeError> for Error {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::WrongToken(message) => Self::CallerTokenRequired(message),
            ExchangeError::CallerRefused(message) => Self::CallerTokenRefused(message),
            ExchangeError::Unusable(message) => Self::Unusable {
                message,
                condition: "AUTHORIZATION_SERVER_REFUSED",
            },
            ExchangeError::Full(message) => Self::AuthorizationServerBusy(message),
            ExchangeError::Busy { why, pause } => Self::AuthorizationServerPauses { why, again: pause },
            ExchangeError::Away(message) | ExchangeError::Unavailable(message) => {
                Self::AuthorizationServerUnavailable(message)
            }
        }
    }
}
