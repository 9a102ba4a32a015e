//! What can go wrong with an upstream.

use std::{
    error::Error as StdError,
    fmt, io,
    time::{Duration, SystemTime},
};

use http::StatusCode;

use super::target::{Endpoint, Target};
use crate::json::JsonError;

/// Why an upstream gave no answer that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It has failed too often in a row, and was not sent the request.
    #[error("{0}")]
    Away(Box<Away>),
    /// It took too long.
    #[error("the server did not {what} within {} s", within.as_secs_f32())]
    Timeout {
        /// What it did not do.
        what: &'static str,
        /// The limit.
        within: Duration,
    },
    /// HTTP 401: it refuses the credential.
    #[error("the server refused the credential (HTTP 401)")]
    Unauthorized,
    /// HTTP 403 with `insufficient_scope`: it accepts the credential, and demands scopes that the credential does not have.
    #[error(
        "the server demands scopes that the credential does not have (HTTP 403): {}",
        scopes_or_unknown(scopes)
    )]
    InsufficientScope {
        /// Which, separated by spaces; empty: it does not say.
        scopes: String,
    },
    /// Not MCP, or too much of it.
    #[error("the server's answer cannot be used: {0}")]
    Invalid(String),
    /// The connection to a self-hosted server ended before the answer did: what runs the server has ended. No fault of the server's.
    #[error("the server's runtime ended during the call")]
    RuntimeEnded,
    /// Other answers took all the memory there is for answers, and did not release it in time.
    #[error("no memory was free for the server's answer within {} s", within.as_secs_f32())]
    NoRoom {
        /// The limit.
        within: Duration,
    },
    /// The orchestrator stops the server, which did not receive the request.
    #[error("the server is being stopped")]
    NotTaken,
    /// It has as many requests in progress as it may, and did not receive this one.
    #[error("the server has as many requests in progress as it may")]
    TooManyRequests,
    /// Each session has a process of its own, and all of them have calls in progress. The server did not receive the request.
    #[error("all processes of the server are in use")]
    Full,
    /// The same, for as many of them as one caller may have.
    #[error("the caller uses as many processes of the server as one may have")]
    ShareUsed,
    /// The client cancelled the call.
    #[error("the call was cancelled")]
    Cancelled,
    /// The server does not offer what the request is about, and was not sent it.
    #[error("the server does not offer this")]
    NotOffered,
}

impl UpstreamError {
    /// Whether the server may have received the request, and carried it out.
    pub(super) const fn may_be_carried_out(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Invalid(_) | Self::RuntimeEnded | Self::NoRoom { .. } | Self::Cancelled => {
                true
            }
            Self::Unreachable(_)
            | Self::Away(_)
            | Self::Unauthorized
            | Self::InsufficientScope { .. }
            | Self::NotTaken
            | Self::TooManyRequests
            | Self::Full
            | Self::ShareUsed
            | Self::NotOffered => false,
        }
    }
}

/// A server that has failed too often in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Away {
    /// How often.
    pub(crate) failures: u32,
    /// Since when.
    pub(crate) since: SystemTime,
    /// For how long that is.
    pub(super) lasts: Duration,
    /// How, at last.
    pub(crate) what: Failure,
    /// Why there is no connection, which may name an address; empty where it failed otherwise.
    pub(super) why: String,
    /// When it is tried again; where that is past, it is being tried, or is by the next request.
    pub(crate) until: SystemTime,
    /// In how long that is; zero where it is past.
    pub(super) again: Duration,
}

/// How a server fails, whatever it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no connection to it.
    Connect,
    /// What is in front of it answers with this HTTP status.
    Gateway(u16),
    /// It does not answer.
    Silence,
}

impl Failure {
    /// That of a server whose response has this status: something in front of it has made that, which cannot get one of the server; unless it is a
    /// message of MCP.
    pub(super) fn in_front(status: StatusCode) -> Option<Self> {
        let is_one = matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        is_one.then(|| Self::Gateway(status.as_u16()))
    }
}

