//! Installations, as far as calls go.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use service_kit::UserId;
use url::Url;

/// An installation and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Unique for ever; also the id in `installations/{installation}`.
    pub(crate) uid: Arc<str>,
    /// Uid of its entry.
    pub(crate) entry_uid: Arc<str>,
    /// Slug of its entry.
    pub(crate) entry: Arc<str>,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Counts the changes of what should be.
    pub(crate) generation: i64,
    /// Counts the effective credential's changes.
    pub(crate) credential_generation: i64,
    /// Where its server is; `None` while nothing runs.
    pub(crate) endpoint: Option<Endpoint>,
    /// What secrets for it are bound to, as in `registry_client::destination`; `None` for an entry without server.
    pub(crate) destination: Option<Arc<str>>,
    /// Whether credential-svc holds secrets that go into headers; where not, nothing is vended.
    pub(crate) vends_headers: bool,
    /// Additional headers and the non-secret install fields that go into headers: name and value, in the order of the entry.
    pub(crate) fixed_headers: Vec<(String, String)>,
    /// Whether its entry is self-hosted.
    pub(crate) self_hosted: bool,
    /// `CREDENTIAL_READY`.
    pub(crate) credential: Aspect,
    /// `RUNTIME_READY`; of no meaning where the entry is remote.
    pub(crate) runtime: Aspect,
    /// `TOOLS_DISCOVERED`.
    pub(crate) tools: Aspect,
    /// Whether it ever was ready.
    pub(crate) once_ready: bool,
    /// When it was made.
    pub(crate) created: SystemTime,
    /// Whether it waits for cleanup.
    pub(crate) deleted: bool,
}

/// Whose an installation is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// One person's.
    User(UserId),
    /// A team's, by slug.
    Team(Arc<str>),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Aspect {
    /// How it stands.
    pub(crate) status: ConditionState,
    /// UPPER_SNAKE_CASE; empty where nobody has reported.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
    /// The generation it speaks of.
    pub(crate) observed_generation: i64,
}

/// How a condition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum ConditionState {
    /// Nobody has reported, or work is under way.
    #[default]
    Unknown,
    /// As it should be.
    True,
    /// Not as it should be.
    False,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// A remote server, as an admin wrote it: the egress policy applies.
    Remote(Url),
    /// A server that the orchestrator runs, over HTTP: exempt from the egress policy.
    Runtime(Url),
    /// A server that the orchestrator runs, behind the bridge on a Unix socket (path `/mcp`).
    Socket(PathBuf),
}

impl Owner {
    /// `users/{user}` or `teams/{team}`.
    pub(crate) fn resource_name(&self) -> String {
        match self {
            Self::User(id) => id.resource_name(),
            Self::Team(slug) => format!("teams/{slug}"),
        }
    }
}

impl Installation {
    /// `installations/{installation}`.
    pub(crate) fn resource_name(&self) -> String {
        format!("installations/{}", self.uid)
    }

    /// Whether a call can go there: its secrets are there and its server runs. Whether its tools are known does not matter:
    /// a discovery that failed must not keep calls from a server that has come back.
    pub(crate) fn usable(&self) -> bool {
        !self.deleted
            && self.endpoint.is_some()
            && self.credential.status == ConditionState::True
            && (!self.self_hosted || self.runtime.status != ConditionState::False)
    }
}
