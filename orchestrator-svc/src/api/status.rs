//! Errors as gRPC statuses. The one place for this service.

use contracts::orchestrator::ErrorReason;
use service_kit::status::{Reason, StatusBuilder};
use tonic::{Code, Status};

/// A status of this service: its reason is a value of its contract.
fn of(code: Code, reason: ErrorReason, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), message)
}

/// There is no runtime to speak of.
pub(super) fn not_self_hosted() -> Status {
    of(
        Code::FailedPrecondition,
        ErrorReason::NotSelfHosted,
        "the entry's server runs elsewhere; there is nothing here to show or restart",
    )
    .build()
}

/// Somebody else's secrets would go to another version of the package.
pub(super) fn not_the_owner() -> Status {
    of(
        Code::PermissionDenied,
        ErrorReason::PermissionDenied,
        "the entry asks the owner of each installation about new versions: only they may take one (update_package)",
    )
    .build()
}

/// This orchestrator cannot act on it.
pub(super) fn runtime_unknown() -> Status {
    of(
        Code::Unavailable,
        ErrorReason::RuntimeUnknown,
        "this orchestrator does not run the installation's server, or not yet; nothing was done; retry",
    )
    .build()
}

/// The log gets the cause.
pub(super) fn internal(cause: &str) -> Status {
    tracing::error!(error = cause, "the runtime failed");
    of(
        Code::Internal,
        ErrorReason::Internal,
        "internal error; see the server log",
    )
    .build()
}

/// What the registry says to a person goes to that person, without its trailers; that it could not be asked is told as such.
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
            of(
                Code::Unavailable,
                ErrorReason::RegistryUnavailable,
                "the registry does not answer; nothing was done; retry",
            )
            .build()
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::status::reason_of;

    use super::*;

    #[test]
    fn the_contract_has_every_common_reason() {
        for reason in Reason::COMMON {
            assert!(reason.value(ErrorReason::from_str_name).is_some(), "{reason:?}");
        }
    }

    /// What the registry says to a caller is said in this service's name: its contract has these reasons too.
    #[test]
    fn the_contract_has_the_reasons_that_are_passed_on() {
        use contracts::registry::ErrorReason as Theirs;
        for (code, theirs) in [
            (Code::InvalidArgument, Theirs::InvalidFields),
            (Code::Unauthenticated, Theirs::Unauthenticated),
            (Code::Unauthenticated, Theirs::TokenInvalid),
            (Code::Unauthenticated, Theirs::UserDeactivated),
            (Code::NotFound, Theirs::ResourceNotFound),
            (Code::PermissionDenied, Theirs::PermissionDenied),
            (Code::PermissionDenied, Theirs::WorkloadsOnly),
        ] {
            let reason = Reason::of(theirs, Theirs::as_str_name);
            let passed = from_registry(StatusBuilder::new(code, reason, "no").build());
            assert_eq!(passed.code(), code, "{theirs:?}");
            let ours = reason_of(&passed, ErrorReason::from_str_name);
            assert_eq!(ours, reason.value(ErrorReason::from_str_name));
            assert!(ours.is_some(), "{theirs:?}");
        }
        for silent in [Status::unavailable("refused"), Status::internal("reset")] {
            let told = from_registry(silent);
            assert_eq!(told.code(), Code::Unavailable);
            assert_eq!(
                reason_of(&told, ErrorReason::from_str_name),
                Some(ErrorReason::RegistryUnavailable)
            );
        }
    }
}
