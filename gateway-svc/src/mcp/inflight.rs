//! Calls under way, so that `notifications/cancelled` finds them. Each replica knows its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::aead::NONCE_LEN;
use tokio_util::sync::CancellationToken;

const SHARDS: usize = 64;

/// Session and request id, as it came.
type Key = ([u8; NONCE_LEN], Box<str>);

/// Calls under way.
#[derive(Debug)]
pub(super) struct InFlight {
    shards: [Mutex<HashMap<Key, CancellationToken>>; SHARDS],
}

/// A call under way; it is not any more when this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    calls: Arc<InFlight>,
    key: Key,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl InFlight {
    /// Notes a call. `None`: the session has one under this id already.
    pub(super) fn begin(
        self: &Arc<Self>,
        session: [u8; NONCE_LEN],
        id: &str,
        cancel: CancellationToken,
    ) -> Option<Guard> {
        let key: Key = (session, id.into());
        let mut calls = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if calls.contains_key(&key) {
            return None;
        }
        calls.insert(key.clone(), cancel);
        drop(calls);
        Some(Guard {
            calls: Arc::clone(self),
            key,
        })
    }

    /// Cancels a call, if it is under way.
    pub(super) fn cancel(&self, session: [u8; NONCE_LEN], id: &str) {
        let key: Key = (session, id.into());
        if let Some(call) = self
            .shard(&key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            call.cancel();
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, CancellationToken>> {
        // The session's part is random.
        &self.shards[usize::from(key.0[0]) % SHARDS]
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.calls
            .shard(&self.key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancels_only_the_named_call_of_the_same_session() {
        let calls = Arc::new(InFlight::default());
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        let guard = calls.begin([1; NONCE_LEN], "1", first.clone()).unwrap();
        let _other = calls.begin([2; NONCE_LEN], "1", second.clone()).unwrap();
        assert!(calls.begin([1; NONCE_LEN], "1", CancellationToken::new()).is_none());
        calls.cancel([1; NONCE_LEN], "\"1\"");
        calls.cancel([3; NONCE_LEN], "1");
        assert!(!first.is_cancelled() && !second.is_cancelled());
        calls.cancel([1; NONCE_LEN], "1");
        assert!(first.is_cancelled() && !second.is_cancelled());
        drop(guard);
        assert!(calls.begin([1; NONCE_LEN], "1", CancellationToken::new()).is_some());
    }
}
