//! Errors as gRPC statuses (AIP-193). The one place where errors become a `Status`.

use contracts::registry::ErrorReason;
use service_kit::status::{Reason, StatusBuilder, internal, not_found};
use tonic::{Code, Status};

use crate::domain::{Error, StorageError};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let of = |code, reason| of(code, reason, text.clone());
        match error {
            Error::Invalid(violations) => violations.into(),
            Error::NotFound(name) => not_found(&name),
            Error::Denied { required, .. } => of(Code::PermissionDenied, ErrorReason::PermissionDenied)
                .with("required", required)
                .build(),
            Error::UserDeactivated => of(Code::Unauthenticated, ErrorReason::UserDeactivated).build(),
            Error::AlreadyExists(name) => of(Code::AlreadyExists, ErrorReason::AlreadyExists)
                .with("resource", name)
                .build(),
            Error::BeingDeleted(name) => of(Code::Unavailable, ErrorReason::BeingDeleted)
                .with("resource", name)
                .build(),
            Error::ExposedNameTaken { by, .. } => {
                let status = of(Code::AlreadyExists, ErrorReason::AlreadyExists);
                match by {
                    Some(by) => status.with("resource", by).build(),
                    None => status.build(),
                }
            }
            Error::EtagMismatch(name) => of(Code::Aborted, ErrorReason::EtagMismatch)
                .with("resource", name)
                .build(),
            Error::IllegalTransition(_) => of(Code::FailedPrecondition, ErrorReason::IllegalTransition).build(),
            Error::EntryNotApproved(name) => of(Code::FailedPrecondition, ErrorReason::EntryNotApproved)
                .with("entry", name)
                .build(),
            Error::EntryInstalled { entry, count, .. } => of(Code::FailedPrecondition, ErrorReason::EntryInstalled)
                .with("entry", entry)
                .with("installations", count.to_string())
                .build(),
            Error::TeamInUse(_) => of(Code::FailedPrecondition, ErrorReason::TeamInUse).build(),
            Error::ToolUnknown { field, entry, tool, .. } => of(Code::FailedPrecondition, ErrorReason::ToolUnknown)
                .with("entry", entry)
                .with("tool", tool)
                .with("field", field)
                .build(),
            Error::SharedAccountNotConfirmed => {
                of(Code::FailedPrecondition, ErrorReason::SharedAccountNotConfirmed).build()
            }
            Error::RequestIdReused => of(Code::InvalidArgument, ErrorReason::RequestIdReused).build(),
            Error::PageTokenInvalid => of(Code::InvalidArgument, ErrorReason::PageTokenInvalid).build(),
            Error::LeaseLost => of(Code::FailedPrecondition, ErrorReason::LeaseLost).build(),
            Error::Storage(error) => storage(error),
            Error::Internal(text) => {
                tracing::error!(error = %text, "internal error");
                internal()
            }
        }
    }
}

/// A status of this service: its reason is a value of its contract.
fn of(code: Code, reason: ErrorReason, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), message)
}

fn storage(error: StorageError) -> Status {
    match error {
        StorageError::SchemaNewer(cause) => {
            tracing::warn!(error = %cause, "a newer version of Chandlery wrote what was asked for");
            let text =
                "a newer version of Chandlery wrote this: retry, so that another replica answers, and upgrade this one";
            of(Code::Unavailable, ErrorReason::SchemaNewer, text).build()
        }
        StorageError::Unavailable(cause) => {
            tracing::warn!(error = %cause, "the database did not answer");
            let text = "the registry's database did not answer: retry";
            of(Code::Unavailable, ErrorReason::StorageUnavailable, text).build()
        }
        StorageError::Failed(cause) => {
            tracing::error!(error = %cause, "a statement failed");
            internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_every_common_reason() {
        for reason in Reason::COMMON {
            assert!(reason.value(ErrorReason::from_str_name).is_some(), "{reason:?}");
        }
    }
}
