//! Errors as gRPC statuses: the only mapping in this service.

use contracts::orchestrator::ErrorReason;
use service_kit::status::{Reason, StatusBuilder};
use tonic::{Code, Status};

/// A status with a reason of this service's contract.
fn of(code: Code, reason: ErrorReason, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), message)
}

/// The installation's server is remote.
pub(super) fn not_self_hosted() -> Status {
    of(
        Code::FailedPrecondition,
        ErrorReason::NotSelfHosted,
        "the entry's server is remote: it has no runtime to show or restart",
    )
    .build()
}

/// The caller may only see the state of the server.
pub(super) fn shared(entry: &str) -> Status {
    of(
        Code::FailedPrecondition,
        ErrorReason::SharedRuntime,
        format!(
            "all installations of the entry share this server, and its log may have data of any of them: an admin restarts it and reads its \
             log, as {entry}/runtime"
        ),
    )
    .with("runtime", format!("{entry}/runtime"))
    .build()
}

/// The entry has no server that its installations share.
pub(super) fn not_shared() -> Status {
    of(
        Code::FailedPrecondition,
        ErrorReason::NotShared,
        "the installations of the entry share no server: each may have one of its own, as installations/{installation}/runtime",
    )
    .build()
}

/// Another version of the package would get the secrets of many owners, each of whom must agree to it first.
pub(super) fn versions_of_the_entry() -> Status {
    of(
        Code::PermissionDenied,
        ErrorReason::PermissionDenied,
        "the entry requires the owners of its installations to confirm new versions: name another version in the entry, and each of them is asked",
    )
    .build()
}

/// Another version of the package would get the secrets of the owner, who must agree to it first.
pub(super) fn not_the_owner() -> Status {
    of(
        Code::PermissionDenied,
        ErrorReason::PermissionDenied,
        "the entry requires the owner of an installation to confirm new versions: only the owner may set update_package",
    )
    .build()
}

/// This orchestrator has no status of the server.
pub(super) fn runtime_unknown() -> Status {
    of(
        Code::Unavailable,
        ErrorReason::RuntimeUnknown,
        "this orchestrator does not run the installation's server, or has not started it yet; nothing was changed; retry",
    )
    .build()
}

/// Logs the cause, which the caller does not see.
pub(super) fn internal(cause: &str) -> Status {
    tracing::error!(error = cause, "the runtime failed");
    of(
        Code::Internal,
        ErrorReason::Internal,
        "internal error; see the server log",
    )
    .build()
}

/// Passes an error of the registry that concerns the caller on, without its trailers. Any other means that the registry is unavailable.
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
            tracing::warn!(error = %status.message(), grpc.code = ?code, "the registry could not be asked whether the caller is authorized");
            of(
                Code::Unavailable,
                ErrorReason::RegistryUnavailable,
                "the registry is unavailable; nothing was changed; retry",
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

    /// Errors of the registry are passed on under this service's name, so its contract has their reasons too.
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
            let status = from_registry(silent);
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(
                reason_of(&status, ErrorReason::from_str_name),
                Some(ErrorReason::RegistryUnavailable)
            );
        }
    }
}
