//! Waits until a change is in force everywhere: until every watcher of it has acknowledged.
//!
//! What is known of watchers is in memory: those of this replica (`local.rs`), and what other replicas have written of theirs, which is
//! read again when one of them says that something has changed. A call that waits reads memory only.

mod local;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{Readiness, Workload};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    self, Commit, Db,
    watchers::{self, Here, There},
};
use local::Local;
pub(crate) use local::Name;

/// A mutation answers after this time even if watchers lag.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// An ack by way of another replica is looked for again after this time, in case its notification was lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often a replica tells the others that it and its watchers are there.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// Time limit of a statement that tells other replicas something; afterwards it is sent again.
const SIGNAL: Duration = Duration::from_secs(5);
/// The shortest time between two writes of acknowledgements to a shared database.
const ACKS: Duration = Duration::from_millis(10);
/// Where there are other replicas, a watcher gets its first message after this time: until then, none of them takes all watchers for
/// its own, commits, and answers without waiting for this one.
const LEARN: Duration = Duration::from_millis(100);
/// Lagging watchers that are named, and how long all names are together: they go into a header.
const NAMED: usize = 20;
const NAMES: usize = 1_900;

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

#[derive(Debug)]
struct Inner {
    db: Db,
    lease: Duration,
    known: Mutex<Known>,
    /// Somebody has acknowledged, or counts no more.
    changed: Notify,
    /// A watcher of this replica has acknowledged.
    acked: Notify,
    /// A gateway came or went.
    gateways: Notify,
}

#[derive(Debug)]
struct Known {
    /// Of the database that was acknowledged.
    epoch: Arc<str>,
    local: Local,
    elsewhere: Elsewhere,
    /// Gateways that said goodbye and have not been taken from their peers yet.
    goodbyes: Vec<String>,
}

