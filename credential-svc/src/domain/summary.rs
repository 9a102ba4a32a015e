//! What people are told about a credential.

use std::collections::BTreeMap;

use registry_model::destination::Change;
use serde::{Deserialize, Serialize};

/// The answer to every call of a person, and to its replays. It holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// `installations/{installation}/credential` or `entries/{entry}/credential`.
    pub(crate) name: String,
    pub(crate) generation: i64,
    /// The fields that hold a value, by key.
    pub(crate) fields: BTreeMap<String, StoredField>,
    /// Keys of required fields without a value, sorted.
    pub(crate) missing: Vec<String>,
    pub(crate) bound_destination: String,
    pub(crate) present_destination: String,
    #[serde(default)]
    pub(crate) bound_description: String,
    #[serde(default)]
    pub(crate) present_description: String,
    /// Empty in answers that are kept for replays: after a change there is nothing left to confirm.
    #[serde(skip)]
    pub(crate) changes: Vec<Change>,
    /// The present one, also in answers that are kept for replays.
    #[serde(skip)]
    pub(crate) connection: Option<Connection>,
}

/// What an authorization server issued, as `credential.v1.Connection`. Times are in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) account: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: String,
    /// `None`: nothing was issued yet.
    pub(crate) connect_time: Option<i64>,
    pub(crate) refresh_time: Option<i64>,
    pub(crate) expire_time: Option<i64>,
    pub(crate) is_refreshable: bool,
    pub(crate) failure: String,
    pub(crate) refusal: String,
    pub(crate) demanded: Vec<String>,
}

/// A field that holds a value, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredField {
    /// The generation of the record that brought the value.
    pub(crate) generation: i64,
    /// Microseconds since 1970.
    pub(crate) update_time: i64,
}
