//! Errors as gRPC statuses. The one place for this service.

use std::time::Duration;

use contracts::gateway::ErrorReason;
use service_kit::status::{Reason, StatusBuilder, Violations, internal, not_found};
use tonic::{Code, Status};

use crate::{
    discovery::Failure,
    domain::{
        CallError, Condition, ConditionState, CredentialFault, FREE, Links, RESTARTED, Repair, RepairReason, Running,
        UpstreamFault,
    },
    identity::Refusal,
};

/// A status of this service: its reason is a value of its contract.
pub(super) fn of(code: Code, reason: ErrorReason, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), message)
}

/// A call that failed.
pub(super) fn of_call(error: CallError) -> Status {
    let message = error.to_string();
    match error {
        CallError::Repair(repair) => of_repair(*repair),
        CallError::ConsumerNotFound(consumer) => not_found(&consumer.to_string()),
        // Not for tools.
        CallError::NotOffered => of(Code::NotFound, ErrorReason::ResourceNotFound, message).build(),
        CallError::NotFound { name, .. } => of(Code::NotFound, ErrorReason::ResourceNotFound, message)
            .with("resource", name)
            .build(),
        CallError::ToolNotFound(tool) => of(Code::NotFound, ErrorReason::ResourceNotFound, message)
            .with("resource", tool)
            .build(),
        CallError::InvalidCall(what) => {
            let mut violations = Violations::new();
            violations.add("arguments_json", what);
            violations.into()
        }
        CallError::Upstream {
            entry, fault, again, ..
        } => {
            let (code, reason) = of_fault(fault);
            at_entry(of(code, reason, message), &entry, again)
        }
        CallError::Credential {
            entry, fault, again, ..
        } => {
            let (code, reason) = of_credential_fault(fault);
            at_entry(of(code, reason, message), &entry, again)
        }
        CallError::UpstreamError {
            entry,
            code,
            message: theirs,
            ..
        } => of(Code::FailedPrecondition, ErrorReason::UpstreamError, message)
            .with("entry", format!("entries/{entry}"))
            .with("code", code.to_string())
            .with("message", theirs)
            .build(),
        CallError::NoRoom { .. } => of(Code::ResourceExhausted, ErrorReason::QuotaExceeded, message)
            .with("quota", "answers")
            .build(),
        CallError::Cancelled => of(Code::Cancelled, ErrorReason::Cancelled, message).build(),
        CallError::Stopping => of(Code::Unavailable, ErrorReason::GatewayStopping, message)
            .retry_after(RESTARTED)
            .build(),
        CallError::Interrupted => of(Code::Aborted, ErrorReason::CallInterrupted, message).build(),
        CallError::CredentialsUnavailable => of(Code::Unavailable, ErrorReason::ServiceUnavailable, message).build(),
        CallError::RegistryUnavailable => of(Code::Unavailable, ErrorReason::RegistryUnavailable, message).build(),
        CallError::Internal => internal(),
    }
}

/// What failed at an entry's server, and when to try again, if that is known.
fn at_entry(status: StatusBuilder, entry: &str, again: Option<Duration>) -> Status {
    let status = status.with("entry", format!("entries/{entry}"));
    match again {
        Some(wait) => status.retry_after(wait).build(),
        None => status.build(),
    }
}

fn of_repair(repair: Repair) -> Status {
    of(
        Code::FailedPrecondition,
        of_repair_reason(repair.reason),
        repair.message,
    )
    .with("entry", format!("entries/{}", repair.entry))
    .with("install_url", repair.install_url.clone())
    .link("Connect or repair it here, then call again", repair.install_url)
    .build()
}

/// As in `ErrorInfo.reason`, and in that of an explanation.
pub(super) const fn of_repair_reason(reason: RepairReason) -> ErrorReason {
    match reason {
        RepairReason::CredentialRequired => ErrorReason::CredentialRequired,
        RepairReason::CredentialExpired => ErrorReason::CredentialExpired,
        RepairReason::ScopeRequired => ErrorReason::ScopeRequired,
        RepairReason::DestinationChanged => ErrorReason::DestinationChanged,
        RepairReason::InstallationUnavailable => ErrorReason::InstallationUnavailable,
        RepairReason::ToolUnavailable => ErrorReason::ToolUnavailable,
    }
}