impl Away {
    /// When a request should be sent again: in whole seconds, and not at once while others try.
    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_secs((self.again.as_secs_f32().ceil() as u64).max(1))
    }

    /// The failure alone, which remains the same from one request to the next.
    pub(crate) fn failure(&self) -> UpstreamError {
        UpstreamError::Unreachable(match self.what {
            Failure::Connect => self.why.clone(),
            what => what.to_string(),
        })
    }

    /// How it failed last, for those who may see its address.
    fn last(&self) -> String {
        match self.what {
            Failure::Connect => format!("{}: {}", self.what, self.why),
            what => what.to_string(),
        }
    }

    /// What happened, and what will, `last` being how it failed last.
    fn told(&self, last: &str) -> String {
        let Self {
            failures, lasts, again, ..
        } = self;
        let next = match again.as_secs_f32().ceil() {
            0.0 => "It is being tried again now".to_owned(),
            seconds => format!("It is tried again in {seconds} s, by the next request"),
        };
        let lasts = match lasts.as_secs() {
            0 => String::new(),
            seconds => format!(", for {seconds} s"),
        };
        format!("has failed {failures} times in a row{lasts}: {last}. Calls are refused until it answers. {next}")
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server {}", self.told(&self.last()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("it cannot be reached"),
            Self::Gateway(status) => write!(f, "something in front of it answers HTTP {status}"),
            Self::Silence => f.write_str("it does not answer"),
        }
    }
}

impl UpstreamError {
    /// As in the reason of a `TOOLS_DISCOVERED` that is false, or of a discovery that failed otherwise.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Away(_) | Self::NotTaken | Self::RuntimeEnded => "UPSTREAM_UNREACHABLE",
            Self::TooManyRequests | Self::Full | Self::ShareUsed => "UPSTREAM_BUSY",
            Self::Timeout { .. } | Self::NoRoom { .. } => "UPSTREAM_TIMEOUT",
            Self::Unauthorized => "CREDENTIAL_EXPIRED",
            Self::InsufficientScope { .. } => "SCOPE_REQUIRED",
            Self::Invalid(_) | Self::Cancelled | Self::NotOffered => "UPSTREAM_INVALID",
        }
    }

    /// For the caller of a tool, who may not see the entry or the address of its server: without the cause of a failed connection.
    pub(crate) fn for_caller(&self, name: &str) -> String {
        match self {
            Self::Unreachable(_) => format!(
                "The MCP server of {name} cannot be reached. Chandlery's log says why; if it lasts, tell an admin."
            ),
            Self::Away(away) => format!(
                "The MCP server of {name} {}. Chandlery's log says why; if it lasts, tell an admin.",
                away.told(&away.what.to_string())
            ),
            Self::RuntimeEnded => format!(
                "The runtime of the MCP server of {name} ended during the call, and is started again. The tool may have done its work: check that, then call it again. If this happens again, an admin finds the reason in Chandlery's log."
            ),
            Self::Timeout { .. } => format!(
                "{} It may carry the request out all the same: check that before you send it again. If this happens again, an admin finds out why the server takes so long.",
                self.for_owner(name)
            ),
            _ => self.for_owner(name),
        }
    }

    /// For people who may see the entry: what happened to the server of the entry of this name, and who can repair it.
    pub(crate) fn for_owner(&self, name: &str) -> String {
        match self {
            Self::Unreachable(why) => format!(
                "The MCP server of {name} cannot be reached: {why}. Check that it runs; if it moved, an admin corrects its entry's URL."
            ),
            Self::Away(away) => format!(
                "The MCP server of {name} {}. Check that it runs; if it moved, an admin corrects its entry's URL.",
                away.told(&away.last())
            ),
            Self::NotTaken => {
                format!("The MCP server of {name} is being stopped, or started again. Try again in a moment.")
            }
            Self::TooManyRequests => format!(
                "The MCP server of {name} has as many calls in progress as it may, those of all callers together. Try again when some of them have ended."
            ),
            Self::Full => format!(
                "All processes of the MCP server of {name} are in use: each session has one of its own. Try again in a moment; sessions that are no longer used should be ended."
            ),
            Self::ShareUsed => format!(
                "You use as many processes of the MCP server of {name} as one caller may have: each session has one of its own. Wait until one of your calls has ended, then try again."
            ),
            Self::RuntimeEnded => format!(
                "The runtime of the MCP server of {name} ended before the server had answered, and is started again. If this happens again, an admin finds the reason in Chandlery's log."
            ),
            Self::NotOffered => format!("The MCP server of {name} does not offer this."),
            Self::NoRoom { .. } => format!("The tools of {name} could not be read: {self}."),
            // Where the entry has a credential, the vendor is asked for a newer one first, and people for another.
            Self::Unauthorized => format!(
                "The MCP server of {name} requires a credential (HTTP 401), but its entry declares none. An admin must correct the entry."
            ),
            Self::InsufficientScope { scopes } => format!(
                "The MCP server of {name} demands scopes that the credential does not have (HTTP 403): {}.",
                scopes_or_unknown(scopes)
            ),
            Self::Timeout { .. } | Self::Invalid(_) | Self::Cancelled => {
                let what = self.to_string();
                format!("The MCP server of {name} is at fault: {}.", what.trim_end_matches('.'))
            }
        }
    }

    /// Whether no request reaches the server, whoever sends it.
    pub(crate) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Away(_))
    }

    /// Without the secrets that the server was sent.
    pub(super) fn masked(self, target: &Target) -> Self {
        match self {
            Self::Invalid(what) => Self::Invalid(target.masked(&what)),
            Self::InsufficientScope { scopes } => Self::InsufficientScope {
                scopes: target.masked(&scopes),
            },
            other => other,
        }
    }

    /// The connection to this server failed, in a way that `what` names, before the answer had come.
    pub(super) fn broken(error: &(dyn StdError + 'static), endpoint: &Endpoint, what: impl Into<String>) -> Self {
        if endpoint.hosted && has_ended(error) {
            Self::RuntimeEnded
        } else {
            Self::invalid(format!("{}; it may have carried the request out", what.into()))
        }
    }

    /// Its answer cannot be used, since this is wrong with it.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }
}

