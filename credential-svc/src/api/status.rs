//! The one place where errors become what a caller sees.

use service_kit::status::{StatusBuilder, internal, not_found};
use tonic::{Code, Status};

use crate::domain::{error::Error, ports::StoreError};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => violations.into(),
            Error::NotFound(name) => not_found(&name),
            Error::DestinationChanged { bound, present } => StatusBuilder::new(
                Code::FailedPrecondition,
                "DESTINATION_CHANGED",
                format!(
                    "the secrets are bound to {bound}, and {present} is another destination; confirm the destination, or enter all secrets again"
                ),
            )
            .with("bound_destination", bound)
            .with("present_destination", present)
            .build(),
            Error::DestinationStale { present } => StatusBuilder::new(
                Code::Aborted,
                "DESTINATION_STALE",
                format!("the present destination is {present}; look at it, and confirm that one"),
            )
            .with("present_destination", present)
            .build(),
            Error::RequestIdReused => StatusBuilder::new(
                Code::InvalidArgument,
                "REQUEST_ID_REUSED",
                "this request_id came with another request before; choose a new one",
            )
            .build(),
            Error::CredentialRequired { message, condition } => {
                StatusBuilder::new(Code::FailedPrecondition, "CREDENTIAL_REQUIRED", message)
                    .with("condition_reason", condition)
                    .build()
            }
            Error::CredentialExpired => StatusBuilder::new(
                Code::FailedPrecondition,
                "CREDENTIAL_EXPIRED",
                "the upstream refuses the stored secret, and there is no newer one; enter a new one",
            )
            .build(),
            Error::RegistryUnavailable => registry_unavailable(),
            Error::NotAnnounced => StatusBuilder::new(
                Code::Unavailable,
                "REGISTRY_UNAVAILABLE",
                "the change is stored and will take effect, but the registry has not confirmed it yet; it is safe to retry with the same request_id",
            )
            .with("stored", "true")
            .build(),
            Error::Contended => StatusBuilder::new(
                Code::Unavailable,
                "STORAGE_UNAVAILABLE",
                "too many changes of this credential at once; nothing was changed; retry",
            )
            .build(),
            Error::Store(StoreError::Unavailable(_)) => {
                tracing::error!(error = %message, "the store of secrets failed");
                StatusBuilder::new(
                    Code::Unavailable,
                    "STORAGE_UNAVAILABLE",
                    "the store of secrets did not answer; it is safe to retry with the same request_id",
                )
                .build()
            }
            Error::Store(StoreError::Corrupt(_)) => {
                tracing::error!(error = %message, "the store of secrets is corrupt");
                internal()
            }
        }
    }
}

/// Before anything was changed.
fn registry_unavailable() -> Status {
    StatusBuilder::new(
        Code::Unavailable,
        "REGISTRY_UNAVAILABLE",
        "the registry does not answer; nothing was changed; retry",
    )
    .build()
}

/// What the registry says to a person goes to that person; that it could not be asked is told as such.
pub(super) fn from_registry(status: Status) -> Status {
    match status.code() {
        Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::FailedPrecondition => {
            Status::with_details(status.code(), status.message(), status.details().to_vec().into())
        }
        code => {
            tracing::warn!(error = %status.message(), grpc.code = ?code, "the registry could not be asked for authorization");
            registry_unavailable()
        }
    }
}
