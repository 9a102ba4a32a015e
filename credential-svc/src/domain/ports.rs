//! What the domain needs of the world: a store of secrets, and the registry's ear.

use std::collections::{BTreeSet, HashMap};

use secrecy::SecretString;
use uuid::Uuid;

use super::{
    destination::Agreed,
    owner::Owner,
    record::{Opened, Record, Summary},
    report::Report,
};

/// Keeps secrets sealed. Every change is atomic, durable when it returns, and made only to the generation it was decided on.
pub(crate) trait Store: Send + Sync + 'static {
    /// What is known of an owner's secrets; `None` if nothing ever was, or it was erased.
    fn describe(&self, owner: &Owner) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;
    /// The same of many owners at once; those of which nothing is known are left out.
    fn describe_many(
        &self,
        owners: &[Owner],
    ) -> impl Future<Output = Result<HashMap<Owner, Record>, StoreError>> + Send;
    /// The same with the values.
    fn open(&self, owner: &Owner) -> impl Future<Output = Result<Option<Opened>, StoreError>> + Send;
    /// Makes one change.
    fn write(&self, owner: &Owner, change: Change) -> impl Future<Output = Result<Written, StoreError>> + Send;
    /// A request answered before.
    fn answered(&self, request: &RequestKey) -> impl Future<Output = Result<Option<Answered>, StoreError>> + Send;
    /// Erases an owner's secrets for ever: nothing can be written to it again. To erase twice changes nothing.
    fn erase(&self, owner: &Owner) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Makes an owner's generation greater than `told`, where it is lower, and leaves its values as they are. What was told to
    /// others is known here too, unless the store comes from an older backup: nobody may then keep what they had.
    fn outgrow(&self, owner: &Owner, told: i64) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A digest under a key of the store's: it tells requests apart and nothing of what is in them.
    fn keyed_digest(&self, parts: &[&[u8]]) -> [u8; 32];
}

/// One change of a record.
#[derive(Debug)]
pub(crate) struct Change {
    /// The generation it was decided on; the next one is its own.
    pub(crate) expected_generation: i64,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    /// Empty where nothing is left.
    pub(crate) bound_destination: String,
    /// What it stands for.
    pub(crate) agreed: Option<Agreed>,
    /// Values to set, by key.
    pub(crate) put: Vec<(String, SecretString)>,
    /// Keys to forget.
    pub(crate) forget: BTreeSet<String>,
    /// Remembered with it, for replays.
    pub(crate) answer: Option<(RequestKey, Answered)>,
}

/// How a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable.
    Done,
    /// Somebody else changed the record, or used the request id, in between. Nothing was changed.
    Conflict,
    /// The owner was erased. Nothing was changed.
    Erased,
}

/// Identifies a request: two users may choose the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) user: String,
    pub(crate) id: Uuid,
}

/// What was asked and answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answered {
    /// [`Store::keyed_digest`] of the request.
    pub(crate) digest: [u8; 32],
    pub(crate) summary: Summary,
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It may answer later.
    #[error("the store of secrets did not answer: {0}")]
    Unavailable(String),
    /// What it holds is not what was put there.
    #[error("the store of secrets holds something that was not put there: {0}")]
    Corrupt(String),
}

/// Takes what this service observes.
pub(crate) trait Registry: Send + Sync + 'static {
    /// Reports CREDENTIAL_READY of an installation or an entry. Returns once it is in force; names who lags.
    fn report(&self, owner: &Owner, report: &Report) -> impl Future<Output = Result<Lagging, ReportError>> + Send;
    /// Reports that nothing is left of a deleted owner.
    fn report_cleanup(&self, owner: &Owner) -> impl Future<Output = Result<(), ReportError>> + Send;
}

/// Watchers, as `workload/instance`, that had not acknowledged a change when the registry stopped waiting for them.
pub(crate) type Lagging = BTreeSet<String>;

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// There is no such thing any more: nothing to report.
    #[error("the registry does not know it")]
    Unknown,
    /// To be tried again.
    #[error("the registry did not take the report: {0}")]
    Failed(String),
}
