//! Requests of servers that wait for the answers of clients. Each replica knows its own.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::aead::NONCE_LEN;
use bytes::Bytes;

use super::{shards::Shards, tasks::OwnTasks};
use crate::{json, upstream::Asking};

/// Requests of one stream that wait at a time.
const MOST: usize = 16;

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
struct Waiting {
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
    fn register(self: &Arc<Self>, session: [u8; NONCE_LEN], asking: Asking) -> Waiting {
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

/// The requests that the client of a session has got on one stream. With that, they end.
#[derive(Debug)]
pub(super) struct Questions {
    asked: Arc<Asked>,
    session: [u8; NONCE_LEN],
    tasks: OwnTasks,
    waiting: Vec<Waiting>,
}

impl Questions {
    /// `tasks` are those of the caller.
    pub(super) const fn new(asked: Arc<Asked>, session: [u8; NONCE_LEN], tasks: OwnTasks) -> Self {
        Self {
            asked,
            session,
            tasks,
            waiting: Vec::new(),
        }
    }

    /// The tasks of the caller.
    pub(super) const fn tasks(&self) -> &OwnTasks {
        &self.tasks
    }

    /// The request as the client gets it, whose answer is waited for from now on. `None`: it has not answered so many that this is refused.
    pub(super) fn ask(&mut self, asking: Asking) -> Option<Bytes> {
        // A stream may stay open for longer than a server has questions.
        self.waiting
            .retain(|waiting| self.asked.find(self.session, &waiting.key.1).is_some());
        if self.waiting.len() >= MOST {
            asking.refuse("the client has not answered the requests before");
            return None;
        }
        let waiting = self.asked.register(self.session, asking);
        let message = waiting.message(&self.tasks);
        self.waiting.push(waiting);
        Some(message)
    }

    /// The notification that a server withdraws a request, under the id that the client knows; `None`: it got no such request. `id` is where
    /// the server's own is in the text.
    pub(super) fn withdraw(&mut self, text: &Bytes, id: Range<usize>) -> Option<Bytes> {
        let own_id = &text[id.clone()];
        let (index, known) = (self.waiting.iter().enumerate())
            .find_map(|(index, waiting)| Some((index, waiting.known_by(own_id)?.to_owned())))?;
        self.waiting.swap_remove(index);
        Some(json::replaced(text, id, known.as_bytes()))
    }
}

impl Waiting {
    /// The request as the client gets it.
    fn message(&self, tasks: &OwnTasks) -> Bytes {
        let task = self.asking.task();
        let task = task.and_then(|(installation, own)| tasks.quoted(installation, &own));
        self.asking
            .with_id(self.key.1.as_bytes(), task.as_deref().map(str::as_bytes))
    }

    /// The id that the client knows it by, if the server knows it by this one.
    fn known_by(&self, own_id: &[u8]) -> Option<&str> {
        (self.asking.own_id() == own_id).then_some(&self.key.1)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.asked.waiting.of(self.key.0).remove(&self.key);
    }
}
