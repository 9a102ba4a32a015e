//! The state of a connection: written by the code that serves it, read by the gate.

use std::{
    sync::{
        LazyLock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

/// Times are stored as milliseconds since this moment.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The number of laps by which the age of an unsent piece is measured: the current one and the two before.
const LAPS: usize = 3;

/// The state of a connection: requests in progress, unsent pieces of responses, and since when it is quiet.
#[derive(Debug)]
pub struct Phase {
    /// Requests in progress.
    open: AtomicU32,
    /// Those of them that have an unsent piece of their response.
    waiting: AtomicU32,
    /// Unsent pieces of responses, by the lap in which they were handed over. Only on multiplexed connections.
    untaken: [AtomicU32; LAPS],
    /// The number of the current lap. It only grows.
    lap: AtomicUsize,
    /// The connection has set the alarm that ends the lap.
    watched: AtomicBool,
    /// Requests that have ever begun. It wraps.
    begun: AtomicU32,
    /// When the last request ended or a piece of a response was last handed over; before the first request, when the
    /// connection was accepted.
    quiet_since: AtomicU64,
    /// While a write waits for the client, the time until which the connection counts as busy; otherwise 0.
    writing: AtomicU64,
    /// A response was sent before all of the request's body had arrived.
    unread: AtomicBool,
    /// The gate has evicted the connection.
    evicted: AtomicBool,
    /// Many responses can share the connection: it speaks HTTP/2, or TLS.
    multiplexed: AtomicBool,
    /// It has one of the places for health checks.
    spare: bool,
    /// Its index in the gate's list.
    pub(super) index: AtomicUsize,
    reader: AtomicWaker,
}

impl Phase {
    pub(super) fn new(spare: bool) -> Self {
        Self {
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            untaken: Default::default(),
            lap: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            quiet_since: AtomicU64::new(now()),
            writing: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            spare,
            index: AtomicUsize::new(usize::MAX),
            reader: AtomicWaker::new(),
        }
    }

    /// Whether the connection may only ask for health, because all other places are taken.
    pub fn is_spare(&self) -> bool {
        self.spare
    }

    pub(super) fn request_begins(&self) {
        self.open.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
    }

    pub(super) fn request_ends(&self) {
        self.quiet_since.store(now(), Relaxed);
        self.open.fetch_sub(1, Relaxed);
        // An HTTP/1 connection continues to read by itself. On HTTP/2 another task ends the request, so the task of the
        // connection must be woken to check its deadline.
        if self.multiplexed.load(Relaxed) {
            self.reader.wake();
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    /// A piece of a response is handed over. `first`: no other piece of this response is unsent. Returns the lap, for
    /// [`Phase::is_taken`].
    pub(super) fn hands_over(&self, first: bool) -> usize {
        if first {
            self.waiting.fetch_add(1, Relaxed);
        }
        self.quiet_since.store(now(), Relaxed);
        let lap = self.lap.load(SeqCst) % LAPS;
        self.untaken[lap].fetch_add(1, SeqCst);
        if !self.watched.load(SeqCst) {
            self.reader.wake();
        }
        lap
    }

    /// A piece from this lap was sent or dropped. `last`: no other piece of its response is unsent.
    pub(super) fn is_taken(&self, lap: usize, last: bool) {
        self.untaken[lap].fetch_sub(1, SeqCst);
        if last {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a piece of a response is unsent.
    pub(super) fn has_untaken(&self) -> bool {
        self.untaken.iter().any(|lap| lap.load(SeqCst) > 0)
    }

    /// Sets whether the connection has an alarm that ends the lap.
    pub(super) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, SeqCst);
    }

    /// Ends a lap in which the client read enough or not. Returns `true` if it did not, and a piece has been unsent for
    /// the two whole laps before; otherwise the next lap begins.
    pub(super) fn ends_lap(&self, took_enough: bool) -> bool {
        let next = self.lap.load(SeqCst) + 1;
        // A piece that waits behind others gets as long again.
        let overdue = !took_enough && self.untaken[next % LAPS].load(SeqCst) > 0;
        if !overdue {
            self.lap.store(next, SeqCst);
        }
        overdue
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Relaxed)
    }

    /// How long the connection has only been waiting for its client; `None` if a request is in progress.
    pub(super) fn quiet(&self) -> Option<Duration> {
        let serving = self.open.load(Relaxed) > self.waiting.load(Relaxed);
        let now = now();
        let busy = serving || now < self.writing.load(Relaxed) || self.evicted.load(Relaxed);
        (!busy).then(|| Duration::from_millis(now.saturating_sub(self.quiet_since.load(Relaxed))))
    }

    pub(super) fn quiet_since(&self) -> Instant {
        *START + Duration::from_millis(self.quiet_since.load(Relaxed))
    }

    /// A write begins to wait for the client. For `busy_for`, the connection counts as busy.
    pub(super) fn waits_to_write(&self, busy_for: Duration) {
        let until = u64::try_from(busy_for.as_millis()).map_or(u64::MAX, |busy| now().saturating_add(busy));
        self.writing.store(until, Relaxed);
    }

    pub(super) fn has_written(&self) {
        self.writing.store(0, Relaxed);
    }

    pub(super) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    /// Whether many responses can share the connection.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    pub(super) fn leaves_body_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(super) fn has_unread_body(&self) -> bool {
        self.unread.load(Relaxed)
    }

    pub(super) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        self.reader.wake();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    pub(super) fn waits_in(&self, waker: &Waker) {
        self.reader.register(waker);
    }
}

fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}
