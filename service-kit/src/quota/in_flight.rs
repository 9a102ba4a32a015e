//! Counts what each caller has in flight.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::exceeded::{Exceeded, Quota, Refusals};

/// The time to wait before a retry. It is a guess: it is unknown when a call ends.
const RETRY: Duration = Duration::from_secs(1);

/// A count for each caller who has something in flight, or whose count is held.
#[derive(Debug)]
pub(super) struct Counts {
    refusals: Refusals,
    limit: usize,
    each: Mutex<HashMap<Arc<str>, Weak<Count>>>,
}

/// What one caller has in flight. All who hold it hold the same; it is forgotten with the last of them.
#[derive(Debug)]
pub(super) struct Count {
    counts: Arc<Counts>,
    caller: Arc<str>,
    /// Nothing else is read or written by it, so that no order is required.
    in_flight: AtomicUsize,
}

/// Something in flight for a caller. Dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct InFlight(Arc<Count>);

impl Counts {
    pub(super) fn new(quota: Quota, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            refusals: Refusals::new(quota, u64::try_from(limit).unwrap_or(u64::MAX)),
            limit,
            each: Mutex::default(),
        })
    }

    /// The caller's count.
    pub(super) fn of(self: &Arc<Self>, caller: &Arc<str>) -> Arc<Count> {
        let mut each = self.lock();
        if let Some(count) = each.get(caller).and_then(Weak::upgrade) {
            return count;
        }
        let count = Arc::new(Count {
            counts: Arc::clone(self),
            caller: Arc::clone(caller),
            in_flight: AtomicUsize::new(0),
        });
        each.insert(Arc::clone(caller), Arc::downgrade(&count));
        count
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Count>>> {
        // Nothing panics between two changes that belong together.
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// Begins one more, if the limit allows.
    pub(super) fn begin(self: &Arc<Self>) -> Result<InFlight, Exceeded> {
        self.take(1)?;
        Ok(InFlight(Arc::clone(self)))
    }

    /// Begins up to `most` more, as many as the limit allows; at least one.
    pub(super) fn begin_some(self: &Arc<Self>, most: usize) -> Result<Vec<InFlight>, Exceeded> {
        let taken = self.take(most)?;
        Ok((0..taken).map(|_| InFlight(Arc::clone(self))).collect())
    }

    /// Adds up to `most` to the count, as many as the limit allows, and returns how many. The caller makes an [`InFlight`] of each.
    fn take(&self, most: usize) -> Result<usize, Exceeded> {
        let limit = self.counts.limit;
        let more = |in_flight: usize| most.min(limit.saturating_sub(in_flight));
        let taken = self.in_flight.fetch_update(Relaxed, Relaxed, |in_flight| {
            let more = more(in_flight);
            (more > 0).then(|| in_flight + more)
        });
        match taken {
            Ok(before) => Ok(more(before)),
            Err(_) => Err(self.counts.refusals.refuse(&self.caller, RETRY)),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let mut each = self.counts.lock();
        // Another may have taken its place.
        if each
            .get(&self.caller)
            .is_some_and(|last| std::ptr::eq(last.as_ptr(), self))
        {
            each.remove(&self.caller);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
