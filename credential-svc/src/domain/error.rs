//! Why a call fails.

use service_kit::status::Violations;

use super::{destination::Moved, owner::Source, ports::StoreError};

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
