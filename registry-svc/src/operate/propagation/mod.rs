//! Waits until a change is in force everywhere: until every watcher of it has acknowledged.
//!
//! What is known of watchers is in memory: those of this replica (`local.rs`), and what other replicas have written of theirs, which is
//! read again when one of them says that something has changed. A call that waits reads memory only.

mod exchange;
mod known;
mod local;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use service_kit::{Readiness, Workload};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    self, Commit, Db,
    watchers::{self, Here, There},
};
use exchange::{Inner, LOOK_AGAIN, signal};
use known::{Elsewhere, Known, Lags, some_of};
use local::Local;
pub(crate) use local::Name;

/// A mutation answers after this time even if watchers lag.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Where there are other replicas, a watcher gets its first message after this time: until then, none of them takes all watchers for
/// its own, commits, and answers without waiting for this one.
const LEARN: Duration = Duration::from_millis(100);

/// How far a change has come.
#[derive(Debug)]
pub(crate) struct Propagated {
    /// The revision at which it is in force.
    pub(crate) revision: i64,
    /// Names of the watchers that have not acknowledged it in time, `workload/instance`: the first ones, and how many more there are.
    pub(crate) lagging: Vec<String>,
}

/// Knows the watchers and what they have acknowledged; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Propagation(Arc<Inner>);

/// A connected watcher. Dropped, it is lost: it counts until its lease ends or its name is back.
#[derive(Debug)]
pub(crate) struct Watcher {
    name: Name,
    stream: u64,
    superseded: CancellationToken,
    inner: Arc<Inner>,
}

impl Propagation {
    pub(crate) fn new(db: Db, lease: Duration) -> Self {
        let known = Known {
            epoch: db.epoch(),
            local: Local::default(),
            elsewhere: Elsewhere::default(),
            goodbyes: Vec::new(),
        };
        Self(Arc::new(Inner {
            db,
            lease,
            known: Mutex::new(known),
            changed: Notify::new(),
            acked: Notify::new(),
            gateways: Notify::new(),
        }))
    }

    /// Makes this replica and others known to each other. Before that, it must not serve.
    pub(crate) async fn begin(&self) -> store::Result<()> {
        signal(watchers::begin(&self.0.db, self.0.lease)).await?;
        self.0.look_elsewhere().await
    }

    /// Counts a watcher from now on: what is committed from now on, on any replica, waits for it. It takes the place of one with
    /// its name.
    pub(crate) async fn connect(&self, name: Name, kinds: i64, address: String) -> store::Result<Watcher> {
        let inner = Arc::clone(&self.0);
        let (stream, superseded) = inner
            .known()
            .local
            .connect(name.clone(), kinds, address, Instant::now());
        let here = Here {
            workload: name.workload.name(),
            instance: name.instance.clone(),
            kinds,
            acked: 0,
        };
        // Before the first await: a handshake that is cancelled must not leave a watcher behind.
        let watcher = Watcher {
            name,
            stream,
            superseded,
            inner: Arc::clone(&inner),
        };
        let name = &watcher.name;
        let published = signal(watchers::enter(&inner.db, &here, inner.lease)).await;
        if let Err(error) = published {
            inner.known().local.leave(name, stream);
            inner.changed.notify_waiters();
            return Err(error);
        }
        let learned = {
            let mut known = inner.known();
            known.local.set_published(name, stream);
            !known.elsewhere.replicas
        };
        if !learned {
            sleep(LEARN).await;
        }
        if name.workload == Workload::Gateway {
            inner.gateways.notify_one();
        }
        Ok(watcher)
    }

    /// Waits for the watchers of what was committed: those of the workloads `awaited`, or all of them.
    pub(crate) async fn wait(&self, commit: Commit, awaited: Option<&[Workload]>) -> Propagated {
        self.wait_until(commit, awaited, Instant::now() + PATIENCE).await
    }

