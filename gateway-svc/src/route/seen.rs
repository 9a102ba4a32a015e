//! Lists of one gateway or agent, by what distinguishes them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a caller sees of a source: the sets of tools of the installation that it leads to, and of its entry. `None`: nothing.
pub(crate) type Seen = Option<[Option<Arc<str>>; 2]>;

/// At most so many, before all are forgotten: callers with accounts of their own may all see something else.
const MOST: usize = 1024;

/// The fingerprints of the lists of a table, by what is seen of each of its sources.
#[derive(Debug, Default)]
pub(super) struct Fingerprints(Mutex<HashMap<Box<[Seen]>, u64>>);

impl Fingerprints {
    pub(super) fn get(&self, seen: &[Seen]) -> Option<u64> {
        self.lock().get(seen).copied()
    }

    pub(super) fn put(&self, seen: Box<[Seen]>, fingerprint: u64) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(seen, fingerprint);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[Seen]>, u64>> {
        // Each change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
