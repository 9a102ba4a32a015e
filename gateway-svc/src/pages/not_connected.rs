//! Why no account was connected, and who can do what about it.

use axum::http::StatusCode;
use contracts::credential::ErrorReason;
use serde::{Deserialize, Serialize};
use service_kit::status::reason_of;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::problem::Problem;
use crate::sentence::as_sentence;

/// How much of a text is repeated.
const SHOWN: usize = 600;

/// Why no account was connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotConnected {
    why: Why,
    /// What a service says of it, for people.
    detail: String,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Why {
    /// It was not begun in this browser, or not lately.
    Foreign,
    /// What came back is no answer of an authorization server.
    Malformed,
    /// The session ended meanwhile.
    SignedOut,
    /// Another person has signed in meanwhile.
    SomebodyElse,
    /// A quota is used up.
    TooMuch,
    /// credential-svc does not know the sign-in any more.
    Over,
    /// The person, or the authorization server, did not allow it.
    Denied,
    /// The authorization server does not answer.
    Away,
    /// The authorization server asks for a pause.
    Pauses,
    /// So many wait for the authorization server that it was not asked.
    Busy,
    /// The authorization server cannot be used as the entry says.
    Unusable,
    /// The opener must agree to another destination first.
    Moved,
    /// Something is to be entered first.
    Incomplete,
    /// The opener may not, or the entry is not for it.
    NotPossible,
    /// A part of Chandlery did not answer.
    Unavailable,
    /// The log has the cause.
    Internal,
}

impl From<Why> for NotConnected {
    fn from(why: Why) -> Self {
        Self::new(why, "")
    }
}

impl NotConnected {
    pub(super) fn new(why: Why, detail: impl AsRef<str>) -> Self {
        let detail = as_sentence(detail.as_ref()).chars().take(SHOWN).collect();
        Self { why, detail }
    }

    /// An authorization server whose page cannot be opened.
    pub(super) fn unusable() -> Self {
        Self::new(Why::Unusable, "its authorization endpoint is no web page")
    }

    /// What credential-svc answered.
    pub(super) fn of(status: &Status) -> Self {
        use ErrorReason as Reason;
        let why = match (status.code(), reason_of(status, Reason::from_str_name)) {
            (_, Some(Reason::AuthorizationStateInvalid)) => return Why::Over.into(),
            (_, Some(Reason::AuthorizationDenied)) => Why::Denied,
            (_, Some(Reason::AuthorizationServerUnavailable)) => match status.get_details_retry_info() {
                Some(_) => Why::Pauses,
                None => Why::Away,
            },
            (_, Some(Reason::AuthorizationServerBusy)) => Why::Busy,
            (_, Some(Reason::AuthorizationServerRefused)) => Why::Unusable,
            (_, Some(Reason::DestinationStale | Reason::DestinationChanged)) => return Why::Moved.into(),
            (_, Some(Reason::CredentialRequired)) => Why::Incomplete,
            (Code::Unauthenticated, _) => return Why::SignedOut.into(),
            (Code::ResourceExhausted, _) => Why::TooMuch,
            (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, _) => return Why::Unavailable.into(),
            (Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound, _) => {
                Why::NotPossible
            }
            (code, _) => {
                tracing::error!(rpc.code = ?code, error = status.message(), "an account could not be connected");
                return Why::Internal.into();
            }
        };
        Self::new(why, status.message())
    }

    /// Whether the opener has to sign in to Chandlery first.
    pub(super) fn requires_sign_in(&self) -> bool {
        self.why == Why::SignedOut
    }

    /// The page.
    pub(super) fn problem(&self) -> Problem {
        let (status, title, text) = match self.why {
            Why::Foreign => (
                StatusCode::BAD_REQUEST,
                "This sign-in does not belong to this browser",
                "It was started in another browser, has expired, or is already complete. Open the installation in the browser in which you started, and connect again.",
            ),
            Why::Malformed => (
                StatusCode::BAD_REQUEST,
                "This is no answer of an authorization server",
                "Something that it must have is missing, too long or there twice. Connect again; if it persists, tell the people who run Chandlery.",
            ),
            Why::SignedOut => (
                StatusCode::UNAUTHORIZED,
                "Your session has ended",
                "You were signed out of Chandlery while you were away. Sign in again, then connect again.",
            ),
            Why::SomebodyElse => (
                StatusCode::FORBIDDEN,
                "Somebody else has signed in",
                "In this browser, another person is signed in than the one who started to connect the account. Sign out, sign in as that person, and connect again.",
            ),
            Why::TooMuch => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                "Connect again later.",
            ),
            Why::Over => (
                StatusCode::BAD_REQUEST,
                "This sign-in is no longer valid",
                "It has expired or is already complete, or the answer came from another authorization server than the one you were sent to. Connect again.",
            ),
            Why::Denied => (
                StatusCode::FORBIDDEN,
                "Access was not allowed",
                "If you want to allow it, connect again.",
            ),
            Why::Away => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The authorization server does not answer",
                "Neither you nor Chandlery is at fault. Connect again in a moment; if it persists, ask the people who run that server.",
            ),
            Why::Pauses => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The authorization server asks for a pause",
                "It limits requests, or is busy. Connect again when it says; if it persists, ask the people who run that server.",
            ),
            Why::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Many requests wait for the authorization server",
                "It may be slow. Connect again in a moment; if it persists, ask the people who run that server.",
            ),
            Why::Unusable => (
                StatusCode::BAD_GATEWAY,
                "The authorization server cannot be used",
                "An admin must change the entry or the authorization server. Tell the people who curate this entry what it says here.",
            ),
            Why::Moved => (
                StatusCode::CONFLICT,
                "The destination has changed",
                "The entry was changed since you opened its page. Look at the installation, agree to where your access would go now, then connect again.",
            ),
            Why::Incomplete => (
                StatusCode::CONFLICT,
                "Something is missing",
                "Enter it in the form of the installation, then connect again.",
            ),
            Why::NotPossible => (
                StatusCode::FORBIDDEN,
                "This cannot be connected",
                "The page of the installation shows its state; the people who curate this entry can say more.",
            ),
            Why::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Chandlery is temporarily unavailable",
                "A part of it did not answer in time. Connect again in a moment.",
            ),
            Why::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The server log has the cause. Connect again; if it persists, tell the people who run Chandlery.",
            ),
        };
        let detail = if self.detail.is_empty() {
            String::new()
        } else {
            format!("{} ", self.detail)
        };
        Problem::new(status, title, format!("{detail}Nothing was changed. {text}"))
    }
}
