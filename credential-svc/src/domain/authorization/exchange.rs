//! Tokens that are made from the token with which a caller signed in: exchanged for it, or the same token passed on.
//!
//! They are kept in memory only, for each installation and caller, apart for tokens of a caller that may do different things, and never longer than the
//! token that they were made from is valid.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use moka::{Expiry, future::Cache};
use secrecy::SecretString;
use service_kit::Clock;

use super::{
    authority::Authority,
    plan::{Exchange, Flow, Passthrough, Server},
    servers::{AuthorizationServers, Client, ServerError, TokenRequest, Tokens},
};

/// Callers whose tokens are kept.
const CACHED: u64 = 50_000;
/// How long a token is kept whose lifetime the authorization server does not say.
const UNKNOWN: Duration = Duration::from_secs(5 * 60);
/// How long before it expires a token is exchanged again.
const MARGIN: Duration = Duration::from_secs(10);

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Types of tokens (RFC 8693, section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// Who calls, as gateway-svc verified it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) expire_time: SystemTime,
    pub(crate) token: SecretString,
    /// It says who signed in, and is not meant for calls.
    pub(crate) is_id_token: bool,
}

/// A token for one caller.
#[derive(Clone, Debug)]
pub(crate) struct CallerToken {
    pub(crate) value: SecretString,
    pub(crate) expire_time: SystemTime,
    /// Tells it from other tokens of this process; 0: it is the caller's own.
    pub(crate) number: i64,
}

/// Whose token it is. A change of any of these makes another token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Uid of the installation.
    pub(crate) installation: String,
    /// The entry revision that it runs, and the generations of the clients' secrets.
    pub(crate) revision: i64,
    pub(crate) generations: (i64, i64),
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// A token that may do less is not exchanged for one that may do more.
    pub(crate) authority: Authority,
}

/// The clients of an exchange, with their secrets.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) client: Client,
    /// At the resource's authorization server, for identity assertions.
    pub(crate) resource: Option<Client>,
}

/// Why there is no token for the caller. Messages are for people and hold no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The caller's token is not the one that the entry requires.
    #[error("{0}")]
    WrongToken(String),
    /// The authorization server does not exchange this token.
    #[error("{0}")]
    CallerRefused(String),
    /// The authorization server does not accept the client, or what it says is wrong.
    #[error("{0}")]
    Unusable(String),
    /// It answers nobody: nobody can connect to it, or it does not say where its endpoints are.
    #[error("{0}")]
    Away(String),
    /// It did not exchange this token now, and may do so with another.
    #[error("{0}")]
    Unavailable(String),
    /// As [`ServerError::Full`].
    #[error("{0}")]
    Full(String),
    /// As [`ServerError::Busy`].
    #[error("{why}")]
    Busy { why: String, pause: Duration },
}

/// Exchanges tokens, once for all concurrent calls of a caller.
pub(crate) struct Exchanger {
    kept: Cache<Key, Arc<CallerToken>>,
    numbers: AtomicI64,
    clock: Clock,
}

impl fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanger").finish_non_exhaustive()
    }
}

struct UntilItExpires(Clock);

impl Expiry<Key, Arc<CallerToken>> for UntilItExpires {
    fn expire_after_create(&self, _: &Key, token: &Arc<CallerToken>, _: Instant) -> Option<Duration> {
        let left = token.expire_time.duration_since(self.0.now()).unwrap_or_default();
        Some(left.saturating_sub(MARGIN))
    }
}

impl Exchanger {
    pub(crate) fn new(clock: Clock) -> Self {
        let first = clock.now_micros();
        Self {
            kept: Cache::builder()
                .max_capacity(CACHED)
                .expire_after(UntilItExpires(clock.clone()))
                .build(),
            // Other replicas, and this one after a restart, count from elsewhere.
            numbers: AtomicI64::new(first),
            clock,
        }
    }

    /// The caller's token for the plan. Another one than that with the number `rejected`; 0: none was rejected.
    pub(crate) async fn token(
        &self,
        servers: &impl AuthorizationServers,
        plan: &Exchange,
        clients: &Clients,
        key: Key,
        caller: &Caller,
        rejected: i64,
    ) -> Result<Arc<CallerToken>, ExchangeError> {
        if let Some(kept) = self.kept.get(&key).await
            && kept.number == rejected
        {
            self.kept.invalidate(&key).await;
        }
        self.kept
            .try_get_with(key, self.exchange(servers, plan, clients, caller))
            .await
            .map_err(|error| ExchangeError::clone(&error))
    }

    /// The caller's token, if there is one.
    pub(crate) async fn kept(&self, key: &Key) -> Option<Arc<CallerToken>> {
        self.kept.get(key).await
    }

    async fn exchange(
        &self,
        servers: &impl AuthorizationServers,
        plan: &Exchange,
        clients: &Clients,
        caller: &Caller,
    ) -> Result<Arc<CallerToken>, ExchangeError> {
        requires_token_of(&plan.server, caller)?;
        let tokens = match &plan.flow {
            Flow::Exchange {
                audience,
                resource,
                requested_token_type,
                subject_token_type,
            } => {
                let mut request = exchange_request(caller, subject_token_type);
                request.add("audience", audience);
                request.add("resource", resource);
                request.add("requested_token_type", requested_token_type);
                request.add("scope", &plan.scopes.join(" "));
                ask(servers, &plan.server, &clients.client, &request).await?
            }
            Flow::OnBehalfOf => {
                requires_access_token(caller)?;
                let mut request = TokenRequest::new(JWT_BEARER);
                request.add_secret("assertion", caller.token.clone());
                request.add("requested_token_use", "on_behalf_of");
                request.add("scope", &plan.scopes.join(" "));
                ask(servers, &plan.server, &clients.client, &request).await?
            }
            Flow::IdentityAssertion {
                server,
                resource,
                subject_token_type,
                ..
            } => {
                let assertion =
                    identity_assertion(servers, plan, server, resource, subject_token_type, clients, caller);
                let mut request = TokenRequest::new(JWT_BEARER);
                request.add_secret("assertion", assertion.await?);
                request.add("scope", &plan.scopes.join(" "));
                let client = clients.resource.as_ref().unwrap_or(&clients.client);
                ask(servers, server, client, &request).await?
            }
        };
        let now = self.clock.now();
        let expires = now + tokens.expires_in.unwrap_or(UNKNOWN);
        Ok(Arc::new(CallerToken {
            value: tokens.access,
            expire_time: expires.min(caller.expire_time),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
        }))
    }
}