fn scopes_or_unknown(scopes: &str) -> &str {
    if scopes.is_empty() {
        "it does not say which"
    } else {
        scopes
    }
}

/// Whether the peer ended the connection; else it sent what is not HTTP.
pub(super) fn has_ended(error: &(dyn StdError + 'static)) -> bool {
    let (mut ended, mut cause) = (false, Some(error));
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            ended |= error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        }
        cause = error.source();
    }
    ended
}

impl From<JsonError> for UpstreamError {
    fn from(error: JsonError) -> Self {
        Self::Invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_callers_contain_no_address() {
        let error = UpstreamError::Unreachable("db.internal: no route to 10.0.0.5".to_owned());
        let told = error.for_caller("Database");
        assert!(told.contains("Database"));
        assert!(!told.contains("10.0.0.5") && !told.contains("internal"), "{told}");
        assert!(error.for_owner("Database").contains("db.internal"));
    }

    /// Only one of the two can end it.
    #[test]
    fn a_caller_with_all_their_processes_in_use_is_told_to_wait_for_their_own_calls() {
        assert!(
            UpstreamError::ShareUsed
                .for_caller("Time")
                .contains("one of your calls has ended")
        );
        assert!(!UpstreamError::Full.for_caller("Time").contains("your calls"));
    }

    #[test]
    fn what_a_server_says_ends_with_one_full_stop() {
        for said in ["it refuses initialize: no.", "it refuses initialize: no"] {
            let told = UpstreamError::invalid(said).for_caller("Database");
            assert!(told.ends_with(": no."), "{told}");
        }
    }
}
