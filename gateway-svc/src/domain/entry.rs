//! Registry entries, as far as calls go.

use std::{collections::BTreeMap, sync::Arc};

use super::Audience;

/// A registry entry at its current revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Unique for ever.
    pub(crate) uid: Arc<str>,
    /// The id in `entries/{entry}`.
    pub(crate) slug: Arc<str>,
    /// What people read; never empty.
    pub(crate) display_name: Arc<str>,
    /// Organize, and select in automatic mode.
    pub(crate) labels: BTreeMap<String, String>,
    /// Who sees it.
    pub(crate) audience: Audience,
    /// Where it stands.
    pub(crate) lifecycle: Lifecycle,
    /// Whether it waits for cleanup; it is then in use by nobody.
    pub(crate) deleted: bool,
}

/// Where an entry stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Being written.
    Draft,
    /// Can be installed.
    Approved,
    /// Goes on for those who have it.
    Deprecated,
}
