//! Holds the present snapshot, and knows how fresh it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use service_kit::{Clock, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::state::Snapshot;
use crate::domain::CallError;

/// How often readiness is looked at while the registry is out of reach.
const TICK: Duration = Duration::from_secs(1);
/// `out_of_reach_since` while the registry is in reach.
const IN_REACH: i64 = 0;

/// Holds the present snapshot.
#[derive(Debug)]
pub(crate) struct Store {
    current: ArcSwap<Snapshot>,
    revision: watch::Sender<i64>,
    ready: watch::Sender<Readiness>,
    loaded: std::sync::atomic::AtomicBool,
    /// Microseconds since 1970, or [`IN_REACH`].
    out_of_reach_since: AtomicI64,
    staleness: Duration,
    clock: Clock,
}

impl Store {
    /// Empty, until a [`Feed`](super::Feed) fills it.
    pub(crate) fn new(staleness: Duration, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::default(),
            revision: watch::Sender::new(0),
            ready: watch::Sender::new(Readiness::NotReady("the registry has not been reached yet".to_owned())),
            loaded: false.into(),
            out_of_reach_since: clock.now_micros().max(1).into(),
            staleness,
            clock,
        })
    }

    /// The present snapshot, unless there is none or it is too old to act on.
    pub(crate) fn load(&self) -> Result<Arc<Snapshot>, CallError> {
        if self.out_of_reach_since.load(Ordering::Acquire) != IN_REACH
            && (!self.loaded() || self.out_of_reach() > self.staleness)
        {
            return Err(CallError::RegistryUnavailable);
        }
        Ok(self.current.load_full())
    }

    /// The last snapshot, however old: for work that goes on by itself and is reported, not for calls.
    pub(crate) fn last(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells the revision in force, whenever another is.
    pub(crate) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Whether calls can be served.
    pub(crate) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.ready.subscribe()
    }

    /// Keeps readiness true while the registry is out of reach.
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

    fn out_of_reach(&self) -> Duration {
        match self.out_of_reach_since.load(Ordering::Acquire) {
            IN_REACH => Duration::ZERO,
            since => Duration::from_micros(u64::try_from(self.clock.now_micros() - since).unwrap_or_default()),
        }
    }

    /// Puts a snapshot in force.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        let revision = snapshot.revision();
        self.current.store(Arc::new(snapshot));
        self.loaded.store(true, Ordering::Release);
        self.revision.send_replace(revision);
    }

    /// The registry is in reach, or it is not.
    pub(super) fn connected(&self, connected: bool) {
        let since = if connected {
            IN_REACH
        } else {
            self.clock.now_micros().max(1)
        };
        if connected {
            self.out_of_reach_since.store(since, Ordering::Release);
        } else {
            // It is out of reach since the first failure, not since the last try.
            let _ = self
                .out_of_reach_since
                .compare_exchange(IN_REACH, since, Ordering::AcqRel, Ordering::Acquire);
        }
        self.update_readiness();
    }

    fn update_readiness(&self) {
        let in_reach = self.out_of_reach_since.load(Ordering::Acquire) == IN_REACH;
        let seconds = self.out_of_reach().as_secs();
        let now = match (self.loaded(), in_reach) {
            (false, _) => Readiness::NotReady("the registry has not been reached yet".to_owned()),
            (true, true) => Readiness::Ready,
            (true, false) if self.out_of_reach() > self.staleness => Readiness::NotReady(format!(
                "the registry has been out of reach for {seconds} s: calls are refused"
            )),
            (true, false) => Readiness::Degraded(format!(
                "the registry has been out of reach for {seconds} s: the last snapshot is served"
            )),
        };
        self.ready.send_if_modified(|known| {
            let changed = *known != now;
            if changed && std::mem::discriminant(known) != std::mem::discriminant(&now) {
                match &now {
                    Readiness::Ready => tracing::info!("the registry is in reach"),
                    Readiness::Degraded(why) | Readiness::NotReady(why) => tracing::warn!("{why}"),
                }
            }
            *known = now;
            changed
        });
    }
}
