//! What an entry's installations run: made once for each entry revision, and shared by all of them.

use std::sync::Arc;

use url::Url;

/// An entry revision, as far as calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Where a remote server is; `None` for a self-hosted one, and for an address that is none.
    pub(crate) remote: Option<Endpoint>,
    /// Whether the orchestrator runs the server: its runtime says where it is.
    pub(crate) self_hosted: bool,
    /// Whether all installations of the entry share the server.
    pub(crate) shared: bool,
    /// Whether each session of a client has one of its own with the server; else those of an installation share one.
    pub(crate) session_each: bool,
    /// What secrets are bound to, as in `registry_model::destination`; `None` for an entry without server.
    pub(crate) destination: Option<Arc<str>>,
    /// Whether credential-svc holds secrets that go into headers; where not, nothing is vended.
    pub(crate) vends_headers: bool,
    /// How calls are authenticated.
    pub(crate) credential: CredentialKind,
    /// Whether each caller has a credential of their own, made from the JWT that they call with.
    pub(crate) per_caller: bool,
    /// What callers must call with, where the credential is made from that.
    pub(crate) required_token: Option<RequiredToken>,
    /// Whether it takes secrets that are stored on the entry.
    pub(crate) stored_secrets: bool,
    /// Additional headers and the non-secret install fields that go into headers, in the order of the entry.
    pub(crate) headers: Box<[FixedHeader]>,
}

/// The credential model of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// There is none.
    #[default]
    None,
    /// Secrets that people enter.
    Static,
    /// An account that a person connects.
    OAuth,
    /// A token for machines.
    ClientCredentials,
    /// A token that the caller's is exchanged for.
    TokenExchange,
    /// The caller's own token.
    JwtPassthrough,
}

impl CredentialKind {
    /// As the field of `EntryRevision` in the registry's contract.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "no_credential",
            Self::Static => "static_credential",
            Self::OAuth => "oauth",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "token_exchange",
            Self::JwtPassthrough => "jwt_passthrough",
        }
    }
}

/// A token that a credential is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequiredToken {
    /// Its `iss`; `None`: any.
    pub(crate) issuer: Option<Box<str>>,
    /// Of its `aud`, one is among these; `None`: whatever it is.
    pub(crate) audiences: Option<Box<[Box<str>]>>,
    /// It must not be an ID token.
    pub(crate) is_access_token: bool,
}

/// A header that carries no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FixedHeader {
    /// The field name.
    pub(crate) name: Box<str>,
    /// Where its value comes from.
    pub(crate) value: HeaderSource,
}

/// Where the value of a header comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderSource {
    /// It is the same for all installations.
    Fixed(Box<str>),
    /// Each installation may have its own.
    Prompted {
        /// Key of the install field.
        key: Arc<str>,
        /// Taken where the installation has none; without either, the header is not sent.
        default: Box<str>,
    },
}

/// Where a server is. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A remote server, as an admin wrote it: the egress policy applies.
    Remote(Arc<Url>),
    /// A server that the orchestrator runs, as it reports it: exempt from the egress policy.
    /// `http://HOST:PORT/PATH` or `unix:/PATH/OF/SOCKET`.
    Hosted(Arc<str>),
}
