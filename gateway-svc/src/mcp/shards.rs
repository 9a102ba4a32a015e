//! What a replica keeps by session, in parts that are locked apart.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::NONCE_LEN;

const SHARDS: usize = 64;

/// What is kept for sessions: of each, all in one part.
#[derive(Debug)]
pub(super) struct Shards<T>([Mutex<T>; SHARDS]);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<T> Shards<T> {
    /// The part with this session. Its users panic nowhere between two changes that belong together.
    pub(super) fn of(&self, session: [u8; NONCE_LEN]) -> MutexGuard<'_, T> {
        // An id is random.
        let shard = &self.0[usize::from(session[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
