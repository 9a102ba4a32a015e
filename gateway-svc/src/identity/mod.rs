//! Who calls: the caller of a request, by the JWT of a configured issuer or by a gateway token.

mod metadata;
mod token_use;

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, header};
use secrecy::ExposeSecret as _;
use service_kit::{
    Clock,
    identity::{GATEWAY_TOKEN, ISSUER_UNREACHABLE, TokenError, USER_DEACTIVATED, Use, Verifier},
};
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{CallError, Caller, ConsumerRef},
    facade::{ACCESS_TOKEN, AccessTokens},
    snapshot::{Snapshot, Store},
};

pub(crate) use metadata::Metadata;
pub(crate) use token_use::TokenUses;

/// Why a token of no accepted kind is refused.
const MALFORMED: &str =
    "it is neither a gateway token, which begins with cht_, nor a JWT signed with an asymmetric algorithm";
/// Why the gRPC API refuses what an MCP client got by the facade.
const FOR_AN_ENDPOINT: &str = "it is what an MCP client got for one MCP endpoint, and works only there; send an access token of the identity provider itself";
/// The longest gateway token.
const MAX_GATEWAY_TOKEN: usize = 256;

/// Identifies callers.
#[derive(Debug)]
pub(crate) struct Identity {
    verifier: Arc<Verifier>,
    store: Arc<Store>,
    uses: Arc<TokenUses>,
    /// Opens those of the facade.
    access_tokens: AccessTokens,
    clock: Clock,
}

/// A caller, and how long their token is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identified {
    /// Who calls.
    pub(crate) caller: Caller,
    /// When the token expires.
    pub(crate) expires: Option<SystemTime>,
    /// Whose quota of requests is charged: a person's, by whichever token, or that of a team's gateway token.
    /// `users/{user}` or `gatewayTokens/{token}`.
    pub(crate) charged_to: Arc<str>,
    /// Whose quota of calls and streams at a time is charged: [`Caller::subject_name`]. A team with many tokens must not take all of an upstream.
    pub(crate) subject: Arc<str>,
    token: Option<[u8; 32]>,
}

impl Identified {
    /// Without the caller's JWT, for what outlasts the request.
    pub(crate) fn without_token(mut self) -> Self {
        self.caller.token = None;
        self
    }
}

/// Why a request is refused before it is read, for the person or program that sent it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// No bearer token came.
    #[error("send a token of a configured issuer, or a gateway token: `authorization: Bearer <token>`")]
    Anonymous,
    /// The token is not accepted, for this reason.
    #[error("the token was refused: {0}")]
    Token(String),
    /// The token lacks one of the scopes that its issuer's tokens must have: these, separated by spaces.
    #[error("the token lacks a scope; its issuer's tokens must have: {0}")]
    Scope(String),
    /// The token's user is deactivated.
    #[error("{USER_DEACTIVATED}")]
    Deactivated,
    /// The caller cannot be identified now; retry.
    #[error(transparent)]
    Unavailable(CallError),
    /// The token's issuer is unreachable.
    #[error("{ISSUER_UNREACHABLE}")]
    IssuerUnreachable,
}

impl Identity {
    /// By these means.
    pub(crate) fn new(
        verifier: Arc<Verifier>,
        store: Arc<Store>,
        uses: Arc<TokenUses>,
        access_tokens: AccessTokens,
        clock: Clock,
    ) -> Self {
        Self {
            verifier,
            store,
            uses,
            access_tokens,
            clock,
        }
    }

    /// The caller of a request with these headers; `at` is the MCP endpoint that it came to, if it came to one.
    pub(crate) async fn identify(&self, headers: &HeaderMap, at: Option<&ConsumerRef>) -> Result<Identified, Refusal> {
        let token = bearer(headers).ok_or(Refusal::Anonymous)?;
        if token.starts_with(GATEWAY_TOKEN) {
            return self.gateway_token(token);
        }
        if token.starts_with(ACCESS_TOKEN) {
            return self.access_token(token, at).await;
        }
        self.jwt(Use::Call, token).await
    }

    /// A caller with a token of the facade is one who had come with the token of the identity provider that is in it, at one endpoint.
    async fn access_token(&self, token: &str, at: Option<&ConsumerRef>) -> Result<Identified, Refusal> {
        let opened = self.access_tokens.open(token);
        let opened = opened.ok_or_else(|| Refusal::Token("it was not given out here, or too long ago".to_owned()))?;
        let at = at.ok_or_else(|| Refusal::Token(FOR_AN_ENDPOINT.to_owned()))?;
        if !opened.is_for(at) {
            return Err(Refusal::Token(
                "it is for another MCP endpoint, and only for that".to_owned(),
            ));
        }
        let mut identified = self.jwt(opened.shown_for(), opened.token().expose_secret()).await?;
        identified.caller.consumers = Some([at.clone()].into());
        Ok(identified)
    }

