//! What a replica keeps by session, in parts that are locked apart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::NONCE_LEN;

const SHARDS: usize = 64;

/// What is kept for sessions: of each, all in one part.
#[derive(Debug)]
pub(super) struct Shards<T>([Arc<Shard<T>>; SHARDS]);

/// One part.
#[derive(Debug, Default)]
pub(super) struct Shard<T>(Mutex<T>);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl<T> Shards<T> {
    /// The part with this session.
    pub(super) fn part(&self, session: [u8; NONCE_LEN]) -> &Arc<Shard<T>> {
        // An id is random.
        &self.0[usize::from(session[0]) % SHARDS]
    }

    /// The same, locked.
    pub(super) fn of(&self, session: [u8; NONCE_LEN]) -> MutexGuard<'_, T> {
        self.part(session).lock()
    }
}

impl<T> Shard<T> {
    /// Its users panic nowhere between two changes that belong together.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
