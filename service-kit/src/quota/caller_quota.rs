//! What one caller uses of the limits, without a look-up.

use std::sync::Arc;

use super::{
    buckets::Bucket,
    exceeded::Exceeded,
    in_flight::{Count, InFlight},
};

/// One caller's place in the limits that each message of theirs uses. All of one caller count together, and with what is counted by name.
/// It is not forgotten while it is held.
#[derive(Clone, Debug)]
pub struct CallerQuota {
    pub(super) requests: Arc<Bucket>,
    pub(super) calls: Arc<Count>,
}

impl CallerQuota {
    /// Counts a request.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn request(&self) -> Result<(), Exceeded> {
        self.requests.take(1)
    }

    /// Begins a call, which is in progress until the returned value is dropped.
    ///
    /// # Errors
    /// If the caller has reached the limit.
    pub fn call(&self) -> Result<InFlight, Exceeded> {
        self.calls.begin()
    }
}