const fn of_credential_fault(fault: CredentialFault) -> (Code, ErrorReason) {
    match fault {
        CredentialFault::CallerTokenRequired => (Code::FailedPrecondition, ErrorReason::CallerTokenRequired),
        CredentialFault::CallerTokenRefused => (Code::FailedPrecondition, ErrorReason::CallerTokenRefused),
        CredentialFault::AuthorizationServerUnavailable => {
            (Code::Unavailable, ErrorReason::AuthorizationServerUnavailable)
        }
    }
}

/// Clients repeat by themselves what is UNAVAILABLE: nothing is that may have been carried out.
const fn of_fault(fault: UpstreamFault) -> (Code, ErrorReason) {
    match fault {
        UpstreamFault::Unreachable => (Code::Unavailable, ErrorReason::UpstreamUnreachable),
        UpstreamFault::Ended => (Code::Aborted, ErrorReason::UpstreamUnreachable),
        // Not RESOURCE_EXHAUSTED: the server did not receive the call, and the same call succeeds later.
        UpstreamFault::Busy => (Code::Unavailable, ErrorReason::UpstreamBusy),
        UpstreamFault::Invalid => (Code::Unknown, ErrorReason::UpstreamInvalid),
        UpstreamFault::Timeout => (Code::DeadlineExceeded, ErrorReason::UpstreamTimeout),
        UpstreamFault::Unauthorized => (Code::FailedPrecondition, ErrorReason::UpstreamUnauthorized),
    }
}

/// A request that is refused before it is read.
pub(super) fn of_refusal(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::Anonymous => of(Code::Unauthenticated, ErrorReason::Unauthenticated, message).build(),
        Refusal::Token(why) => of(Code::Unauthenticated, ErrorReason::TokenInvalid, message)
            .with("detail", why)
            .build(),
        Refusal::Scope(_) => of(Code::PermissionDenied, ErrorReason::TokenInvalid, message).build(),
        Refusal::Deactivated => of(Code::Unauthenticated, ErrorReason::UserDeactivated, message).build(),
        Refusal::IssuerUnreachable => of(Code::Unavailable, ErrorReason::TokenInvalid, message).build(),
        Refusal::Unavailable(error) => of_call(error),
    }
}

/// A discovery that failed.
pub(super) fn of_discovery(failure: &Failure, running: &Running, links: &Links) -> Status {
    let (Failure::Installation { reason, message } | Failure::Transient { reason, message, .. }) = failure;
    let (code, reason) = of_discovery_reason(reason, running.revision.vends_headers);
    let entry = format!("entries/{}", running.entry.slug);
    let mut status = of(code, reason, message).with("entry", entry);
    if reason == ErrorReason::UpstreamBusy {
        status = status.retry_after(FREE);
    }
    if code == Code::FailedPrecondition {
        status = status.link(
            "Repair it here, then try again",
            links.install(&running.entry.slug, None),
        );
    }
    status.build()
}

/// What the reason of a `TOOLS_DISCOVERED` that is false means for the caller.
fn of_discovery_reason(reason: &str, vends_headers: bool) -> (Code, ErrorReason) {
    match reason {
        "UPSTREAM_TIMEOUT" => of_fault(UpstreamFault::Timeout),
        "UPSTREAM_UNREACHABLE" => of_fault(UpstreamFault::Unreachable),
        "UPSTREAM_INVALID" => of_fault(UpstreamFault::Invalid),
        "UPSTREAM_BUSY" => of_fault(UpstreamFault::Busy),
        "SERVICE_UNAVAILABLE" => (Code::Unavailable, ErrorReason::ServiceUnavailable),
        "UPSTREAM_UNAUTHORIZED" if !vends_headers => of_fault(UpstreamFault::Unauthorized),
        "CREDENTIAL_REQUIRED" => (Code::FailedPrecondition, ErrorReason::CredentialRequired),
        "SCOPE_REQUIRED" => (Code::FailedPrecondition, ErrorReason::ScopeRequired),
        "CALLER_TOKEN_REQUIRED" => of_credential_fault(CredentialFault::CallerTokenRequired),
        "CALLER_TOKEN_REFUSED" => of_credential_fault(CredentialFault::CallerTokenRefused),
        "AUTHORIZATION_SERVER_UNAVAILABLE" => of_credential_fault(CredentialFault::AuthorizationServerUnavailable),
        "UPSTREAM_UNAUTHORIZED" | "CREDENTIAL_EXPIRED" => (Code::FailedPrecondition, ErrorReason::CredentialExpired),
        "DESTINATION_CHANGED" => (Code::FailedPrecondition, ErrorReason::DestinationChanged),
        _ => (Code::FailedPrecondition, ErrorReason::InstallationUnavailable),
    }
}

