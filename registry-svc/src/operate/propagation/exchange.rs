//! How replicas inform each other of their watchers, and how often.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::known::{Elsewhere, Known};
use crate::store::{self, Db, watchers};

/// An ack by way of another replica is looked for again after this time, in case its notification was lost.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often a replica renews its lease and those of its watchers.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// Time limit of a statement that informs other replicas; afterwards it is sent again.
const SIGNAL: Duration = Duration::from_secs(5);
/// The shortest time between two writes of acknowledgements to a shared database.
const ACKS: Duration = Duration::from_millis(10);

/// What all handles of a [`super::Propagation`] share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) lease: Duration,
    pub(super) known: Mutex<Known>,
    /// A watcher has acknowledged, or no longer counts.
    pub(super) changed: Notify,
    /// A watcher of this replica has acknowledged.
    pub(super) acked: Notify,
    /// A gateway came or went.
    pub(super) gateways: Notify,
}

impl Inner {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.db.epoch();
        if *known.epoch != *epoch {
            known.epoch = epoch;
            known.local.forget_acks();
        }
        known
    }

    pub(super) async fn keep_beating(&self) {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(error) = self.beat().await {
                tracing::warn!(error = %error, "the leases of this replica and of its watchers could not be renewed; trying again");
            }
            // An answer may have been lost, on either side.
            self.db.stir();
        }
    }

    async fn beat(&self) -> store::Result<()> {
        let (epoch, connected) = {
            let known = self.known();
            (Arc::clone(&known.epoch), known.local.connected())
        };
        signal(watchers::beat(&self.db, &epoch, &connected, self.lease)).await
    }

    /// Writes acks as they come, all that have come at once.
    pub(super) async fn keep_publishing(&self) {
        loop {
            self.acked.notified().await;
            let (epoch, unpublished) = {
                let mut known = self.known();
                // Without another replica, the heartbeat is enough.
                if !known.elsewhere.replicas && known.elsewhere.known {
                    continue;
                }
                (Arc::clone(&known.epoch), known.local.take_unpublished())
            };
            if unpublished.is_empty() {
                continue;
            }
            if let Err(error) = signal(watchers::acked(&self.db, &epoch, &unpublished)).await {
                tracing::warn!(error = %error, "acknowledgements could not be passed to other replicas; trying again");
                self.known().local.publish_again();
                self.acked.notify_one();
                sleep(LOOK_AGAIN).await;
            }
            sleep(ACKS).await;
        }
    }

    pub(super) async fn keep_looking(&self) {
        loop {
            self.db.stirred().await;
            self.look_elsewhere_or_warn().await;
        }
    }

    pub(super) async fn keep_expiring(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            if self.known().local.expire(Instant::now()) {
                self.changed.notify_waiters();
                self.gateways.notify_one();
            }
        }
    }

    pub(super) async fn look_elsewhere_or_warn(&self) {
        if let Err(error) = self.look_elsewhere().await {
            tracing::warn!(error = %error, "watchers of other replicas could not be looked up");
        }
    }

    pub(super) async fn look_elsewhere(&self) -> store::Result<()> {
        if !self.db.is_shared() {
            return Ok(());
        }
        let published = self.known().local.published();
        let now = Instant::now();
        let found = signal(watchers::elsewhere(&self.db)).await?;
        self.db.set_accompanied(found.replicas);
        {
            let mut known = self.known();
            // Published from here before the look-up, and now of another replica: it has connected there since.
            for (name, stream) in published {
                if found.watchers.iter().any(|there| there.is(&name)) {
                    known.local.supersede(&name, stream);
                }
            }
            if found.replicas && !known.elsewhere.replicas {
                known.local.publish_again();
                self.acked.notify_one();
            }
            known.elsewhere = Elsewhere {
                known: true,
                replicas: found.replicas,
                watchers: found
                    .watchers
                    .into_iter()
                    .map(|there| (now + there.lease, there))
                    .collect(),
            };
        }
        self.changed.notify_waiters();
        Ok(())
    }
}

/// Limits the time of a statement that informs other replicas.
pub(super) async fn signal<T>(statement: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    timeout(SIGNAL, statement).await.map_err(|_| store::timed_out())?
}
