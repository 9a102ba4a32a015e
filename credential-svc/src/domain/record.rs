//! What is kept of an owner's secrets.

use std::{collections::BTreeMap, fmt};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use registry_model::destination::{Change, covers};

use super::{
    destination::Agreed,
    plan::{Plan, Source},
};

/// Whose secrets they are. Uids are unique for ever, so a slug used again inherits nothing. Entries come first: many
/// installations may wait for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Uid of an entry.
    Entry(String),
    /// Uid of an installation.
    Installation(String),
}

impl Owner {
    /// `installation` or `entry`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Installation(_) => "installation",
            Self::Entry(_) => "entry",
        }
    }

    pub(crate) fn uid(&self) -> &str {
        match self {
            Self::Installation(uid) | Self::Entry(uid) => uid,
        }
    }

    /// Which of a plan's fields it has the values of.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Installation(_) => Source::Prompted,
            Self::Entry(_) => Source::Stored,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.uid())
    }
}

/// Everything about an owner's secrets but the secrets. The default is an owner that never had any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Counts the changes: puts, deletions, confirmations. Grows beyond what was told to others where a backup was restored.
    pub(crate) generation: i64,
    /// Where the values may go; empty while there are none.
    pub(crate) bound_destination: String,
    /// By key.
    pub(crate) fields: BTreeMap<String, StoredField>,
}

/// A value, without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredField {
    /// The record's generation that brought it.
    pub(crate) generation: i64,
    /// Microseconds since 1970.
    pub(crate) update_time: i64,
}

/// A record with its values, by key.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) record: Record,
    pub(crate) values: BTreeMap<String, SecretString>,
    /// `None`: not known, since an earlier program has bound them, or nothing is bound.
    pub(crate) agreed: Option<Agreed>,
}

impl Record {
    /// Required fields without a value, sorted.
    pub(crate) fn missing(&self, plan: &Plan, source: Source) -> Vec<String> {
        let mut missing: Vec<String> = plan
            .of(source)
            .filter(|field| field.required && !self.fields.contains_key(&field.key))
            .map(|field| field.key.clone())
            .collect();
        missing.sort();
        missing
    }

    /// Whether it holds values that `plan` would send to another place than they are bound to: to `present`.
    pub(crate) fn is_bound_elsewhere(&self, plan: &Plan, present: Option<&str>, source: Source) -> bool {
        plan.of(source).any(|field| self.fields.contains_key(&field.key))
            && !present.is_some_and(|present| covers(&self.bound_destination, present))
    }
}

/// What people are told: the answer to every call of theirs, and to its replays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// `installations/{installation}/credential` or `entries/{entry}/credential`.
    pub(crate) name: String,
    pub(crate) generation: i64,
    pub(crate) fields: BTreeMap<String, StoredField>,
    pub(crate) missing: Vec<String>,
    pub(crate) bound_destination: String,
    pub(crate) present_destination: String,
    #[serde(default)]
    pub(crate) bound_description: String,
    #[serde(default)]
    pub(crate) present_description: String,
    /// Not of answers that are kept: after a change nothing is left to be agreed to.
    #[serde(skip)]
    pub(crate) changes: Vec<Change>,
}
