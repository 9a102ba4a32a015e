//! What can go wrong with an upstream: always its own fault, or that of the entry which names it.

use std::time::Duration;

use crate::json::JsonError;

/// Why an upstream gave no answer that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the server did not {what} within {} s", within.as_secs_f32())]
    Timeout {
        /// What it did not do.
        what: &'static str,
        /// The limit.
        within: Duration,
    },
    /// HTTP 401: it does not take the credential.
    #[error("the server refused the credential (HTTP 401)")]
    Unauthorized,
    /// Not MCP, or too much of it.
    #[error("the server's answer cannot be used: {0}")]
    Invalid(String),
    /// The client gave the call up.
    #[error("the call was cancelled")]
    Cancelled,
}

impl UpstreamError {
    /// As in the reason of a `TOOLS_DISCOVERED` that is false.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "UPSTREAM_UNREACHABLE",
            Self::Timeout { .. } => "UPSTREAM_TIMEOUT",
            Self::Unauthorized => "CREDENTIAL_EXPIRED",
            Self::Invalid(_) | Self::Cancelled => "UPSTREAM_INVALID",
        }
    }

    /// For people: who is to do something about the server of the entry of this name.
    pub(crate) fn told_of(&self, name: &str) -> String {
        match self {
            Self::Unreachable(why) => format!(
                "The MCP server of {name} cannot be reached: {why}. Check that it runs; if it moved, an admin corrects its entry's URL."
            ),
            Self::Timeout { .. } | Self::Unauthorized | Self::Invalid(_) | Self::Cancelled => {
                format!("The MCP server of {name} is at fault: {self}.")
            }
        }
    }

    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }
}

impl From<JsonError> for UpstreamError {
    fn from(error: JsonError) -> Self {
        Self::Invalid(error.to_string())
    }
}
