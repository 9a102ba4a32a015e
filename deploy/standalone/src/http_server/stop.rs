//! When connections end.

use std::time::Duration;

use service_kit::edge::KeepOpen;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a response that has held its connection open may take to be written.
const WRITE: Duration = Duration::from_secs(1);

/// A stop of the server.
#[derive(Clone)]
pub(crate) struct Stop {
    pub(crate) begun: CancellationToken,
    /// How long open requests may continue. What takes longer is cut off, unless it holds its connection open.
    pub(crate) drain: Duration,
}

impl Stop {
    /// The same for one lane, whose connections look at it all the time: lanes do not take it from each other.
    pub(super) fn of_lane(&self) -> Self {
        Self {
            begun: self.begun.child_token(),
            drain: self.drain,
        }
    }

    /// Ends when a connection has had its time, which begins now.
    pub(super) async fn cuts_off(&self, connection: &KeepOpen) {
        sleep(self.drain).await;
        if connection.is_held() {
            connection.released().await;
            sleep(WRITE).await;
        }
    }
}