    async fn jwt(&self, shown_for: Use, token: &str) -> Result<Identified, Refusal> {
        let user = match self.verifier.verify_for(shown_for, token).await {
            Ok(user) => user,
            Err(TokenError::IssuerUnreachable) => return Err(Refusal::IssuerUnreachable),
            Err(TokenError::InsufficientScope) => {
                let issuer = self.verifier.issuer_of(token);
                let scopes = issuer.map(|issuer| issuer.required_scopes.join(" "));
                return Err(Refusal::Scope(scopes.unwrap_or_default()));
            }
            Err(TokenError::Malformed) => return Err(Refusal::Token(MALFORMED.to_owned())),
            Err(error) => return Err(Refusal::Token(error.to_string())),
        };
        let snapshot = self.store.load().map_err(Refusal::Unavailable)?;
        let subject: Arc<str> = user.id.resource_name().into();
        let identified = Identified {
            charged_to: Arc::clone(&subject),
            subject,
            expires: Some(user.expires_at),
            caller: Caller::from_user(user, token, shown_for),
            token: None,
        };
        alive(&snapshot, &identified.caller)
            .then_some(identified)
            .ok_or(Refusal::Deactivated)
    }

    fn gateway_token(&self, token: &str) -> Result<Identified, Refusal> {
        let snapshot = self.store.load().map_err(Refusal::Unavailable)?;
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = (token.len() <= MAX_GATEWAY_TOKEN)
            .then(|| snapshot.gateway_token(&hash))
            .flatten();
        let known = known.ok_or_else(|| Refusal::Token("it is not a gateway token, or it was revoked".to_owned()))?;
        let now = self.clock.now();
        if known.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Token("it has expired; get a new one".to_owned()));
        }
        if !alive(&snapshot, &known.caller) {
            return Err(Refusal::Deactivated);
        }
        self.uses.note(&known.name, now);
        let subject: Arc<str> = known.caller.subject_name().into();
        let is_persons = known.caller.user().is_some();
        Ok(Identified {
            charged_to: Arc::clone(if is_persons { &subject } else { &known.name }),
            subject,
            caller: known.caller.clone(),
            expires: known.expires,
            token: Some(hash),
        })
    }

    /// Whether the caller's token is still valid.
    pub(crate) fn still(&self, snapshot: &Snapshot, identified: &Identified) -> bool {
        identified.expires.is_none_or(|expires| expires > self.clock.now())
            && identified
                .token
                .as_ref()
                .is_none_or(|hash| snapshot.gateway_token(hash).is_some())
            && alive(snapshot, &identified.caller)
    }

    /// How long the caller's token will be valid.
    pub(crate) fn remaining(&self, identified: &Identified) -> Option<std::time::Duration> {
        let now = self.clock.now();
        identified
            .expires
            .map(|expires| expires.duration_since(now).unwrap_or_default())
    }
}

fn alive(snapshot: &Snapshot, caller: &Caller) -> bool {
    caller.user().is_none_or(|user| !snapshot.is_deactivated(&user.id))
}

/// The bearer token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::domain::ConsumerKind;

    /// Whoever has another one needs to know which.
    #[tokio::test]
    async fn what_the_facade_gave_is_no_token_for_the_grpc_api() {
        let facade = AccessTokens::new([1; 32].into());
        let identity = Identity::new(
            Arc::new(Verifier::new(Vec::new(), Clock::System).unwrap()),
            Store::new(Duration::from_secs(60), Clock::System),
            Arc::default(),
            facade.clone(),
            Clock::System,
        );
        let default = ConsumerRef::new(ConsumerKind::Gateway, "default");
        let token = format!("Bearer {}", facade.seal(&default, "a.b.c", false));
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, token.parse().unwrap())]);
        let refused = identity.identify(&headers, None).await.unwrap_err();
        assert!(
            matches!(&refused, Refusal::Token(why) if why.contains("send an access token of the identity provider")),
            "{refused:?}"
        );
    }

    #[test]
    fn reads_bearer_tokens_only() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        for value in ["Basic abc", "abc", "Bearer", "Bearer ", ""] {
            assert_eq!(of(value), None, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
