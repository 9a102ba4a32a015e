//! Maps errors to gRPC statuses.

use std::time::Duration;

use contracts::credential::ErrorReason;
use service_kit::status::{Reason, StatusBuilder, Violations, internal, not_found};
use tonic::{Code, Status};

use crate::domain::{error::Error, ports::StoreError};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => violations.into(),
            Error::NotFound(name) => not_found(&name),
            Error::DestinationChanged(_, moved) => {
                of(Code::FailedPrecondition, ErrorReason::DestinationChanged, message)
                    .with("bound_destination", moved.bound)
                    .with("present_destination", moved.present)
                    .build()
            }
            Error::DestinationStale { present } => of(
                Code::Aborted,
                ErrorReason::DestinationStale,
                "the destination of the secrets has changed since it was shown; nothing was stored or confirmed; get the credential again, \
                 review its `changes`, and send its `present_destination`",
            )
            .with("present_destination", present)
            .build(),
            Error::RequestIdReused => of(
                Code::InvalidArgument,
                ErrorReason::RequestIdReused,
                "this request_id was used for a different request, or the secrets have been deleted since; choose a new one",
            )
            .build(),
            Error::CredentialRequired { message, condition } => {
                of(Code::FailedPrecondition, ErrorReason::CredentialRequired, message)
                    .with("condition_reason", condition)
                    .build()
            }
            Error::CredentialExpired => of(
                Code::FailedPrecondition,
                ErrorReason::CredentialExpired,
                "the upstream rejects the stored secret, and there is no newer one; enter a new secret",
            )
            .build(),
            Error::Unusable { message, condition } => {
                of(Code::FailedPrecondition, ErrorReason::CredentialExpired, message)
                    .with("condition_reason", condition)
                    .build()
            }
            Error::ScopeRequired { scopes, repair } => of(
                Code::FailedPrecondition,
                ErrorReason::ScopeRequired,
                format!("{message}; {repair}"),
            )
            .with("scopes", scopes.join(" "))
            .build(),
            Error::CallerTokenRequired(message) => {
                of(Code::FailedPrecondition, ErrorReason::CallerTokenRequired, message).build()
            }
            Error::CallerTokenRefused(message) => {
                of(Code::FailedPrecondition, ErrorReason::CallerTokenRefused, message).build()
            }
            Error::AuthorizationServerUnavailable(message) => of(
                Code::Unavailable,
                ErrorReason::AuthorizationServerUnavailable,
                format!("{message}; retry later"),
            )
            .build(),
            Error::AuthorizationServerPauses { why, again } => {
                let seconds = again.as_secs_f64().ceil().max(1.0);
                let message = format!("{why}; retry in {seconds} s");
                of(Code::Unavailable, ErrorReason::AuthorizationServerUnavailable, message)
                    .retry_after(Duration::from_secs_f64(seconds))
                    .build()
            }
            Error::AuthorizationServerBusy(message) => of(
                Code::Unavailable,
                ErrorReason::AuthorizationServerBusy,
                format!("{message}; retry later"),
            )
            .build(),
            Error::AuthorizationServerRefused(message) => {
                of(Code::FailedPrecondition, ErrorReason::AuthorizationServerRefused, message).build()
            }
            Error::AuthorizationStateInvalid => of(
                Code::FailedPrecondition,
                ErrorReason::AuthorizationStateInvalid,
                "this sign-in was finished before, has taken longer than ten minutes, or was begun by somebody else; connect the account again",
            )
            .build(),
            Error::AuthorizationAnswerForeign(issuer) => of(
                Code::FailedPrecondition,
                ErrorReason::AuthorizationStateInvalid,
                format!(
                    "the answer to this sign-in is of another authorization server than {issuer}, or does not say whose it is; nothing was sent to \
                     either; connect the account again, and if this persists, tell the people who run {issuer}"
                ),
            )
            .build(),
            Error::AuthorizationDenied(message) => of(
                Code::FailedPrecondition,
                ErrorReason::AuthorizationDenied,
                format!("{message}; nothing was connected; connect the account again"),
            )
            .build(),
            Error::RegistryUnavailable => registry_unavailable(),
            Error::NotAnnounced => of(
                Code::Unavailable,
                ErrorReason::RegistryUnavailable,
                "the change is stored and will take effect, but the registry has not confirmed it yet; it is safe to retry with the same request_id",
            )
            .with("stored", "true")
            .build(),
            Error::Contended => of(
                Code::Unavailable,
                ErrorReason::StorageUnavailable,
                "too many requests are changing this credential at once; nothing was changed; retry",
            )
            .build(),
            Error::Store(StoreError::Unavailable(_)) => {
                tracing::error!(error = %message, "the secret store is unavailable");
                of(
                    Code::Unavailable,
                    ErrorReason::StorageUnavailable,
                    "the secret store is unavailable; the change may have been stored, and it is safe to retry with the same request_id",
                )
                .build()
            }
            Error::Store(StoreError::TooLarge { limit, .. }) => {
                let mut violations = Violations::new();
                violations.add(
                    "values",
                    format!("all secrets of one installation or entry together must have at most {limit} bytes"),
                );
                violations.into()
            }
            Error::Store(StoreError::Corrupt(_)) => {
                tracing::error!(error = %message, "the secret store holds a value that cannot be read");
                internal()
            }
        }
    }
}

/// A status of this service: its reason is a value of its contract.
fn of(code: Code, reason: ErrorReason, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), message)
}

/// Nothing was changed.
fn registry_unavailable() -> Status {
    of(
        Code::Unavailable,
        ErrorReason::RegistryUnavailable,
        "the registry is unavailable; nothing was changed; retry",
    )
    .build()
}

/// Passes on what the registry answers to a person. Any other failure means that the registry is unavailable.
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
            tracing::warn!(error = %status.message(), grpc.code = ?code, "the registry did not authorize a request");
            registry_unavailable()
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::status::reason_of;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::domain::authorization::servers::ServerError;

    #[test]
    fn the_contract_has_every_common_reason() {
        for reason in Reason::COMMON {
            assert!(reason.value(ErrorReason::from_str_name).is_some(), "{reason:?}");
        }
    }

    /// It is well, and those who wait for it are many: nobody has to look for a fault of it.
    #[test]
    fn a_server_that_many_wait_for_is_not_said_to_be_away() {
        use ErrorReason::{AuthorizationServerBusy, AuthorizationServerUnavailable};
        let why = || "why".to_owned();
        for (error, reason) in [
            (ServerError::Full(why()), AuthorizationServerBusy),
            (ServerError::Unreachable(why()), AuthorizationServerUnavailable),
            (ServerError::Unavailable(why()), AuthorizationServerUnavailable),
        ] {
            let told = Status::from(Error::from(error));
            assert_eq!((told.code(), told.message()), (Code::Unavailable, "why; retry later"));
            assert_eq!(reason_of(&told, ErrorReason::from_str_name), Some(reason));
            assert!(told.get_details_retry_info().is_none());
        }
        let pauses = ServerError::Busy {
            why: why(),
            pause: Duration::from_millis(119_001),
        };
        let told = Status::from(Error::from(pauses));
        assert_eq!(told.message(), "why; retry in 120 s");
        let wait = told.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(wait, Some(Duration::from_secs(120)));
    }

    /// What the registry answers is passed on under this service's name, so its contract has the same reasons.
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
