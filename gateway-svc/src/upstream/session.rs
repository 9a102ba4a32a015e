//! A session with an upstream.

use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Semaphore;

/// Messages beside calls that are on their way to one session at a time.
const ASIDES: usize = 8;

/// A session that an upstream has agreed to.
#[derive(Debug)]
pub(super) struct Session {
    /// Absent where the upstream keeps no sessions.
    pub(super) id: Option<HeaderValue>,
    /// The header that names the revision; absent for revisions that know none.
    pub(super) version: Option<HeaderValue>,
    /// One for each call that may be under way.
    pub(super) permits: Arc<Semaphore>,
    /// One for each message beside calls that may be on its way: each has a connection of its own.
    pub(super) asides: Arc<Semaphore>,
}

impl Session {
    /// One in which so many calls may be under way, before its revision is agreed.
    pub(super) fn new(id: Option<HeaderValue>, permits: Arc<Semaphore>) -> Self {
        Self {
            id,
            version: None,
            permits,
            asides: Arc::new(Semaphore::new(ASIDES)),
        }
    }
}
