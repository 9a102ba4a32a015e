//! What a connection is at: written by whoever serves it, read by the gate.

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

/// Times are kept as milliseconds since this moment.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How many laps tell how long a piece of an answer has not been taken: this one, the last, and the one before.
const LAPS: usize = 3;

/// What a connection is at.
#[derive(Debug)]
pub struct Phase {
    /// Requests under way.
    open: AtomicU32,
    /// Of these, those that have a piece of their answer untaken.
    waiting: AtomicU32,
    /// Pieces of answers that the client has not taken, by the lap in which they were handed over. Where many answers share a connection.
    untaken: [AtomicU32; LAPS],
    /// The lap, counted on without end.
    lap: AtomicUsize,
    /// The connection itself sees to it that laps end.
    watched: AtomicBool,
    /// Requests that have ever begun. It wraps.
    begun: AtomicU32,
    /// When the last request ended, or a piece of an answer was last handed over; before the first one, when the connection was accepted.
    quiet_since: AtomicU64,
    /// Until when it counts as busy that an answer waits for the client to take it; 0: none waits.
    writing: AtomicU64,
    /// The answer to a request came before all of its body did.
    unread: AtomicBool,
    /// Somebody else has its place.
    evicted: AtomicBool,
    /// It speaks HTTP/2.
    multiplexed: AtomicBool,
    /// It has one of the places that are left for questions of health.
    spare: bool,
    /// Where the gate has it.
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

    /// Whether the connection may only ask for health: all other places are taken.
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
        // HTTP/1 reads on by itself. On HTTP/2 another task ends the request, and the connection's own is to look at the time.
        if self.multiplexed.load(Relaxed) {
            self.reader.wake();
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    /// A piece of an answer is handed over; `first`: nothing of this answer is untaken. The lap is for [`Phase::is_taken`].
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

    /// A piece that was handed over in this lap is sent, or given up; `last`: nothing of its answer is untaken any more.
    pub(super) fn is_taken(&self, lap: usize, last: bool) {
        self.untaken[lap].fetch_sub(1, SeqCst);
        if last {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// Whether the client has not taken a piece of an answer.
    pub(super) fn has_untaken(&self) -> bool {
        self.untaken.iter().any(|lap| lap.load(SeqCst) > 0)
    }

    /// Says whether the connection sees to it that laps end.
    pub(super) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, SeqCst);
    }

    /// A lap ends, in which the client took enough or not. Whether it did not, and left a piece for two whole laps before; then it goes on.
    pub(super) fn ends_lap(&self, took_enough: bool) -> bool {
        let next = self.lap.load(SeqCst) + 1;
        // Where others were taken instead, it is left for as long again.
        let overdue = !took_enough && self.untaken[next % LAPS].load(SeqCst) > 0;
        if !overdue {
            self.lap.store(next, SeqCst);
        }
        overdue
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Relaxed)
    }

    /// For how long there has been nothing to do for this connection but to wait for its client; `None`: there is something.
    pub(super) fn quiet(&self) -> Option<Duration> {
        let serving = self.open.load(Relaxed) > self.waiting.load(Relaxed);
        let now = now();
        let busy = serving || now < self.writing.load(Relaxed) || self.evicted.load(Relaxed);
        (!busy).then(|| Duration::from_millis(now.saturating_sub(self.quiet_since.load(Relaxed))))
    }

    pub(super) fn quiet_since(&self) -> Instant {
        *START + Duration::from_millis(self.quiet_since.load(Relaxed))
    }

    /// An answer waits until the client reads it. Meanwhile, the connection counts as busy.
    pub(super) fn waits_to_write(&self, busy_for: Duration) {
        let until = u64::try_from(busy_for.as_millis()).map_or(u64::MAX, |busy| now().saturating_add(busy));
        self.writing.store(until, Relaxed);
    }

    /// It does not wait any more.
    pub(super) fn has_written(&self) {
        self.writing.store(0, Relaxed);
    }

    pub(super) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    /// Whether many answers share the connection.
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
