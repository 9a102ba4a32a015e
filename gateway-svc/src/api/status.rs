//! Errors as gRPC statuses. The one place for this service.

use service_kit::status::{StatusBuilder, Violations, internal, not_found};
use tonic::{Code, Status};

use crate::{
    discovery::Failure,
    domain::{CallError, ConditionState, Installation, Links, Repair, UpstreamFault},
    identity::Refusal,
};

/// A call that failed.
pub(super) fn of_call(error: CallError) -> Status {
    let message = error.to_string();
    match error {
        CallError::Repair(repair) => of_repair(*repair),
        CallError::ConsumerNotFound(consumer) => not_found(&consumer.to_string()),
        CallError::ToolNotFound(tool) => StatusBuilder::new(Code::NotFound, "RESOURCE_NOT_FOUND", message)
            .with("resource", tool)
            .build(),
        CallError::InvalidCall(what) => {
            let mut violations = Violations::new();
            violations.add("arguments_json", what);
            violations.into()
        }
        CallError::Upstream { entry, fault, .. } => StatusBuilder::new(code(fault), fault.code(), message)
            .with("entry", format!("entries/{entry}"))
            .build(),
        CallError::UpstreamError {
            entry,
            code,
            message: theirs,
            ..
        } => StatusBuilder::new(Code::FailedPrecondition, "UPSTREAM_ERROR", message)
            .with("entry", format!("entries/{entry}"))
            .with("code", code.to_string())
            .with("message", theirs)
            .build(),
        CallError::Cancelled => StatusBuilder::new(Code::Cancelled, "CANCELLED", message).build(),
        CallError::CredentialsUnavailable => {
            StatusBuilder::new(Code::Unavailable, "SERVICE_UNAVAILABLE", message).build()
        }
        CallError::RegistryUnavailable => {
            StatusBuilder::new(Code::Unavailable, "REGISTRY_UNAVAILABLE", message).build()
        }
        CallError::Internal => internal(),
    }
}

fn of_repair(repair: Repair) -> Status {
    StatusBuilder::new(Code::FailedPrecondition, repair.reason.code(), repair.message)
        .with("entry", format!("entries/{}", repair.entry))
        .with("install_url", repair.install_url.clone())
        .link("Connect or repair it here, then call again", repair.install_url)
        .build()
}

const fn code(fault: UpstreamFault) -> Code {
    match fault {
        UpstreamFault::Unreachable | UpstreamFault::Invalid => Code::Unavailable,
        UpstreamFault::Timeout => Code::DeadlineExceeded,
        UpstreamFault::Unauthorized => Code::FailedPrecondition,
    }
}

/// Nobody is let in.
pub(super) fn of_refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Anonymous => StatusBuilder::new(
            Code::Unauthenticated,
            "UNAUTHENTICATED",
            "send a token of a configured issuer, or a gateway token, in the metadata: authorization: Bearer <token>",
        )
        .build(),
        Refusal::Token(why) => StatusBuilder::new(
            Code::Unauthenticated,
            "TOKEN_INVALID",
            format!("the token was refused: {why}"),
        )
        .with("detail", why)
        .build(),
        Refusal::IssuerUnreachable => StatusBuilder::new(
            Code::Unavailable,
            "TOKEN_INVALID",
            "the token's issuer cannot be reached to verify it; retry",
        )
        .build(),
        Refusal::Unavailable(error) => of_call(error),
    }
}

/// A discovery that failed.
pub(super) fn of_discovery(failure: &Failure, installation: &Installation, links: &Links) -> Status {
    let (reason, message) = match failure {
        Failure::Transient(what) => {
            tracing::warn!(installation.uid = %installation.uid, error = %what, "a discovery on demand failed");
            let message = "another of Chandlery's services did not answer; retry";
            return StatusBuilder::new(Code::Unavailable, "SERVICE_UNAVAILABLE", message).build();
        }
        Failure::Installation { reason, message } => (*reason, message),
    };
    let (code, reason) = match reason {
        "UPSTREAM_TIMEOUT" => (Code::DeadlineExceeded, reason),
        "UPSTREAM_UNREACHABLE" | "UPSTREAM_INVALID" => (Code::Unavailable, reason),
        "UPSTREAM_UNAUTHORIZED" if installation.vends_headers => (Code::FailedPrecondition, "CREDENTIAL_EXPIRED"),
        "DESTINATION_CHANGED" => (Code::FailedPrecondition, "CREDENTIAL_EXPIRED"),
        _ => (Code::FailedPrecondition, reason),
    };
    let entry = format!("entries/{}", installation.entry);
    let mut status = StatusBuilder::new(code, reason, message).with("entry", entry);
    if code == Code::FailedPrecondition {
        status = status.link(
            "Repair it here, then try again",
            links.install(&installation.entry, None),
        );
    }
    status.build()
}

/// An installation whose server cannot be asked.
pub(super) fn unusable(installation: &Installation, links: &Links) -> Status {
    let why = [&installation.credential.message, &installation.runtime.message];
    let why = why
        .into_iter()
        .find(|why| !why.is_empty())
        .map_or("it is not ready", String::as_str);
    let credential = &installation.credential;
    let reason = match (credential.status, credential.reason.as_str()) {
        (ConditionState::False, "CREDENTIAL_REQUIRED") => "CREDENTIAL_REQUIRED",
        (ConditionState::False, _) => "CREDENTIAL_EXPIRED",
        (ConditionState::True | ConditionState::Unknown, _) => "INSTALLATION_UNAVAILABLE",
    };
    StatusBuilder::new(
        Code::FailedPrecondition,
        reason,
        format!("its server cannot be asked now: {why}"),
    )
    .with("entry", format!("entries/{}", installation.entry))
    .link(
        "Repair it here, then try again",
        links.install(&installation.entry, None),
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
