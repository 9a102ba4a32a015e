//! Everything that can go wrong, for the one who called.

use service_kit::status::Violations;

use super::{destination::Moved, owner::Source, ports::StoreError};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request cannot be taken; nothing was changed.
    #[error("the request cannot be taken")]
    Invalid(Violations),
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The secrets may go elsewhere only.
    #[error("{}", .1.message(*.0))]
    DestinationChanged(Source, Moved),
    /// Somebody confirms a destination that is not the present one.
    #[error("the destination is {present} by now")]
    DestinationStale { present: String },
    /// The request id was used for something else.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// A required secret is missing; `condition` is the reason as reported to the registry.
    #[error("{message}")]
    CredentialRequired { message: String, condition: &'static str },
    /// The upstream has refused what there is.
    #[error("the upstream refuses the credential")]
    CredentialExpired,
    /// The registry has not told yet what there is to know.
    #[error("the registry has not answered yet")]
    RegistryUnavailable,
    /// The change is durable, but the registry has not taken the report of it yet.
    #[error("stored, but the registry did not take the report")]
    NotAnnounced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record changes faster than it can be written.
    #[error("too many changes at once")]
    Contended,
}
