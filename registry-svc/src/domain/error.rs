//! Everything that can go wrong, as callers see it.

use service_kit::{identity::USER_DEACTIVATED, status::Violations};

/// Why an operation failed. `api::status` maps it to a gRPC status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Invalid fields: all of them.
    #[error("some fields are invalid")]
    Invalid(Violations),
    /// Does not exist, or the caller may not see it.
    #[error("{0} does not exist, or you may not see it")]
    NotFound(String),
    /// Visible, but forbidden.
    #[error("{what}")]
    Denied {
        /// What is forbidden, as people read it.
        what: String,
        /// What would allow it: `admin`, `owner`, or the name of a workload.
        required: &'static str,
    },
    /// The user is deactivated.
    #[error("{USER_DEACTIVATED}")]
    UserDeactivated,
    /// The name is taken.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The previous object with this name has not been removed completely.
    #[error("{0} was just deleted, and gateway tokens are still limited to it: retry in a few seconds")]
    BeingDeleted(String),
    /// Another assignment has the exposed name.
    #[error("the exposed name {name} is taken by {}", by.as_deref().unwrap_or("another assignment"))]
    ExposedNameTaken {
        /// The name.
        name: String,
        /// Resource name of the assignment that has it, where the caller may see it.
        by: Option<String>,
    },
    /// The resource has changed since it was read.
    #[error("{0} was changed since you read it: read it again, then retry")]
    EtagMismatch(String),
    /// The lifecycle does not allow this step.
    #[error("{0}")]
    IllegalTransition(String),
    /// Only approved entries can be installed.
    #[error("{0} is not approved, so it cannot be installed: an admin approves it with ApproveEntry")]
    EntryNotApproved(String),
    /// The entry has installations.
    #[error(
        "{entry} is installed {count} times: delete these installations first, or set `force` to delete them with it, and their credentials and runtimes: {}",
        names(some)
    )]
    EntryInstalled {
        /// Its resource name.
        entry: String,
        /// How many.
        count: i64,
        /// The uids of some.
        some: Vec<String>,
    },
    /// The team still owns something.
    #[error("{0}")]
    TeamInUse(String),
    /// The entry has no such tool.
    #[error(
        "{field}: {entry} has no tool {tool}{}",
        if *discovered { "" } else { "; none is discovered yet: install it first, or assign all_tools" }
    )]
    ToolUnknown {
        /// Path of the field that names it.
        field: String,
        /// Resource name of the entry.
        entry: String,
        /// The server's own name of it.
        tool: String,
        /// Whether any tool of it is known.
        discovered: bool,
    },
    /// Everybody who may use the gateway or agent would call with one person's account.
    #[error(
        "everybody who may use it would call with the account of the installation's owner: set confirm_shared_account to agree"
    )]
    SharedAccountNotConfirmed,
    /// The request id was used with a different request.
    #[error("this request_id was used with a different request: use a new one")]
    RequestIdReused,
    /// The page token is of another list, or broken.
    #[error("page_token was not made for this request: ask for the first page with an empty one")]
    PageTokenInvalid,
    /// Another orchestrator runs the servers.
    #[error("this is not reported under the present lease for running servers: another orchestrator holds it")]
    LeaseLost,
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] StorageError),
    /// Internal error.
    #[error("{0}")]
    Internal(String),
}

/// How the database failed. The cause is for the log: callers never see it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// It did not answer, or could not do it now: the same call may succeed in a moment.
    #[error("the database did not answer: {0}")]
    Unavailable(#[source] Cause),
    /// A newer version of Chandlery wrote what was asked for.
    #[error("{0}")]
    SchemaNewer(#[source] Cause),
    /// Anything else: a bug, or a database that is damaged.
    #[error("a statement failed: {0}")]
    Failed(#[source] Cause),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

impl Error {
    /// One invalid field.
    pub(crate) fn invalid(field: &str, description: impl Into<String>) -> Self {
        let mut violations = Violations::new();
        violations.add(field, description);
        Self::Invalid(violations)
    }
}

/// The first of some installations, as resource names.
fn names(uids: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<String> = uids
        .iter()
        .take(SHOWN)
        .map(|uid| format!("installations/{uid}"))
        .collect();
    if uids.len() > SHOWN {
        names.push("…".to_owned());
    }
    names.join(", ")
}