/// The caller's own token, where it is the one that the entry requires.
pub(crate) fn pass_through(plan: &Passthrough, caller: &Caller) -> Result<CallerToken, ExchangeError> {
    requires_access_token(caller)?;
    if caller.issuer != plan.issuer {
        return Err(ExchangeError::WrongToken(format!(
            "this server requires a token of {}, and the caller's is of {}; sign in there",
            plan.issuer, caller.issuer
        )));
    }
    if !caller
        .audiences
        .iter()
        .any(|audience| plan.audiences.contains(audience))
    {
        return Err(ExchangeError::WrongToken(format!(
            "this server requires a token for {}, and the caller's is for {}; an admin of the identity provider can add the audience",
            plan.audiences.join(" or "),
            caller.audiences.join(" and ")
        )));
    }
    Ok(CallerToken {
        value: caller.token.clone(),
        expire_time: caller.expire_time,
        number: 0,
    })
}

/// The first step of draft-ietf-oauth-identity-assertion-authz-grant: an assertion for the resource's authorization server.
async fn identity_assertion(
    servers: &impl AuthorizationServers,
    plan: &Exchange,
    server: &Server,
    resource: &str,
    subject_token_type: &str,
    clients: &Clients,
    caller: &Caller,
) -> Result<SecretString, ExchangeError> {
    let mut request = exchange_request(caller, subject_token_type);
    request.add("requested_token_type", ID_JAG);
    request.add("audience", server.issuer());
    request.add("resource", resource);
    request.add("scope", &plan.scopes.join(" "));
    let tokens = ask(servers, &plan.server, &clients.client, &request).await?;
    if tokens.issued_token_type != ID_JAG {
        return Err(ExchangeError::Unusable(format!(
            "{} issued no identity assertion: its token has the type {:?}",
            plan.server.issuer(),
            tokens.issued_token_type
        )));
    }
    Ok(tokens.access)
}

/// `subject_token_type` is the entry's; empty: what the token is.
fn exchange_request(caller: &Caller, subject_token_type: &str) -> TokenRequest {
    let kind = match subject_token_type {
        "" if caller.is_id_token => ID_TOKEN,
        "" => ACCESS_TOKEN,
        given => given,
    };
    let mut request = TokenRequest::new(TOKEN_EXCHANGE);
    request.add_secret("subject_token", caller.token.clone());
    request.add("subject_token_type", kind);
    request
}

/// Whoever gets a token can call Chandlery with it: it goes to the server that issued it. Where an entry names no issuer but endpoints alone, it
/// vouches for these.
fn requires_token_of(server: &Server, caller: &Caller) -> Result<(), ExchangeError> {
    let (Server::Issuer(issuer) | Server::Endpoints { issuer, .. }) = server;
    if issuer.is_empty() || *issuer == caller.issuer {
        return Ok(());
    }
    Err(ExchangeError::WrongToken(format!(
        "this server's credential is exchanged for a token of {issuer}, and the caller's is of {}; sign in there",
        caller.issuer
    )))
}

/// Whoever accepts ID tokens for calls could be called with one that was meant for somebody's sign-in.
fn requires_access_token(caller: &Caller) -> Result<(), ExchangeError> {
    if !caller.is_id_token {
        return Ok(());
    }
    Err(ExchangeError::WrongToken(format!(
        "this server requires an access token of the caller, and {} gives only an ID token to people who sign in by way of this gateway; an operator \
         can have it give access tokens that are JWTs, by `facade` in the configuration of the issuer",
        caller.issuer
    )))
}

async fn ask(
    servers: &impl AuthorizationServers,
    server: &Server,
    client: &Client,
    request: &TokenRequest,
) -> Result<Tokens, ExchangeError> {
    let answer = servers.metadata(server).await;
    let metadata = answer.map_err(|error| match error {
        ServerError::Full(_) => error.into(),
        error if error.is_passing() => ExchangeError::Away(error.to_string()),
        error => error.into(),
    })?;
    let turn = servers.turn(&metadata).await?;
    Ok(servers.token(turn, &metadata, client, request).await?)
}

impl From<ServerError> for ExchangeError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Unreachable(message) => Self::Away(message),
            ServerError::Full(message) => Self::Full(message),
            ServerError::Unavailable(message) => Self::Unavailable(message),
            ServerError::Busy { why, pause } => Self::Busy { why, pause },
            ServerError::Unusable(message) => Self::Unusable(message),
            // RFC 6749, section 5.2, and RFC 8693, section 2.2.2: what is wrong with the client or the entry, rather than with the caller.
            ServerError::Refused { code, description } => match code.as_str() {
                "invalid_client"
                | "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_target"
                | "invalid_scope" => Self::Unusable(description),
                _ => Self::CallerRefused(description),
            },
        }
    }
}

#[cfg(test)]
mod tests;
