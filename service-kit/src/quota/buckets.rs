//! A rate limiter with a bucket for each caller.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultKeyedRateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::exceeded::{Exceeded, Quota, Refusals};

/// A bucket for each caller who was active recently. Each is one timestamp.
#[derive(Debug)]
pub(super) struct Buckets {
    refusals: Refusals,
    limiter: DefaultKeyedRateLimiter<Arc<str>>,
}

impl Buckets {
    /// Each bucket holds `limit`, the amount of one minute.
    pub(super) fn new(quota: Quota, limit: NonZeroU32) -> Self {
        Self {
            refusals: Refusals::new(quota, limit.get().into()),
            limiter: DefaultKeyedRateLimiter::keyed(governor::Quota::per_minute(limit)),
        }
    }

    /// Takes `count` from the caller's bucket, or nothing.
    pub(super) fn take(&self, caller: &Arc<str>, count: usize) -> Result<(), Exceeded> {
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let wait = match self.limiter.check_key_n(caller, count) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(DefaultClock::default().now()),
            // More than the capacity of the bucket.
            Err(_) => Duration::from_secs(60),
        };
        Err(self.refusals.refuse(caller, wait))
    }

    /// Removes the buckets that are full.
    pub(super) fn forget_full(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}
