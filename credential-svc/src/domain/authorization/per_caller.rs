//! Tokens that are made from the caller's own, for an installation.

use super::{
    asked::{Asked, Generations, Issued},
    attempts::Trouble,
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
        let (owner, basis, attempts) = (
            Owner::Installation(uid.to_owned()),
            state.basis(),
            &self.authorization.attempts,
        );
        let had_trouble = attempts.trouble(&owner, basis, self.clock.now_micros());
        if let Some(trouble) = had_trouble {
            // Whoever has a token goes on with it.
            let before = exchanger.kept(&key).await;
            return match before.filter(|token| token.number != asked.rejected_token) {
                Some(token) => Ok(issued(&token)),
                None => Err(trouble.into()),
            };
        }
        let rejected = asked.rejected_token;
        match exchanger.token(servers, plan, &clients, key, caller, rejected).await {
            Ok(token) => {
                attempts.succeeded(&owner);
                Ok(issued(&token))
            }
            Err(error) => {
                // It is not asked again by each of the calls that wait for it.
                let trouble = match error.clone() {
                    ExchangeError::Unavailable(why) => Some(Trouble::Unavailable(why)),
                    ExchangeError::Busy { why, pause } => Some(Trouble::Busy { why, pause }),
                    _ => None,
                };
                if let Some(trouble) = trouble {
                    attempts.failed(&owner, basis, self.clock.now_micros(), trouble);
                }
                Err(error.into())
            }
        }
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
            ExchangeError::Unavailable(message) | ExchangeError::Busy { why: message, .. } => {
                Self::AuthorizationServerUnavailable(message)
            }
        }
    }
}
