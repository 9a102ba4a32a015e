//! What a page says when it cannot do what was asked.

use axum::http::StatusCode;
use contracts::{credential, registry};
use service_kit::{quota::Exceeded, status::reason_of};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{buffers::Unread, sentence::as_sentence};

/// A page that explains.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) text: String,
    /// What to do next: text and path.
    pub(super) action: Option<(&'static str, String)>,
    /// Whether the session is no longer valid.
    pub(super) ends_session: bool,
    /// Seconds after which it is worth to try again, where it is.
    pub(super) retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            title,
            text: text.into(),
            action: None,
            ends_session: false,
            retry_after: None,
        }
    }

    #[must_use]
    pub(super) fn action(mut self, label: &'static str, path: impl Into<String>) -> Self {
        self.action = Some((label, path.into()));
        self
    }

    /// Something that does not exist, or is invisible to this opener.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Not found",
            "What this link names does not exist, or you may not see it with the account you are signed in with. \
             Check the link, or ask the people who run Chandlery for access.",
        )
    }

    /// A form that did not come from our own page.
    pub(super) fn forged(back: String) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This form is no longer valid",
            "It was not sent from your own page, or you have signed in again since you opened it. Nothing was changed. \
             Open the page again and repeat what you entered.",
        )
        .action("Open the page again", back)
    }

    /// A form that was not read.
    pub(super) fn unread(why: Unread) -> Self {
        let (status, title, text) = match why {
            Unread::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "The form is too large",
                "What you sent is larger than any form this page makes. Each secret may have at most 64 KiB. Nothing was changed.",
            ),
            Unread::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "The form took too long",
                "The form did not arrive in time. Nothing was changed. Try again; a better connection may help.",
            ),
            Unread::BrokeOff => (
                StatusCode::BAD_REQUEST,
                "The form did not arrive",
                "The connection broke off. Nothing was changed. Try again.",
            ),
            Unread::TooMuch => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many forms at a time",
                "You are sending more large forms at a time than one person may. Nothing was changed. Try again when they have arrived.",
            ),
            Unread::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many forms at a time",
                "More is being sent than there is room for. Nothing was changed. Try again in a moment.",
            ),
        };
        Self::new(status, title, text)
    }

    /// A quota is used up.
    pub(super) fn exceeded(exceeded: &Exceeded) -> Self {
        Self {
            retry_after: Some(exceeded.seconds()),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                as_sentence(&exceeded.to_string()),
            )
        }
    }

    /// A session that is over. `sign_in` leads back to where the opener was.
    pub(super) fn signed_out(sign_in: String) -> Self {
        Self {
            ends_session: true,
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "Your session has ended",
                "Nothing was changed. Sign in again to go on.",
            )
            .action("Sign in again", sign_in)
        }
    }

    /// A whole page for a call that failed. `sign_in` leads back to where the opener was.
    pub(super) fn of(status: &Status, sign_in: String, back: String) -> Self {
        match (status.code(), reason_of(status, registry::ErrorReason::from_str_name)) {
            (Code::Unauthenticated, Some(registry::ErrorReason::UserDeactivated)) => Self {
                ends_session: true,
                ..Self::new(
                    StatusCode::FORBIDDEN,
                    "This account is deactivated",
                    "An admin has deactivated your account. Ask an admin to reactivate it.",
                )
            },
            (Code::Unauthenticated, _) => Self::signed_out(sign_in),
            (Code::NotFound, _) => Self::not_found(),
            (Code::PermissionDenied, _) => {
                Self::new(StatusCode::FORBIDDEN, "You may not do this", sentence(status)).action("Go back", back)
            }
            (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, _) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Chandlery is temporarily unavailable",
                "A part of it did not answer in time. Try again in a moment.",
            )
            .action("Try again", back),
            (code, _) => {
                tracing::error!(rpc.code = ?code, rpc.reason = reason(status), error = status.message(), "a page could not be made");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Internal error",
                    "This is an internal error; the server log has the cause. Try again; if it persists, tell the people who run Chandlery.",
                )
                .action("Try again", back)
            }
        }
    }
}

/// `reason` of the status, for the log.
fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The field violations of a refused request: path and description of each.
pub(super) fn violations(status: &Status) -> Vec<(String, String)> {
    let bad = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default();
    bad.into_iter()
        .map(|violation| (violation.field, violation.description))
        .collect()
}

/// What went wrong with a submission, to be shown above the form.
pub(super) fn explain(status: &Status) -> String {
    let by_registry = reason_of(status, registry::ErrorReason::from_str_name);
    let by_credential = reason_of(status, credential::ErrorReason::from_str_name);
    match (status.code(), by_registry, by_credential) {
        (_, Some(registry::ErrorReason::EntryNotApproved), _) => {
            "This entry can no longer be installed. Ask the people who curate the catalog.".to_owned()
        }
        (_, Some(registry::ErrorReason::EtagMismatch), _) => {
            "Somebody changed this installation while you filled in the form. Look at it again, then save.".to_owned()
        }
        (_, _, Some(credential::ErrorReason::DestinationStale)) => {
            "The entry was changed again while you looked at it. Check where your credential would go now.".to_owned()
        }
        (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, _, _) => {
            "A part of Chandlery did not answer in time. Try again: what was done already is not done twice.".to_owned()
        }
        (
            Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::Aborted,
            _,
            _,
        ) => sentence(status),
        (code, _, _) => {
            tracing::error!(rpc.code = ?code, rpc.reason = reason(status), error = status.message(), "a submission failed");
            "An internal error occurred; the server log has the cause. Try again.".to_owned()
        }
    }
}

/// The message of our own services, which is written for people, as a sentence.
fn sentence(status: &Status) -> String {
    as_sentence(status.message())
}
