//! Why a call fails. Both APIs map these: `mcp` to JSON-RPC and tool results, `api` to gRPC statuses.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;

use super::ConsumerRef;

/// Why a call fails, for the person or program that made it. Never holds a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// The caller has something to install or repair first.
    #[error("{}", .0.message)]
    Repair(Box<Repair>),
    /// There is no such gateway or agent, or the caller may not use it: the error does not say which.
    #[error("{0} does not exist, or you may not use it")]
    ConsumerNotFound(ConsumerRef),
    /// The gateway or agent has no such tool for this caller.
    #[error("there is no tool {0:?} here; list the tools to see their names")]
    ToolNotFound(String),
    /// No server here has a prompt of this name, or a resource of this URI, for this caller.
    #[error("there is no {what} {name:?} here; list them to see what there is")]
    NotFound {
        /// `prompt` or `resource`.
        what: &'static str,
        /// As the client asked for it.
        name: String,
    },
    /// The server does not offer what the request is about.
    #[error("the server does not offer this")]
    NotOffered,
    /// The arguments are no JSON object, for example: what is wrong with the call itself.
    #[error("{0}")]
    InvalidCall(String),
    /// The upstream failed.
    #[error("{message}")]
    Upstream {
        /// Slug of the entry whose server it is.
        entry: Arc<str>,
        /// In which way.
        fault: UpstreamFault,
        /// For people: who is at fault and what to do.
        message: String,
        /// When the call should be sent again, where that is known.
        again: Option<Duration>,
    },
    /// The upstream answered with a JSON-RPC error, which is passed on to the caller as it is.
    #[error("the server of {entry} answered with the error {code}: {message}")]
    UpstreamError {
        /// Slug of the entry whose server it is.
        entry: Arc<str>,
        /// Its `code`.
        code: i64,
        /// Its `message`.
        message: String,
        /// The whole error object.
        error: Arc<RawValue>,
    },
    /// Other answers take all the memory that there is for answers.
    #[error(
        "other large answers left no memory for this one within {} s; the tool may have done its work: before you call it again, read the answers that wait for you, and make fewer such calls at a time",
        within.as_secs_f32()
    )]
    NoRoom {
        /// How long the call waited.
        within: Duration,
    },
    /// The client cancelled the call.
    #[error("the call was cancelled")]
    Cancelled,
    /// This replica is stopping, and no server has received the call.
    #[error("the gateway is stopping, and the tool was not called; call it again in a few seconds")]
    Stopping,
    /// This replica stops before the server has answered.
    #[error(
        "the gateway stopped before the server had answered, and told it to cancel the call; the tool may have done its work: check that before you call it again"
    )]
    Interrupted,
    /// There is no credential for the call, and no page on which the caller could put that right.
    #[error("{message}")]
    Credential {
        /// Slug of the entry.
        entry: Arc<str>,
        /// Why.
        fault: CredentialFault,
        /// For people: who can do what.
        message: String,
        /// When the call should be sent again, where that is known.
        again: Option<Duration>,
    },
    /// credential-svc did not answer.
    #[error("credentials are unavailable; retry")]
    CredentialsUnavailable,
    /// The registry has been unreachable for too long, or was never reached.
    #[error("the registry has been unreachable for too long; retry later")]
    RegistryUnavailable,
    /// An internal error; the log has the cause.
    #[error("internal error; see the server log")]
    Internal,
}

/// When a call that failed with [`CallError::Stopping`] should be sent again: to another replica, or to this one once it is started again.
pub(crate) const RESTARTED: Duration = Duration::from_secs(5);

/// When a call should be sent again that found the server without a process free for it. As long as bridges say in `retry-after`.
pub(crate) const FREE: Duration = Duration::from_secs(5);

/// In which way an upstream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFault {
    /// It could not be connected to, or may not be; or it is still starting. It did not receive the call.
    Unreachable,
    /// Its runtime ended during the call.
    Ended,
    /// It has no process free for the call, and did not receive it.
    Busy,
    /// It did not answer in time.
    Timeout,
    /// It answered something that is not MCP, or too much of it.
    Invalid,
    /// It refuses the credential (401), and there is none to replace it.
    Unauthorized,
}

/// Why there is no credential for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialFault {
    /// It is made from the caller's JWT, and they called with a gateway token or with a JWT of another issuer or audience.
    CallerTokenRequired,
    /// It is made from the caller's JWT, which the authorization server or the upstream does not accept.
    CallerTokenRefused,
    /// The authorization server does not answer.
    AuthorizationServerUnavailable,
}

/// What the caller has to install or repair, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Which of them.
    pub(crate) reason: RepairReason,
    /// Slug of the entry.
    pub(crate) entry: Arc<str>,
    /// What people call the entry.
    pub(crate) display_name: Arc<str>,
    /// Names the entry and says what to do. Does not hold the link.
    pub(crate) message: String,
    /// The install link.
    pub(crate) install_url: String,
}

/// Why nothing can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RepairReason {
    /// The caller has not connected the entry yet.
    CredentialRequired,
    /// The upstream refuses the credential.
    CredentialExpired,
    /// The upstream demands scopes that the credential does not have.
    ScopeRequired,
    /// The credential would go elsewhere than its owner agreed to.
    DestinationChanged,
    /// The installation does not work at present.
    InstallationUnavailable,
    /// The installation's server does not have this tool.
    ToolUnavailable,
}

impl RepairReason {
    /// What the reason of a `CREDENTIAL_READY` that is false means for a caller.
    pub(crate) fn of_condition(reason: &str) -> Self {
        match reason {
            "CREDENTIAL_REQUIRED" | "ENTRY_CREDENTIAL_REQUIRED" => Self::CredentialRequired,
            "DESTINATION_CHANGED" => Self::DestinationChanged,
            _ => Self::CredentialExpired,
        }
    }

    /// As in `structuredContent.error`: `credential_required`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CredentialRequired => "credential_required",
            Self::CredentialExpired => "credential_expired",
            Self::ScopeRequired => "scope_required",
            Self::DestinationChanged => "destination_changed",
            Self::InstallationUnavailable => "installation_unavailable",
            Self::ToolUnavailable => "tool_unavailable",
        }
    }
}

impl CredentialFault {
    /// As in `structuredContent.error`: `caller_token_required`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CallerTokenRequired => "caller_token_required",
            Self::CallerTokenRefused => "caller_token_refused",
            Self::AuthorizationServerUnavailable => "authorization_server_unavailable",
        }
    }
}

impl UpstreamFault {
    /// As in `structuredContent.error`: `upstream_unreachable`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Ended => "upstream_unreachable",
            Self::Busy => "upstream_busy",
            Self::Timeout => "upstream_timeout",
            Self::Invalid => "upstream_invalid",
            Self::Unauthorized => "upstream_unauthorized",
        }
    }
}

impl From<Repair> for CallError {
    fn from(repair: Repair) -> Self {
        Self::Repair(Box::new(repair))
    }
}
