//! What an entry revision says about tokens: where they come from and how they are sent.

use crate::domain::injection::Injection;

/// An authorization server, as an entry names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Server {
    /// Its metadata has the endpoints.
    Issuer(String),
    /// It has no metadata.
    Endpoints {
        /// What the `iss` of a sign-in must be; empty: any.
        issuer: String,
        /// Empty where nobody signs in.
        authorization: String,
        token: String,
        /// Empty: tokens are not revoked.
        revocation: String,
    },
}

impl Server {
    /// What people know it by: its issuer, or its token endpoint where it has none.
    pub(crate) fn issuer(&self) -> &str {
        match self {
            Self::Issuer(issuer) => issuer,
            Self::Endpoints { issuer, token, .. } if issuer.is_empty() => token,
            Self::Endpoints { issuer, .. } => issuer,
        }
    }
}

/// How an entry's tokens come to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A person connects an account.
    SignIn(SignIn),
    /// By client credentials.
    ClientCredentials(ClientCredentials),
    /// Exchanged for the caller's token.
    Exchange(Exchange),
    /// The caller's token itself.
    Passthrough(Passthrough),
}

/// Tokens of an entry, as its plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenPlan {
    pub(crate) source: Source,
    pub(crate) injection: Injection,
}

/// As `registry.v1.OAuthCredential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// `None`: as the upstream says.
    pub(crate) server: Option<Server>,
    /// `None`: a client metadata document, or a registered client.
    pub(crate) client: Option<ClientPlan>,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: Resource,
    /// Further parameters of the authorization request, sorted by name.
    pub(crate) parameters: Vec<(String, String)>,
    /// The URL of a remote server.
    pub(crate) upstream: Option<String>,
}

/// The resource indicator (RFC 8707) of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// As the upstream names it, otherwise its URL.
    OfUpstream,
    Given(String),
    /// None is sent.
    Omitted,
}

/// As `registry.v1.ClientCredentialsCredential`. Empty texts are not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCredentials {
    pub(crate) server: Server,
    pub(crate) client: ClientPlan,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: String,
    pub(crate) audience: String,
}

/// As `registry.v1.TokenExchangeCredential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) server: Server,
    pub(crate) client: ClientPlan,
    pub(crate) scopes: Vec<String>,
    pub(crate) flow: Flow,
}

/// How a caller's token is exchanged. Empty texts are not sent, except that a `subject_token_type` is then what the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// RFC 8693.
    Exchange {
        audience: String,
        resource: String,
        requested_token_type: String,
        subject_token_type: String,
    },
    /// Of Microsoft Entra ID.
    OnBehalfOf,
    /// For an identity assertion, which the resource's server exchanges for a token.
    IdentityAssertion {
        server: Server,
        client: ClientPlan,
        resource: String,
        subject_token_type: String,
    },
}

/// As `registry.v1.JwtPassthroughCredential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passthrough {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
}

/// A client whose secrets are install fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientPlan {
    pub(crate) id: ClientId,
    pub(crate) authentication: AuthenticationPlan,
}

/// Where a client id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientId {
    Given(String),
    /// In the field with this key.
    Field(String),
}

/// How a client authenticates: the key of the field that has its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthenticationPlan {
    None,
    Basic(String),
    Post(String),
    PrivateKey { field: String, id: Option<String> },
}
