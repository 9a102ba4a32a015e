//! Whom a revision may concern: those who may see other tools since, or none any more.

use std::{collections::HashSet, sync::Arc};

use crate::domain::ConsumerRef;

/// What a watcher is woken by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Topic {
    /// What a gateway or agent exposes, and to whom.
    Consumer(ConsumerRef),
    /// What a person or a team has: `users/{user}` or `teams/{team}`.
    Subject(Arc<str>),
}

/// Whom the changes of a revision may concern. Whoever is not among them sees the same tools as before.
#[derive(Debug, Default)]
pub(super) enum Concerned {
    /// What was before is not known.
    #[default]
    Everybody,
    These(HashSet<Topic>),
}

impl Concerned {
    pub(super) fn nobody() -> Self {
        Self::These(HashSet::new())
    }

    pub(super) fn consumer(&mut self, name: &ConsumerRef) {
        if let Self::These(topics) = self {
            topics.insert(Topic::Consumer(name.clone()));
        }
    }

    /// `users/{user}` or `teams/{team}`.
    pub(super) fn subject(&mut self, name: String) {
        if let Self::These(topics) = self {
            topics.insert(Topic::Subject(name.into()));
        }
    }

    pub(super) fn everybody(&mut self) {
        *self = Self::Everybody;
    }
}
