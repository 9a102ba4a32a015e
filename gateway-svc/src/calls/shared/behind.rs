//! What waits for clients that read slower than a server speaks: for each its own, so that none waits for another.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::upstream::{Client, Heard};

/// Bytes that wait for one client.
const MOST: usize = 256 << 10;
/// How long a server waits for a client for which as much waits: one that reads takes something meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a message costs besides its text.
const MESSAGE: usize = 256;

/// What the server of an installation has said: its uid, and what.
pub(super) type Said = (Arc<str>, Heard);

/// What waits, by client.
#[derive(Debug, Default)]
pub(super) struct Behind(Mutex<HashMap<Client, Backlog>>);

#[derive(Debug)]
struct Backlog {
    waiting: VecDeque<(Said, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// What is to be done where something waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is passed on by whoever passes on the others.
    Waits,
    /// Nobody does that yet.
    First,
    /// The client has read nothing for too long.
    TooMuch,
}

impl Behind {
    /// Adds a message, unless the same waits already: it says that something has changed, and is read after that.
    pub(super) async fn put(&self, client: &Client, said: Said) -> Put {
        let (installation, heard) = &said;
        let same = |(other, waiting): &Said| other == installation && waiting.says_the_same(heard);
        let bytes = (MESSAGE + heard.length()).min(MOST);
        let room = match self.lock().get(client) {
            Some(known) if known.waiting.iter().any(|(waiting, _)| same(waiting)) => return Put::Waits,
            Some(known) => Arc::clone(&known.room),
            None => Arc::new(Semaphore::new(MOST)),
        };
        let taking = Arc::clone(&room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let Ok(Ok(place)) = timeout(PATIENCE, taking).await else {
            return Put::TooMuch;
        };
        let mut all = self.lock();
        let is_first = !all.contains_key(client);
        let backlog = all.entry(client.clone()).or_insert_with(|| Backlog {
            waiting: VecDeque::new(),
            room,
        });
        backlog.waiting.push_back((said, place));
        if is_first { Put::First } else { Put::Waits }
    }

    /// The next for this client; `None`: nothing waits, and the next that is put is the first.
    pub(super) fn take(&self, client: &Client) -> Option<Said> {
        let mut all = self.lock();
        let next = all.get_mut(client)?.waiting.pop_front();
        if next.is_none() {
            all.remove(client);
        }
        next.map(|(said, _)| said)
    }

    /// Nothing is for this client any more.
    pub(super) fn forget(&self, client: &Client) {
        self.lock().remove(client);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Backlog>> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
