//! Installations, as far as calls go.

use std::{sync::Arc, time::SystemTime};

use registry_model::destination::ValuesByOthers;

/// An installation. There are many: what several share is in their entry, in the revision they run, and in their runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Unique for ever; also the id in `installations/{installation}`.
    pub(crate) uid: Arc<str>,
    /// Uid of its entry.
    pub(crate) entry_uid: Arc<str>,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Number of the entry revision it runs.
    pub(crate) revision: i64,
    /// Counts the changes of the desired state.
    pub(crate) generation: i64,
    /// Counts the puts of its own secrets.
    pub(crate) credential_generation: i64,
    /// Key and value of the non-secret install fields that were prompted for.
    pub(crate) values: Box<[(Arc<str>, Box<str>)]>,
    /// Set where another person than the owner of a personal one set its values: they are a part of its secrets' destination.
    pub(crate) foreign: Option<ValuesByOthers>,
    /// `CREDENTIAL_READY`: of its own secrets.
    pub(crate) credential: Condition,
    /// `RUNTIME_READY`; of no meaning where its entry is remote, or its server is shared.
    pub(crate) runtime: Condition,
    /// Whether it stays at an older entry revision until its owner has provided something.
    pub(crate) held: bool,
    /// The generation of which `TOOLS_DISCOVERED` is true; `None`: of none.
    pub(crate) discovered: Option<i64>,
    /// Hash of the set of tools it was discovered to have; `None`: never discovered.
    pub(crate) tools: Option<Arc<str>>,
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
    /// One person's, by user id.
    User(Arc<str>),
    /// A team's, by slug.
    Team(Arc<str>),
}

/// A condition of an entry or an installation, as its workload reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Whether it holds.
    pub(crate) status: ConditionState,
    /// UPPER_SNAKE_CASE; empty where nothing was reported.
    pub(crate) reason: Arc<str>,
    /// For people.
    pub(crate) message: Box<str>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionState {
    /// Nothing was reported, or work is in progress.
    Unknown,
    /// As it should be.
    True,
    /// Not as it should be.
    False,
}

impl Owner {
    /// `users/{user}` or `teams/{team}`.
    pub(crate) fn resource_name(&self) -> String {
        match self {
            Self::User(id) => format!("users/{id}"),
            Self::Team(slug) => format!("teams/{slug}"),
        }
    }
}

impl Installation {
    /// Whether nothing is missing for the first discovery of its present generation but a server.
    pub(crate) fn awaits_discovery(&self) -> bool {
        let is_known = self.discovered.is_some_and(|generation| generation >= self.generation);
        !self.deleted && !is_known && self.credential.status == ConditionState::True
    }

    /// `installations/{installation}`.
    pub(crate) fn resource_name(&self) -> String {
        format!("installations/{}", self.uid)
    }

    /// What was entered for an install field; `None` where nothing was.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(known, _)| **known == *key)?;
        Some(&**value).filter(|value| !value.is_empty())
    }
}
