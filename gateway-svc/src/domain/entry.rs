//! Registry entries, as far as calls go.

use std::sync::Arc;

use super::{Audience, Condition, Labels, ToolsSince};

/// A registry entry, without what its installations run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Unique for ever.
    pub(crate) uid: Arc<str>,
    /// The id in `entries/{entry}`.
    pub(crate) slug: Arc<str>,
    /// What people read; never empty.
    pub(crate) display_name: Arc<str>,
    /// Organize, and select in automatic mode.
    pub(crate) labels: Labels,
    /// Who sees it.
    pub(crate) audience: Audience,
    /// Its lifecycle state.
    pub(crate) lifecycle: Lifecycle,
    /// Hash of the set of tools it was discovered to have; `None`: never discovered.
    pub(crate) tools: Option<Arc<str>>,
    /// Since when it has them.
    pub(crate) tools_since: ToolsSince,
    /// `CREDENTIAL_READY` of the secrets stored on the entry; `None` where nothing was reported of any.
    pub(crate) credential: Option<Condition>,
    /// Counts the puts of those secrets.
    pub(crate) credential_generation: i64,
    /// Whether it waits for cleanup; it is not in use then.
    pub(crate) deleted: bool,
}

/// The lifecycle state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Being written.
    Draft,
    /// Can be installed.
    Approved,
    /// Existing installations keep working; no new ones can be created.
    Deprecated,
}
