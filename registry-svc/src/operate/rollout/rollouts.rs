//! Where callers and the background task meet.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

use crate::{
    domain::Error,
    store::{Db, entries},
};

/// How often a call that waits checks whether another replica has done the work.
const LISTEN: Duration = Duration::from_millis(100);

/// Wakes the background task, and informs those that wait of its progress.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    wake: Notify,
    progressed: Notify,
}

impl Rollouts {
    /// There is something to do.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Completes when [`Rollouts::wake`] has been called.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A step is done.
    pub(super) fn progress(&self) {
        self.progressed.notify_waiters();
    }

    /// Waits until nothing is left to be done for this entry, and gives the revision at which that is so; `None`: something is
    /// still left at the deadline.
    pub(crate) async fn wait(&self, db: &Db, entry_uid: &str, deadline: Instant) -> Result<Option<i64>, Error> {
        loop {
            let progressed = self.progressed.notified();
            tokio::pin!(progressed);
            progressed.as_mut().enable();
            let mut tx = db.read().await?;
            if let Some(revision) = entries::finished(&mut tx, entry_uid).await? {
                return Ok(Some(revision));
            }
            drop(tx);
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // Another replica may do the work, and does not wake this one.
            let again = deadline.min(now + LISTEN);
            let _woken = tokio::time::timeout_at(again, progressed).await;
        }
    }
}
