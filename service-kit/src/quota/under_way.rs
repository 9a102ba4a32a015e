//! How many things of each caller are under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::exceeded::{Exceeded, Quota, Refusals};

/// When to try again: nobody knows when something of one's own ends.
const RETRY: Duration = Duration::from_secs(1);

/// Counts what is under way, for each caller of whom something is.
#[derive(Debug)]
pub(super) struct Counts {
    refusals: Refusals,
    limit: usize,
    each: Mutex<HashMap<Arc<str>, usize>>,
}

/// Something of a caller that is under way until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct UnderWay {
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

    /// As many more as may be, up to `most`; at least one.
    pub(super) fn begin_some(self: &Arc<Self>, caller: &Arc<str>, most: usize) -> Result<Vec<UnderWay>, Exceeded> {
        let first = self.begin(caller)?;
        let mut all = vec![first];
        let mut each = self.lock();
        if let Some(count) = each.get_mut(caller) {
            let more = most.saturating_sub(1).min(self.limit.saturating_sub(*count));
            *count += more;
            all.extend((0..more).map(|_| UnderWay {
                counts: Arc::clone(self),
                caller: Arc::clone(caller),
            }));
        }
        drop(each);
        Ok(all)
    }

    /// One more, if so many may be.
    pub(super) fn begin(self: &Arc<Self>, caller: &Arc<str>) -> Result<UnderWay, Exceeded> {
        let mut each = self.lock();
        match each.get_mut(caller) {
            Some(count) if *count >= self.limit => return Err(self.refusals.refuse(caller, RETRY)),
            Some(count) => *count += 1,
            None => {
                each.insert(Arc::clone(caller), 1);
            }
        }
        Ok(UnderWay {
            counts: Arc::clone(self),
            caller: Arc::clone(caller),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // Nothing panics between two changes that belong together.
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
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