/// An installation whose server cannot be asked.
pub(super) fn unusable(running: &Running, links: &Links) -> Status {
    let installation = &running.installation;
    let failed = |credential: &&Condition| credential.status == ConditionState::False;
    let credential = Some(&installation.credential)
        .into_iter()
        .chain(running.entry_credential())
        .find(failed)
        .unwrap_or(&installation.credential);
    let why = [&*credential.message, running.server_message()];
    let why = why.into_iter().find(|why| !why.is_empty()).unwrap_or("it is not ready");
    let reason = match credential.status {
        ConditionState::False => of_repair_reason(RepairReason::of_condition(&credential.reason)),
        ConditionState::True | ConditionState::Unknown => ErrorReason::InstallationUnavailable,
    };
    of(
        Code::FailedPrecondition,
        reason,
        format!("its server cannot be asked now: {why}"),
    )
    .with("entry", format!("entries/{}", running.entry.slug))
    .link(
        "Repair it here, then try again",
        links.install(&running.entry.slug, None),
    )
    .build()
}

/// An answer of the registry that is meant for the caller, without its trailers.
pub(super) fn passed_on(status: Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
            tracing::warn!(grpc.code = ?status.code(), error = %status.message(), "the registry did not answer");
            of_call(CallError::RegistryUnavailable)
        }
        code => Status::with_details(code, status.message(), status.details().to_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::ConditionStatus;
    use service_kit::status::reason_of;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::snapshot::testing::{Made, Registry};

    #[test]
    fn the_contract_has_every_common_reason() {
        for reason in Reason::COMMON {
            assert!(reason.value(ErrorReason::from_str_name).is_some(), "{reason:?}");
        }
    }

    /// Statuses of the registry are passed on to callers: this service's contract has their reasons, too.
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
            let passed = passed_on(StatusBuilder::new(code, reason, "no").build());
            assert_eq!(passed.code(), code, "{theirs:?}");
            let ours = reason_of(&passed, ErrorReason::from_str_name);
            assert_eq!(ours, reason.value(ErrorReason::from_str_name));
            assert!(ours.is_some(), "{theirs:?}");
        }
        for silent in [Status::unavailable("refused"), Status::internal("reset")] {
            let told = passed_on(silent);
            assert_eq!(told.code(), Code::Unavailable);
            assert_eq!(
                reason_of(&told, ErrorReason::from_str_name),
                Some(ErrorReason::RegistryUnavailable)
            );
        }
    }

    /// MCP clients and gRPC callers get the same reasons.
    #[test]
    fn the_names_in_tool_results_are_those_of_the_contract() {
        let repairs = [
            RepairReason::CredentialRequired,
            RepairReason::CredentialExpired,
            RepairReason::ScopeRequired,
            RepairReason::DestinationChanged,
            RepairReason::InstallationUnavailable,
            RepairReason::ToolUnavailable,
        ]
        .map(|reason| (reason.name(), of_repair_reason(reason)));
        let faults = [
            UpstreamFault::Unreachable,
            UpstreamFault::Busy,
            UpstreamFault::Timeout,
            UpstreamFault::Invalid,
            UpstreamFault::Unauthorized,
        ]
        .map(|fault| (fault.name(), of_fault(fault).1));
        let credentials = [
            CredentialFault::CallerTokenRequired,
            CredentialFault::CallerTokenRefused,
            CredentialFault::AuthorizationServerUnavailable,
        ]
        .map(|fault| (fault.name(), of_credential_fault(fault).1));
        for (name, reason) in repairs.into_iter().chain(faults).chain(credentials) {
            assert_eq!(
                name.to_ascii_uppercase(),
                Reason::of(reason, ErrorReason::as_str_name).as_str()
            );
        }
    }

    #[test]
    fn a_caller_of_a_busy_server_learns_when_to_retry() {
        let of = |fault, again| {
            of_call(CallError::Upstream {
                entry: "mail".into(),
                fault,
                message: "all processes of Mail are in use".to_owned(),
                again,
            })
        };
        let busy = of(UpstreamFault::Busy, Some(FREE));
        assert_eq!(
            (busy.code(), reason_of(&busy, ErrorReason::from_str_name)),
            (Code::Unavailable, Some(ErrorReason::UpstreamBusy))
        );
        let wait = busy.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(wait, Some(Duration::from_secs(5)));
        assert!(of(UpstreamFault::Unreachable, None).get_details_retry_info().is_none());
    }

    /// As calls are told.
    #[test]
    fn an_installation_that_cannot_be_asked_says_what_its_credential_lacks() {
        for (condition, told) in [
            ("CREDENTIAL_REQUIRED", ErrorReason::CredentialRequired),
            ("ENTRY_CREDENTIAL_REQUIRED", ErrorReason::CredentialRequired),
            ("DESTINATION_CHANGED", ErrorReason::DestinationChanged),
        ] {
            let registry = Registry::default().entry("time", &[]).install(Made {
                credential: (ConditionStatus::False, condition),
                ..Made::new("own", "time", "alice")
            });
            let links = Links::new("https://tools.example.com".parse().unwrap());
            let status = unusable(&registry.running("own"), &links);
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(
                reason_of(&status, ErrorReason::from_str_name),
                Some(told),
                "{condition}"
            );
            assert!(status.get_details_help().is_some());
        }
    }

    #[test]
    fn a_discovery_that_could_not_be_made_now_tells_the_cause() {
        for (reason, code, told) in [
            (
                "UPSTREAM_UNREACHABLE",
                Code::Unavailable,
                ErrorReason::UpstreamUnreachable,
            ),
            ("UPSTREAM_BUSY", Code::Unavailable, ErrorReason::UpstreamBusy),
            (
                "SERVICE_UNAVAILABLE",
                Code::Unavailable,
                ErrorReason::ServiceUnavailable,
            ),
        ] {
            let failure = Failure::Transient {
                reason,
                message: "The MCP server of time is being stopped.".to_owned(),
                planned: true,
            };
            let registry = Registry::default().entry("time", &[]);
            let running = registry.install(Made::new("own", "time", "alice")).running("own");
            let links = Links::new("https://tools.example.com".parse().unwrap());
            let status = of_discovery(&failure, &running, &links);
            assert_eq!(
                (status.code(), reason_of(&status, ErrorReason::from_str_name)),
                (code, Some(told))
            );
            assert_eq!(status.message(), "The MCP server of time is being stopped.");
            let busy = status.get_details_retry_info().is_some();
            assert_eq!(busy, told == ErrorReason::UpstreamBusy, "{reason}");
        }
    }

    #[test]
    fn a_failed_discovery_has_a_reason_of_the_contract() {
        for (reason, vends_headers, code, told) in [
            (
                "UPSTREAM_TIMEOUT",
                true,
                Code::DeadlineExceeded,
                ErrorReason::UpstreamTimeout,
            ),
            ("UPSTREAM_INVALID", true, Code::Unknown, ErrorReason::UpstreamInvalid),
            (
                "UPSTREAM_UNREACHABLE",
                true,
                Code::Unavailable,
                ErrorReason::UpstreamUnreachable,
            ),
            (
                "UPSTREAM_UNAUTHORIZED",
                true,
                Code::FailedPrecondition,
                ErrorReason::CredentialExpired,
            ),
            (
                "UPSTREAM_UNAUTHORIZED",
                false,
                Code::FailedPrecondition,
                ErrorReason::UpstreamUnauthorized,
            ),
            (
                "CREDENTIAL_REQUIRED",
                true,
                Code::FailedPrecondition,
                ErrorReason::CredentialRequired,
            ),
            (
                "CREDENTIAL_EXPIRED",
                true,
                Code::FailedPrecondition,
                ErrorReason::CredentialExpired,
            ),
            (
                "DESTINATION_CHANGED",
                true,
                Code::FailedPrecondition,
                ErrorReason::DestinationChanged,
            ),
        ] {
            assert_eq!(of_discovery_reason(reason, vends_headers), (code, told), "{reason}");
        }
    }
}