    /// As [`Propagation::wait`], until this moment.
    pub(crate) async fn wait_until(
        &self,
        commit: Commit,
        awaited: Option<&[Workload]>,
        deadline: Instant,
    ) -> Propagated {
        let mut propagated = Propagated {
            revision: commit.revision,
            lagging: Vec::new(),
        };
        if commit.kinds == 0 || awaited.is_some_and(<[_]>::is_empty) {
            return propagated;
        }
        if self.0.db.is_shared() && !self.0.db.is_listening() {
            self.0.look_elsewhere_or_warn().await;
        }
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // This runs with every acknowledgement of any watcher: names are collected only at the end.
            let lags = self.0.known().lags(commit, awaited);
            let elsewhere = match lags {
                Lags::Nobody => return propagated,
                _ if Instant::now() >= deadline => {
                    propagated.lagging = some_of(&self.0.known().lagging(commit, awaited));
                    tracing::warn!(registry.revision = commit.revision, watch.lagging = ?propagated.lagging, "some watchers lag");
                    return propagated;
                }
                Lags::Here => false,
                Lags::Elsewhere => true,
            };
            tokio::select! {
                () = &mut changed => {}
                () = sleep_until(deadline) => {}
                () = sleep(LOOK_AGAIN), if elsewhere => self.0.db.stir(),
            }
        }
    }

    /// Whether all watchers of this replica keep up; names those that do not.
    pub(crate) fn readiness(&self) -> Readiness {
        let known = self.0.known();
        let slow: BTreeSet<String> = known.local.slow(Instant::now()).map(Name::to_string).collect();
        if slow.is_empty() {
            return Readiness::Ready;
        }
        let names = some_of(&slow).join(", ");
        Readiness::Degraded(format!("these watchers have acknowledged nothing for 10 s: {names}"))
    }

    /// Waits until a gateway came or went.
    pub(crate) async fn gateways_changed(&self) {
        self.0.gateways.notified().await;
    }

    /// Connected gateways of this replica: instance and address.
    pub(crate) fn gateways(&self) -> Vec<(String, String)> {
        self.0.known().local.gateways()
    }

    /// Whether a gateway counts, here or elsewhere. `None`: what other replicas have is not known.
    pub(crate) fn has_gateway(&self, instance: &str) -> Option<bool> {
        let name = Name {
            workload: Workload::Gateway,
            instance: instance.to_owned(),
        };
        let known = self.0.known();
        let there = |(_, there): &(Instant, There)| there.is(&name);
        if known.local.knows(&name) || known.elsewhere.watchers.iter().any(there) {
            return Some(true);
        }
        (known.elsewhere.known || !self.0.db.is_shared()).then_some(false)
    }

    /// Takes the gateways that have said goodbye.
    pub(crate) fn take_goodbyes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.known().goodbyes)
    }

    /// How long a watcher counts that is lost.
    pub(crate) fn lease(&self) -> Duration {
        self.0.lease
    }

    /// Keeps what replicas know of each other's watchers true, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let inner = &self.0;
        let running = async {
            if inner.db.is_shared() {
                tokio::join!(
                    inner.keep_beating(),
                    inner.keep_publishing(),
                    inner.keep_looking(),
                    inner.keep_expiring()
                );
            } else {
                inner.keep_expiring().await;
            }
        };
        stop.run_until_cancelled(running).await;
        if let Err(error) = signal(watchers::stop(&inner.db)).await {
            tracing::warn!(error = %error, "other replicas could not be informed that this one is stopping");
        }
    }
}

impl Watcher {
    /// Completes when the name has come to another stream: this one is to end.
    pub(crate) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }

    /// This revision is about to be sent.
    pub(crate) fn sending(&self, revision: i64) {
        let mut known = self.inner.known();
        known.local.sending(&self.name, self.stream, revision, Instant::now());
    }

    /// Everything up to this revision is in force there.
    pub(crate) fn ack(&self, revision: i64) {
        let mut known = self.inner.known();
        known.local.ack(&self.name, self.stream, revision, Instant::now());
        drop(known);
        self.inner.changed.notify_waiters();
        self.inner.acked.notify_one();
    }

    /// It has said goodbye.
    pub(crate) async fn leave(self) {
        {
            let mut known = self.inner.known();
            if !known.local.leave(&self.name, self.stream) {
                return;
            }
            if self.name.workload == Workload::Gateway {
                known.goodbyes.push(self.name.instance.clone());
            }
        }
        self.inner.changed.notify_waiters();
        let left = signal(watchers::leave(
            &self.inner.db,
            self.name.workload.name(),
            &self.name.instance,
        ))
        .await;
        if let Err(error) = left {
            tracing::warn!(error = %error, "other replicas could not be informed that a watcher left; they wait until its lease ends");
        }
        self.inner.gateways.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut known = self.inner.known();
        known
            .local
            .lose(&self.name, self.stream, Instant::now(), self.inner.lease);
    }
}
