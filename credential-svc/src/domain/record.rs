//! What is kept of an owner's secrets.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use registry_model::destination::Change;

use super::destination::Agreed;

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