/// What other replicas have written.
#[derive(Debug, Default)]
struct Elsewhere {
    /// It was looked up at all.
    known: bool,
    replicas: bool,
    /// Until when each of them counts.
    watchers: Vec<(Instant, There)>,
}

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

    /// Makes this replica and others known to each other. Before that, it must serve nobody.
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
        let entered = signal(watchers::enter(&inner.db, &here, inner.lease)).await;
        if let Err(error) = entered {
            inner.known().local.leave(name, stream);
            inner.changed.notify_waiters();
            return Err(error);
        }
        let learned = {
            let mut known = inner.known();
            known.local.entered(name, stream);
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
                    inner.keep_telling(),
                    inner.keep_looking(),
                    inner.keep_expiring()
                );
            } else {
                inner.keep_expiring().await;
            }
        };
        stop.run_until_cancelled(running).await;
        if let Err(error) = signal(watchers::stop(&inner.db)).await {
            tracing::warn!(error = %error, "other replicas could not be told that this one is stopping");
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.db.epoch();
        if *known.epoch != *epoch {
            known.epoch = epoch;
            known.local.forget_acks();
        }
        known
    }

    async fn keep_beating(&self) {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(error) = self.beat().await {
                tracing::warn!(error = %error, "other replicas could not be told that this one's watchers are there");
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
    async fn keep_telling(&self) {
        loop {
            self.acked.notified().await;
            let (epoch, untold) = {
                let mut known = self.known();
                // With no other replica, there is nobody to tell: the heartbeat does.
                if !known.elsewhere.replicas && known.elsewhere.known {
                    continue;
                }
                (Arc::clone(&known.epoch), known.local.take_untold())
            };
            if untold.is_empty() {
                continue;
            }
            if let Err(error) = signal(watchers::acked(&self.db, &epoch, &untold)).await {
                tracing::warn!(error = %error, "other replicas could not be told of acknowledgements; trying again");
                self.known().local.tell_again();
                self.acked.notify_one();
                sleep(LOOK_AGAIN).await;
            }
            sleep(ACKS).await;
        }
    }

    async fn keep_looking(&self) {
        loop {
            self.db.stirred().await;
            self.look_elsewhere_or_warn().await;
        }
    }

    async fn keep_expiring(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            if self.known().local.expire(Instant::now()) {
                self.changed.notify_waiters();
                self.gateways.notify_one();
            }
        }
    }

    async fn look_elsewhere_or_warn(&self) {
        if let Err(error) = self.look_elsewhere().await {
            tracing::warn!(error = %error, "watchers of other replicas could not be looked up");
        }
    }

    async fn look_elsewhere(&self) -> store::Result<()> {
        if !self.db.is_shared() {
            return Ok(());
        }
        let told_of = self.known().local.told_of();
        let now = Instant::now();
        let found = signal(watchers::elsewhere(&self.db)).await?;
        self.db.set_accompanied(found.replicas);
        {
            let mut known = self.known();
            // Entered here before the look-up, and yet of another replica: it has connected there since.
            for (name, stream) in told_of {
                if found.watchers.iter().any(|there| there.is(&name)) {
                    known.local.supersede(&name, stream);
                }
            }
            if found.replicas && !known.elsewhere.replicas {
                known.local.tell_again();
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

/// Whether some watchers lag.
enum Lags {
    Nobody,
    /// Watchers of this replica alone.
    Here,
    /// Watchers of other replicas, whose acknowledgements may get lost on the way.
    Elsewhere,
}

impl Known {
    fn lags(&self, commit: Commit, awaited: Option<&[Workload]>) -> Lags {
        let now = Instant::now();
        if self.lagging_elsewhere(commit, awaited, now).next().is_some() {
            Lags::Elsewhere
        } else if self.local.lagging(commit, awaited, now).next().is_some() {
            Lags::Here
        } else {
            Lags::Nobody
        }
    }

    /// The names of those that lag.
    fn lagging(&self, commit: Commit, awaited: Option<&[Workload]>) -> BTreeSet<String> {
        let now = Instant::now();
        let here = self.local.lagging(commit, awaited, now).map(Name::to_string);
        let elsewhere = self.lagging_elsewhere(commit, awaited, now);
        here.chain(elsewhere.map(|there| format!("{}/{}", there.workload, there.instance)))
            .collect()
    }

    fn lagging_elsewhere<'a>(
        &'a self,
        commit: Commit,
        awaited: Option<&'a [Workload]>,
        now: Instant,
    ) -> impl Iterator<Item = &'a There> {
        let is_awaited = move |there: &There| {
            awaited.is_none_or(|awaited| awaited.iter().any(|workload| workload.name() == there.workload))
        };
        let watchers = self.elsewhere.watchers.iter();
        watchers
            .filter(move |(lease_end, there)| {
                there.kinds & commit.kinds != 0
                    && there.acked < commit.revision
                    && is_awaited(there)
                    && now < *lease_end
            })
            .map(|(_, there)| there)
    }
}

impl There {
    fn is(&self, name: &Name) -> bool {
        self.workload == name.workload.name() && self.instance == name.instance
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
            tracing::warn!(error = %error, "other replicas could not be told that a watcher left; its lease ends");
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

/// What is told to the database, in time.
async fn signal<T>(told: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    timeout(SIGNAL, told).await.map_err(|_| store::timed_out())?
}

/// The first names, and how many more there are.
fn some_of(names: &BTreeSet<String>) -> Vec<String> {
    let mut length = 0;
    let mut some: Vec<String> = names
        .iter()
        .take(NAMED)
        .take_while(|name| {
            length += name.len() + 1;
            length <= NAMES
        })
        .cloned()
        .collect();
    let more = names.len() - some.len();
    if more > 0 {
        some.push(format!("and {more} more"));
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_many_as_a_header_takes() {
        let few: BTreeSet<_> = ["a/1".to_owned(), "b/2".to_owned()].into();
        assert_eq!(some_of(&few), ["a/1", "b/2"]);
        let many: BTreeSet<_> = (0..25).map(|n| format!("gateway-svc/{n:02}")).collect();
        let named = some_of(&many);
        assert_eq!((named.len(), named[20].as_str()), (21, "and 5 more"));
        let long: BTreeSet<_> = (0..25).map(|n| format!("gateway-svc/{n:0128}")).collect();
        let named = some_of(&long);
        assert!(named.join(",").len() < 2_048, "{}", named.join(",").len());
        assert_eq!(named.last().unwrap(), &format!("and {} more", 25 - (named.len() - 1)));
    }
}
