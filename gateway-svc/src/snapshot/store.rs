//! Holds the present snapshot, and knows how fresh it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use service_kit::{Clock, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    concerned::Concerned,
    state::Snapshot,
    watchers::{Watcher, Watchers},
};
use crate::domain::{CallError, Caller, ConsumerRef};

/// How often readiness is checked while the registry is unreachable.
const TICK: Duration = Duration::from_secs(1);
/// `unreachable_since` while the registry is reachable.
const REACHABLE: i64 = 0;

/// Holds the present snapshot.
#[derive(Debug)]
pub(crate) struct Store {
    current: ArcSwap<Snapshot>,
    revision: watch::Sender<i64>,
    watchers: Arc<Watchers>,
    ready: watch::Sender<Readiness>,
    loaded: std::sync::atomic::AtomicBool,
    /// Microseconds since 1970, or [`REACHABLE`].
    unreachable_since: AtomicI64,
    staleness: Duration,
    clock: Clock,
}

impl Store {
    /// Empty, until a [`Feed`](super::Feed) fills it.
    pub(crate) fn new(staleness: Duration, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::default(),
            revision: watch::Sender::new(0),
            watchers: Arc::default(),
            ready: watch::Sender::new(Readiness::NotReady("the registry has not been reached yet".to_owned())),
            loaded: false.into(),
            unreachable_since: clock.now_micros().max(1).into(),
            staleness,
            clock,
        })
    }

    /// The present snapshot, unless there is none or it is too old to act on.
    pub(crate) fn load(&self) -> Result<Arc<Snapshot>, CallError> {
        self.peek().map(Guard::into_inner)
    }

    /// The same for a moment. It costs less, since threads do not count it together.
    pub(crate) fn peek(&self) -> Result<Guard<Arc<Snapshot>>, CallError> {
        if self.unreachable_since.load(Ordering::Acquire) != REACHABLE
            && (!self.loaded() || self.unreachable_for() > self.staleness)
        {
            return Err(CallError::RegistryUnavailable);
        }
        Ok(self.current.load())
    }

    /// The last snapshot, however old: for background work, not for calls.
    pub(crate) fn last(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Follows the revision in force.
    pub(crate) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Is woken when this caller, by [`Caller::subject_name`], may see other tools at a gateway or agent than in what [`Self::look`] returned last.
    pub(crate) fn watch(&self, subject: &Arc<str>, consumer: &ConsumerRef) -> Watcher {
        self.watchers.join(subject, consumer)
    }

    /// The present snapshot, for the caller of this watcher, which the next one that may concern them will wake.
    pub(crate) fn look(&self, watcher: &mut Watcher, caller: &Caller) -> Result<Arc<Snapshot>, CallError> {
        loop {
            let snapshot = self.load()?;
            // What a team has may have changed before the watcher was told to follow it.
            if !watcher.follow(&snapshot.teams_of(caller)) {
                return Ok(snapshot);
            }
        }
    }

    /// Whether calls can be served.
    pub(crate) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.ready.subscribe()
    }

    /// Keeps readiness up to date while the registry is unreachable.
    pub(crate) async fn watch_freshness(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.update_readiness(),
                () = stop.cancelled() => return,
            }
        }
    }

    fn loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    fn unreachable_for(&self) -> Duration {
        match self.unreachable_since.load(Ordering::Acquire) {
            REACHABLE => Duration::ZERO,
            since => Duration::from_micros(u64::try_from(self.clock.now_micros() - since).unwrap_or_default()),
        }
    }

    /// Puts a snapshot in force, and wakes whom it may concern.
    pub(super) fn publish(&self, snapshot: Snapshot, concerned: &Concerned) {
        let revision = snapshot.revision();
        self.current.store(Arc::new(snapshot));
        self.loaded.store(true, Ordering::Release);
        self.revision.send_replace(revision);
        self.watchers.wake(concerned);
    }

    /// Notes whether the registry is reachable.
    pub(super) fn connected(&self, connected: bool) {
        let since = if connected {
            REACHABLE
        } else {
            self.clock.now_micros().max(1)
        };
        if connected {
            self.unreachable_since.store(since, Ordering::Release);
        } else {
            // It is unreachable since the first failure, not since the last attempt.
            let _ = self
                .unreachable_since
                .compare_exchange(REACHABLE, since, Ordering::AcqRel, Ordering::Acquire);
        }
        self.update_readiness();
    }

    fn update_readiness(&self) {
        let reachable = self.unreachable_since.load(Ordering::Acquire) == REACHABLE;
        let seconds = self.unreachable_for().as_secs();
        let now = match (self.loaded(), reachable) {
            (false, _) => Readiness::NotReady("the registry has not been reached yet".to_owned()),
            (true, true) => Readiness::Ready,
            (true, false) if self.unreachable_for() > self.staleness => Readiness::NotReady(format!(
                "the registry has been unreachable for {seconds} s: calls are refused"
            )),
            (true, false) => Readiness::Degraded(format!(
                "the registry has been unreachable for {seconds} s: the last snapshot is served"
            )),
        };
        self.ready.send_if_modified(|known| {
            let changed = *known != now;
            if changed && std::mem::discriminant(known) != std::mem::discriminant(&now) {
                match &now {
                    Readiness::Ready => tracing::info!("the registry is reachable"),
                    Readiness::Degraded(why) | Readiness::NotReady(why) => tracing::warn!("{why}"),
                }
            }
            *known = now;
            changed
        });
    }
}
