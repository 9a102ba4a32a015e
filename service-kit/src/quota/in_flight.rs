//! Counts what each caller has in flight.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::exceeded::{Exceeded, Quota, Refusals};

/// The time to wait before a retry. It is a guess: it is unknown when a call ends.
const RETRY: Duration = Duration::from_secs(1);

/// A count for each caller who has something in flight.
#[derive(Debug)]
pub(super) struct Counts {
    refusals: Refusals,
    limit: usize,
    each: Mutex<HashMap<Arc<str>, usize>>,
}

/// Something in flight for a caller. Dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct InFlight {
    counts: Arc<Counts>,
    caller: Arc<str>,
}

impl Counts {
    pub(super) fn new(quota: Quota, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            refusals: Refusals::new(quota, u64::try_from(limit).unwrap_or(u64::MAX)),
            limit,
            each: Mutex::default(),
        })
    }

    /// Begins one more, if the limit allows.
    pub(super) fn begin(self: &Arc<Self>, caller: &Arc<str>) -> Result<InFlight, Exceeded> {
        self.take(caller, 1)?;
        Ok(self.one(caller))
    }

    /// Begins up to `most` more, as many as the limit allows; at least one.
    pub(super) fn begin_some(self: &Arc<Self>, caller: &Arc<str>, most: usize) -> Result<Vec<InFlight>, Exceeded> {
        let taken = self.take(caller, most)?;
        Ok((0..taken).map(|_| self.one(caller)).collect())
    }

    /// Adds up to `most` to the count, as many as the limit allows, and returns how many. The caller makes
    /// [`one`](Self::one) of each.
    fn take(&self, caller: &Arc<str>, most: usize) -> Result<usize, Exceeded> {
        let mut each = self.lock();
        let in_flight = each.get(caller).copied().unwrap_or_default();
        let taken = most.min(self.limit.saturating_sub(in_flight));
        if taken == 0 {
            return Err(self.refusals.refuse(caller, RETRY));
        }
        match each.get_mut(caller) {
            Some(count) => *count += taken,
            None => drop(each.insert(Arc::clone(caller), taken)),
        }
        Ok(taken)
    }

    fn one(self: &Arc<Self>, caller: &Arc<str>) -> InFlight {
        InFlight {
            counts: Arc::clone(self),
            caller: Arc::clone(caller),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // Nothing panics between two changes that belong together.
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut each = self.counts.lock();
        if let Some(count) = each.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                each.remove(&self.caller);
            }
        }
    }
}
