//! Requests of servers that wait for the answers of clients. Each replica knows its own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::aead::NONCE_LEN;
use bytes::Bytes;

use super::shards::Shards;
use crate::upstream::Asking;

/// Session, and the id under which the client got the request, as JSON.
type Key = ([u8; NONCE_LEN], Box<str>);

/// Requests that wait.
#[derive(Debug)]
pub(super) struct Asked {
    waiting: Shards<HashMap<Key, Arc<Asking>>>,
    /// Begins the ids of this replica: a client may have requests of several.
    replica: String,
    next: AtomicU64,
}

/// A request that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    asked: Arc<Asked>,
    key: Key,
    asking: Arc<Asking>,
}

impl Asked {
    /// Of the replica with this id.
    pub(super) fn new(replica: String) -> Self {
        Self {
            waiting: Shards::default(),
            replica,
            next: AtomicU64::new(1),
        }
    }

    /// Registers a request for the client of this session.
    pub(super) fn register(self: &Arc<Self>, session: [u8; NONCE_LEN], asking: Asking) -> Waiting {
        let id = format!("\"{}-{}\"", self.replica, self.next.fetch_add(1, Ordering::Relaxed));
        let key = (session, id.into_boxed_str());
        let asking = Arc::new(asking);
        self.waiting.of(session).insert(key.clone(), Arc::clone(&asking));
        Waiting {
            asked: Arc::clone(self),
            key,
            asking,
        }
    }

    /// The request that the client of this session knows by this id, if it still waits.
    pub(super) fn find(&self, session: [u8; NONCE_LEN], id: &str) -> Option<Arc<Asking>> {
        let key: Key = (session, id.into());
        self.waiting.of(session).get(&key).cloned()
    }

    /// The same, which waits no longer: it is answered once.
    pub(super) fn take(&self, session: [u8; NONCE_LEN], id: &str) -> Option<Arc<Asking>> {
        let key: Key = (session, id.into());
        self.waiting.of(session).remove(&key)
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
        self.asked.waiting.of(self.key.0).remove(&self.key);
    }
}
