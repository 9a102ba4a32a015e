//! When connections end.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

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
    /// The same for one lane, by whose thread it is called.
    pub(super) fn of_lane(self) -> LaneStop {
        let lane = LaneStop {
            has_begun: Arc::default(),
            begun: CancellationToken::new(),
            drain: self.drain,
        };
        let theirs = lane.clone();
        tokio::spawn(async move {
            self.begun.cancelled().await;
            // First: who is woken looks at it.
            theirs.has_begun.store(true, Release);
            theirs.begun.cancel();
        });
        lane
    }
}

/// A stop, as the connections of a lane look at it all the time: without a lock, and lanes do not take it from each other.
#[derive(Clone)]
pub(super) struct LaneStop {
    has_begun: Arc<AtomicBool>,
    begun: CancellationToken,
    drain: Duration,
}

impl LaneStop {
    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Acquire)
    }

    /// Waits until it begins.
    pub(super) async fn begins(&self) {
        self.begun.cancelled().await;
    }

    /// What comes before it begins.
    pub(super) async fn until_begun<T>(&self, coming: impl Future<Output = T>) -> Option<T> {
        self.begun.run_until_cancelled(coming).await
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
