//! Connections that a stop does not cut off.

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Of one connection; each of its requests has it in its extensions. A server that stops cuts off what does not end soon. A response that nobody
/// can be given again is worth a longer wait: what makes it holds the connection open.
#[derive(Clone, Debug)]
pub struct KeepOpen(TaskTracker);

impl KeepOpen {
    /// For a connection that nothing holds open.
    pub fn new() -> Self {
        let held = TaskTracker::new();
        held.close();
        Self(held)
    }

    /// Holds the connection open until the returned value is dropped. To be taken by what is bounded in time, and never by what waits for the client.
    pub fn hold(&self) -> TaskTrackerToken {
        self.0.token()
    }

    /// Whether something holds the connection open.
    pub fn is_held(&self) -> bool {
        !self.0.is_empty()
    }

    /// Ends when nothing holds the connection open.
    pub async fn released(&self) {
        self.0.wait().await;
    }
}

impl Default for KeepOpen {
    fn default() -> Self {
        Self::new()
    }
}
