//! What the domain requires of authorization servers. `oauth` implements it over HTTP.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::plan::Server;

/// Talks to authorization servers. Each of them, and whatever it answers, may be hostile: every URL is checked when it is connected to, no
/// redirect is followed, sizes and times are bounded, and one that is slow delays nobody who uses another.
pub(crate) trait AuthorizationServers: Send + Sync + 'static {
    /// See [`Self::turn`].
    type Turn: Send;
    /// What an upstream says of itself (RFC 9728); `None` if it says nothing. Cached for minutes; but what it said before `since` is used only
    /// while it is unreachable.
    fn upstream(
        &self,
        url: &str,
        since: Option<SystemTime>,
    ) -> impl Future<Output = Result<Option<Arc<Upstream>>, ServerError>> + Send;
    /// The server's metadata (RFC 8414, OpenID Connect Discovery 1.0), or the endpoints that the entry gives. Cached for minutes; while the
    /// server is unreachable, what was read last is used.
    fn metadata(&self, server: &Server) -> impl Future<Output = Result<Arc<Metadata>, ServerError>> + Send;
    /// Registers a client (RFC 7591) whose only redirect URI is `redirect_uri`.
    fn register(
        &self,
        metadata: &Metadata,
        redirect_uri: &str,
    ) -> impl Future<Output = Result<Registration, ServerError>> + Send;
    /// Waits until a request may be sent to the token endpoint, which answers few at a time. Whoever has the turn decides whether the request
    /// is still to be sent.
    fn turn(&self, metadata: &Metadata) -> impl Future<Output = Result<Self::Turn, ServerError>> + Send;
    /// Asks the token endpoint (RFC 6749, section 3.2). However long the wait for the turn was, the server has the same time to answer.
    fn token(
        &self,
        turn: Self::Turn,
        metadata: &Metadata,
        client: &Client,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<Tokens, ServerError>> + Send;
    /// Revokes a token (RFC 7009). Does nothing where the server has no endpoint for it.
    fn revoke(
        &self,
        metadata: &Metadata,
        client: &Client,
        token: &SecretString,
        hint: TokenKind,
    ) -> impl Future<Output = Result<(), ServerError>> + Send;
}

/// What an upstream says of itself (RFC 9728). The resource is the upstream's, as section 3.3 requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) resource: String,
    /// Issuers, at least one, in the upstream's order.
    pub(crate) authorization_servers: Vec<String>,
    pub(crate) scopes: Vec<String>,
}

/// The metadata of an authorization server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Empty where the entry gives endpoints alone.
    pub(crate) issuer: String,
    /// Empty: nobody signs in there.
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    /// Empty: there is none.
    pub(crate) revocation_endpoint: String,
    /// Empty: there is none.
    pub(crate) registration_endpoint: String,
    /// It sends `iss` with each sign-in (RFC 9207).
    pub(crate) sends_issuer: bool,
    /// `code_challenge_methods_supported` has S256. True where the entry gives the endpoints.
    pub(crate) has_pkce: bool,
    /// It accepts the URL of a client metadata document as client id.
    pub(crate) takes_client_documents: bool,
    /// `token_endpoint_auth_methods_supported`; empty: it does not say.
    pub(crate) authentication_methods: Vec<String>,
    pub(crate) scopes: Vec<String>,
    /// Its endpoints may be in the networks that the operator allows: it is there itself, or the entry gives the endpoints.
    pub(crate) may_be_internal: bool,
}

/// A client of an authorization server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) authentication: Authentication,
}

/// A client that was registered.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) client: Client,
    /// `client_secret_expires_at`, where it is not 0: the client must be registered anew after that.
    pub(crate) secret_expires: Option<SystemTime>,
}

/// How a client authenticates.
#[derive(Clone, Debug)]
pub(crate) enum Authentication {
    /// A public client.
    None,
    Basic(SecretString),
    Post(SecretString),
    /// Signs assertions (RFC 7523) with the key, in PEM.
    PrivateKey {
        key: SecretString,
        id: Option<String>,
    },
}

impl Authentication {
    /// The bytes of its secret.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Basic(secret) | Self::Post(secret) | Self::PrivateKey { key: secret, .. } => {
                secret.expose_secret().len()
            }
        }
    }
}

/// What is asked of the token endpoint: all parameters but those that authenticate the client. A name may occur more than once.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenRequest {
    pub(crate) parameters: Vec<(&'static str, SecretString)>,
}

impl TokenRequest {
    /// With this grant type.
    pub(crate) fn new(grant_type: &str) -> Self {
        let mut request = Self::default();
        request.add("grant_type", grant_type);
        request
    }

    /// Adds a parameter, unless it is empty.
    pub(crate) fn add(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.add_secret(name, value.into());
        }
    }

    /// Adds a secret.
    pub(crate) fn add_secret(&mut self, name: &'static str, value: SecretString) {
        self.parameters.push((name, value));
    }
}

/// What the token endpoint issued.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    /// How long the access token is valid, at most a year; zero where the server says that it is not. `None`: it does not say.
    pub(crate) expires_in: Option<Duration>,
    /// `None`: those that were asked for.
    pub(crate) scopes: Option<Vec<String>>,
    /// The account, from the ID token if there is one: an email address, a name or the subject. For people; at most 200 characters.
    pub(crate) account: Option<String>,
    /// `issued_token_type` (RFC 8693); empty: it does not say.
    pub(crate) issued_token_type: String,
}

/// Which token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Access,
    Refresh,
}

/// Why a server did not do what was asked. Messages are for people and hold no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    /// Nothing was sent, since nobody can connect to it.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing was sent, since many others wait for it. It is well, and may be asked at once when they are fewer.
    #[error("{0}")]
    Full(String),
    /// It did not answer this request, or answered with a fault of its own. It may answer another one, or the same later.
    #[error("{0}")]
    Unavailable(String),
    /// The same, and it says for how long nobody should ask again.
    #[error("{why}")]
    Busy { why: String, pause: Duration },
    /// It refused, with an OAuth error (RFC 6749, section 5.2): `invalid_grant`, for example.
    #[error("{description}")]
    Refused {
        /// `error`; at most 100 characters of the permitted ones.
        code: String,
        /// With `error_description`, bounded.
        description: String,
    },
    /// What it says is wrong, or not permitted.
    #[error("{0}")]
    Unusable(String),
}

impl ServerError {
    /// Whether the server may answer later what it does not answer now.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Full(_) | Self::Unavailable(_) | Self::Busy { .. } => true,
            Self::Refused { .. } | Self::Unusable(_) => false,
        }
    }
}
