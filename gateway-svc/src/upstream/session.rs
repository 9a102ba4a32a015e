//! A session with an upstream.

use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Semaphore;

/// Messages other than calls that are sent to one session at a time.
const SIDE_MESSAGES: usize = 8;

/// A session that an upstream has agreed to.
#[derive(Debug)]
pub(super) struct Session {
    /// Absent where the upstream keeps no sessions.
    pub(super) id: Option<HeaderValue>,
    /// The header that names the revision; absent for revisions that know none.
    pub(super) version: Option<HeaderValue>,
    /// One for each call that may be in progress.
    pub(super) permits: Arc<Semaphore>,
    /// One for each message other than a call that is being sent: each has a connection of its own.
    pub(super) side_messages: Arc<Semaphore>,
}

impl Session {
    /// A session whose revision is not agreed yet.
    pub(super) fn new(id: Option<HeaderValue>, permits: Arc<Semaphore>) -> Self {
        Self {
            id,
            version: None,
            permits,
            side_messages: Arc::new(Semaphore::new(SIDE_MESSAGES)),
        }
    }
}
