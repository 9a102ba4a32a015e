//! Why a call fails.

use std::time::Duration;

use service_kit::status::Violations;

use super::{authorization::servers::ServerError, destination::Moved, owner::Source, ports::StoreError};

/// Why a call failed. `api/status.rs` makes a status of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request has invalid fields. Nothing was changed.
    #[error("the request has invalid fields")]
    Invalid(Violations),
    /// The resource does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The secrets are bound to another destination.
    #[error("{}", .1.message(*.0))]
    DestinationChanged(Source, Moved),
    /// The caller was shown a destination that is no longer the present one.
    #[error("the destination is now {present}")]
    DestinationStale { present: String },
    /// The request id was used for a different request.
    #[error("the request id was used for a different request")]
    RequestIdReused,
    /// A required secret is missing; `condition` is the reason as reported to the registry.
    #[error("{message}")]
    CredentialRequired { message: String, condition: &'static str },
    /// The upstream rejects the secrets that are stored.
    #[error("the upstream rejects the credential")]
    CredentialExpired,
    /// No token can be vended, until somebody does what the message says; `condition` is the reason as reported to the registry.
    #[error("{message}")]
    Unusable { message: String, condition: &'static str },
    /// The upstream demands scopes that were not granted; `repair` is what can be done about it.
    #[error("the upstream demands scopes that were not granted: {}", .scopes.join(" "))]
    ScopeRequired { scopes: Vec<String>, repair: &'static str },
    /// The credential is made from a JWT that the caller does not have.
    #[error("{0}")]
    CallerTokenRequired(String),
    /// The authorization server does not exchange the caller's token.
    #[error("{0}")]
    CallerTokenRefused(String),
    /// An authorization server did not answer, or answered with a fault of its own.
    #[error("{0}")]
    AuthorizationServerUnavailable(String),
    /// An authorization server asks for a pause, and is not asked before it is over.
    #[error("{why}")]
    AuthorizationServerPauses { why: String, again: Duration },
    /// An authorization server was not asked, since many others wait for it.
    #[error("{0}")]
    AuthorizationServerBusy(String),
    /// An authorization server cannot be used as the entry says.
    #[error("{0}")]
    AuthorizationServerRefused(String),
    /// A sign-in is unknown, was finished, has expired, or belongs to another person or authorization server.
    #[error("the sign-in is not known here any more")]
    AuthorizationStateInvalid,
    /// A sign-in was answered by another authorization server than this, or by nobody who says who they are. Nothing was sent to either.
    #[error("the answer to this sign-in is not known to be of {0}")]
    AuthorizationAnswerForeign(String),
    /// The person did not allow the access, or the authorization server did not accept the code.
    #[error("{0}")]
    AuthorizationDenied(String),
    /// The watch has not brought the first snapshot, or the entry revision, yet.
    #[error("the registry has not answered yet")]
    RegistryUnavailable,
    /// The change is durable, but the registry has not accepted the report of it yet.
    #[error("stored, but the registry did not accept the report")]
    NotAnnounced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other writers changed the record every time. Nothing was changed.
    #[error("too many changes at once")]
    Contended,
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Full(why) => Self::AuthorizationServerBusy(why),
            ServerError::Busy { why, pause } => Self::AuthorizationServerPauses { why, again: pause },
            ServerError::Unreachable(why) | ServerError::Unavailable(why) => Self::AuthorizationServerUnavailable(why),
            ServerError::Refused { description, .. } => Self::AuthorizationServerRefused(format!(
                "the authorization server refuses: {description}; an admin must change the entry or the authorization server"
            )),
            ServerError::Unusable(why) => Self::AuthorizationServerRefused(format!(
                "{why}; an admin must change the entry or the authorization server"
            )),
        }
    }
}
