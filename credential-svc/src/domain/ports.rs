//! What the domain requires of its environment: a store of secrets, and a registry that accepts reports.

use std::collections::BTreeSet;

use super::{condition::Condition, owner::Owner, record::Value};

/// Keeps one value for each owner, and replaces it by compare-and-set on its version. Several processes may use the same store at
/// once. `store/suite/` holds every implementation to this.
///
/// A store need not seal what another system protects; it never writes a value where others can read it. All stores encode values
/// with `store/encoding.rs`.
pub(crate) trait Store: Send + Sync + 'static {
    /// The owner's value and its version; `None` where there is none. It is never older than the last write that returned.
    fn read(&self, owner: &Owner) -> impl Future<Output = Result<Option<(Version, Value)>, StoreError>> + Send;
    /// Replaces the value that has the version `expected`, or creates it where that is [`Version::NONE`]. It is durable when this
    /// returns, and what was there before can no longer be read. After [`StoreError::Unavailable`], it may have been written.
    fn write(
        &self,
        owner: &Owner,
        expected: Version,
        value: Value,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
    /// Removes the value, its version and everything kept of it. Also removes a value that [`Self::read`] reports as corrupt.
    /// Versions may start again at 1. To delete what is not there changes nothing.
    fn delete(&self, owner: &Owner) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The first `limit` owners after `after` that have a value, in an order of the store's own, which does not depend on what is stored.
    /// Fewer than `limit`: there are no more.
    fn list(&self, after: Option<&Owner>, limit: usize) -> impl Future<Output = Result<Vec<Owner>, StoreError>> + Send;
    /// Whether the store answers.
    fn check(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Counts the writes of one owner's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) i64);

impl Version {
    /// There is no value.
    pub(crate) const NONE: Self = Self(0);

    /// The one after this.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Written {
    Done,
    /// The value has another version. Nothing was changed.
    Conflict,
}

/// Why the store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It may answer later.
    #[error("the secret store is unavailable: {0}")]
    Unavailable(String),
    /// What it holds was not written by this program, or by a newer one.
    #[error("the secret store holds a value that cannot be read: {0}")]
    Corrupt(String),
    /// It does not accept a value of this size. Nothing was changed.
    #[error("the secret store accepts values of up to {limit} bytes, and this one has {size}")]
    TooLarge { size: usize, limit: usize },
}

impl StoreError {
    pub(crate) fn late() -> Self {
        Self::Unavailable("it did not answer in time".to_owned())
    }
}

/// Accepts what this service reports.
pub(crate) trait Registry: Send + Sync + 'static {
    /// Reports CREDENTIAL_READY of an installation or an entry. Returns once it is in force everywhere, with the watchers that lag.
    fn report(&self, owner: &Owner, report: &Condition) -> impl Future<Output = Result<Lagging, ReportError>> + Send;
    /// Reports that nothing is left of a deleted owner.
    fn report_cleanup(&self, owner: &Owner) -> impl Future<Output = Result<(), ReportError>> + Send;
}

/// Watchers, as `workload/instance`, that had not acknowledged a change when the registry stopped waiting.
pub(crate) type Lagging = BTreeSet<String>;

/// Why a report was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The owner no longer exists: there is nothing to report.
    #[error("the registry does not know the owner")]
    Unknown,
    /// The report may succeed later.
    #[error("the registry did not accept the report: {0}")]
    Failed(String),
}
