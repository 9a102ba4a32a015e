//! A rate limiter with a bucket for each caller.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::exceeded::{Exceeded, Quota, Refusals};

/// Callers are in so many parts: one is locked while idle callers are forgotten there.
const PARTS: usize = 64;

/// A bucket for each caller who was active recently, or whose bucket is held.
#[derive(Debug)]
pub(super) struct Buckets {
    refusals: Arc<Refusals>,
    limit: NonZeroU32,
    hasher: RandomState,
    parts: [Mutex<Part>; PARTS],
}

type Part = HashMap<Arc<str>, Arc<Bucket>>;

/// The bucket of one caller.
#[derive(Debug)]
pub(super) struct Bucket {
    refusals: Arc<Refusals>,
    caller: Arc<str>,
    limiter: DefaultDirectRateLimiter,
}

impl Buckets {
    /// Each bucket holds `limit`, the amount of one minute.
    pub(super) fn new(quota: Quota, limit: NonZeroU32) -> Self {
        Self {
            refusals: Arc::new(Refusals::new(quota, limit.get().into())),
            limit,
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The caller's bucket.
    pub(super) fn of(&self, caller: &Arc<str>) -> Arc<Bucket> {
        let part = usize::try_from(self.hasher.hash_one(caller) % PARTS as u64).unwrap_or_default();
        let mut part = lock(&self.parts[part]);
        if let Some(bucket) = part.get(caller) {
            return Arc::clone(bucket);
        }
        let bucket = Arc::new(Bucket {
            refusals: Arc::clone(&self.refusals),
            caller: Arc::clone(caller),
            limiter: DefaultDirectRateLimiter::direct(governor::Quota::per_minute(self.limit)),
        });
        part.insert(Arc::clone(caller), Arc::clone(&bucket));
        bucket
    }

    /// Takes `count` from the caller's bucket, or nothing.
    pub(super) fn take(&self, caller: &Arc<str>, count: usize) -> Result<(), Exceeded> {
        self.of(caller).take(count)
    }

    /// Removes the buckets that are full, unless they are held.
    pub(super) fn forget_full(&self) {
        for part in &self.parts {
            let mut part = lock(part);
            // Nobody gets hold of one meanwhile. All can be taken from a full one only, and it is not used again.
            part.retain(|_, bucket| Arc::strong_count(bucket) > 1 || bucket.limiter.check_n(self.limit) != Ok(Ok(())));
            part.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }
}

impl Bucket {
    /// Takes `count`, or nothing.
    pub(super) fn take(&self, count: usize) -> Result<(), Exceeded> {
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let wait = match self.limiter.check_n(count) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(DefaultClock::default().now()),
            // More than the capacity of the bucket.
            Err(_) => Duration::from_secs(60),
        };
        Err(self.refusals.refuse(&self.caller, wait))
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    // Nothing panics between two changes that belong together.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
