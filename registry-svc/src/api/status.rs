//! How gRPC tells what went wrong (AIP-193). The one place where errors become a `Status`.

use service_kit::status::{StatusBuilder, internal, not_found};
use tonic::{Code, Status};

use crate::domain::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let of = |code, reason| StatusBuilder::new(code, reason, text.clone());
        match error {
            Error::Invalid(violations) => violations.into(),
            Error::NotFound(name) => not_found(&name),
            Error::Denied { required, .. } => of(Code::PermissionDenied, "PERMISSION_DENIED")
                .with("required", required)
                .build(),
            Error::UserDeactivated => of(Code::Unauthenticated, "USER_DEACTIVATED").build(),
            Error::AlreadyExists(name) => of(Code::AlreadyExists, "ALREADY_EXISTS").with("resource", name).build(),
            Error::EtagMismatch(name) => of(Code::Aborted, "ETAG_MISMATCH").with("resource", name).build(),
            Error::IllegalTransition(_) => of(Code::FailedPrecondition, "ILLEGAL_TRANSITION").build(),
            Error::EntryNotApproved(name) => of(Code::FailedPrecondition, "ENTRY_NOT_APPROVED")
                .with("entry", name)
                .build(),
            Error::EntryInstalled { entry, installations } => of(Code::FailedPrecondition, "ENTRY_INSTALLED")
                .with("entry", entry)
                .with("installations", installations.len().to_string())
                .build(),
            Error::TeamInUse(_) => of(Code::FailedPrecondition, "TEAM_IN_USE").build(),
            Error::ToolUnknown { entry, tool } => of(Code::FailedPrecondition, "TOOL_UNKNOWN")
                .with("entry", entry)
                .with("tool", tool)
                .build(),
            Error::SharedAccountNotConfirmed => of(Code::FailedPrecondition, "SHARED_ACCOUNT_NOT_CONFIRMED").build(),
            Error::RequestIdReused => of(Code::InvalidArgument, "REQUEST_ID_REUSED").build(),
            Error::PageTokenInvalid => of(Code::InvalidArgument, "PAGE_TOKEN_INVALID").build(),
            Error::Storage(error) => storage(&error),
            Error::Internal(text) => {
                tracing::error!(error = %text, "a call failed by a fault of the registry");
                internal()
            }
        }
    }
}

fn storage(error: &sqlx::Error) -> Status {
    if is_unavailable(error) {
        tracing::warn!(error = %error, "the database did not answer");
        let text = "the registry's database did not answer: retry";
        return StatusBuilder::new(Code::Unavailable, "STORAGE_UNAVAILABLE", text).build();
    }
    tracing::error!(error = %error, "a statement failed");
    internal()
}

/// Whether the same call may work in a moment.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // PostgreSQL: connection failures, resources, shutdown, serialization. SQLite: busy, locked, full, I/O.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P", "40"]
                .iter()
                .any(|class| code.len() == 5 && code.starts_with(class))
                || code
                    .parse::<u32>()
                    .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13) && code < 10_000)
        }),
        _ => false,
    }
}
