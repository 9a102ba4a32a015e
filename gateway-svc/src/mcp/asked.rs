//! Requests of servers that wait for the answers of clients. Each replica knows its own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::aead::NONCE_LEN;
use bytes::Bytes;

use crate::upstream::Asking;

const SHARDS: usize = 64;

/// Session, and the id under which the client got the request, as JSON.
type Key = ([u8; NONCE_LEN], Box<str>);

/// Requests that wait.
#[derive(Debug)]
pub(super) struct Asked {
    shards: [Mutex<HashMap<Key, Arc<Asking>>>; SHARDS],
    /// Begins the ids of this replica: a client may have requests of several.
    replica: String,
    next: AtomicU64,
}

impl Default for Asked {
    fn default() -> Self {
        let replica = service_kit::random::uuid().simple().to_string();
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            replica: replica[..8].to_owned(),
            next: AtomicU64::new(1),
        }
    }
}

/// A request that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    asked: Arc<Asked>,
    key: Key,
    asking: Arc<Asking>,
}

impl Asked {
    /// Registers a request for the client of this session.
    pub(super) fn register(self: &Arc<Self>, session: [u8; NONCE_LEN], asking: Asking) -> Waiting {
        let id = format!("\"{}-{}\"", self.replica, self.next.fetch_add(1, Ordering::Relaxed));
        let key = (session, id.into_boxed_str());
        let asking = Arc::new(asking);
        self.shard(&key).insert(key.clone(), Arc::clone(&asking));
        Waiting {
            asked: Arc::clone(self),
            key,
            asking,
        }
    }

    /// The request that the client of this session knows by this id, if it still waits.
    pub(super) fn find(&self, session: [u8; NONCE_LEN], id: &str) -> Option<Arc<Asking>> {
        let key: Key = (session, id.into());
        self.shard(&key).get(&key).cloned()
    }

    /// The same, which waits no longer: it is answered once.
    pub(super) fn take(&self, session: [u8; NONCE_LEN], id: &str) -> Option<Arc<Asking>> {
        let key: Key = (session, id.into());
        self.shard(&key).remove(&key)
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Arc<Asking>>> {
        // The session's part is random. Nothing panics between two changes that belong together.
        let shard = &self.shards[usize::from(key.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The request as the client gets it.
    pub(super) fn message(&self) -> Bytes {
        self.asking.with_id(self.key.1.as_bytes())
    }

    /// The id that the client knows it by, if the server knows it by this one.
    pub(super) fn known_by(&self, own_id: &[u8]) -> Option<&str> {
        (self.asking.own_id() == own_id).then_some(&self.key.1)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.asked.shard(&self.key).remove(&self.key);
    }
}
