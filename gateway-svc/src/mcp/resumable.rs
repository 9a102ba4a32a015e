//! Streams of events that a client goes on with where its connection broke (MCP, Streamable HTTP, "Resumability and Redelivery"). Each
//! replica knows its own.
//!
//! The id of an event names the replica, the stream, and the number of the event in it. A stream is in the hands of whoever sends it; when
//! its connection breaks, somebody goes on to receive it for a while, until the client asks for the rest.

mod ended;
mod event;
mod live;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::aead::NONCE_LEN;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use ended::AllEnded;
pub(super) use live::Live;

/// How long a client may take to ask for the rest.
const GRACE: Duration = Duration::from_secs(30);
/// How long a stream is waited for that is still being sent on another connection.
const GIVEN_WITHIN: Duration = Duration::from_secs(5);
/// Streams without a connection: of one caller, and of all.
const MOST_EACH: usize = 32;
const MOST: usize = 4096;

/// Streams that are under way, or were a moment ago.
#[derive(Debug)]
pub(super) struct Resumable {
    /// Begins the ids of this replica.
    replica: String,
    next: AtomicU64,
    streams: Mutex<HashMap<u64, Known>>,
    left: Mutex<Left>,
    ended: Arc<AllEnded>,
}

/// A stream that may be asked for.
#[derive(Debug)]
struct Known {
    session: [u8; NONCE_LEN],
    /// Asks whoever has the stream for it.
    want: mpsc::Sender<oneshot::Sender<Live>>,
}

/// How many streams have no connection: of all callers, and of each.
#[derive(Debug, Default)]
struct Left {
    all: usize,
    each: HashMap<Arc<str>, usize>,
}

/// Where a client wants to go on, by the id of the last event that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind this event of a stream of this replica.
    Here { stream: u64, number: u64 },
    /// In a stream of another replica, or of this one before it was started again.
    Elsewhere,
}

impl Resumable {
    /// Of the replica with this id.
    pub(super) fn new(replica: String) -> Self {
        Self {
            replica,
            next: AtomicU64::new(1),
            streams: Mutex::default(),
            left: Mutex::default(),
            ended: Arc::new(AllEnded::new(GRACE)),
        }
    }

    /// Reads the id of an event; `None`: it is not one of these streams'.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        let (replica, place) = id.split_once('-')?;
        let (stream, number) = place.split_once('-')?;
        let hex = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let (stream, number) = (hex(stream)?, hex(number)?);
        Some(if replica == self.replica {
            Place::Here { stream, number }
        } else {
            Place::Elsewhere
        })
    }

    /// A stream of this session, as far as it goes on behind the event of this number. `None`: it is over. A client that got an empty stream would
    /// ask for the rest of that, again and again.
    pub(super) async fn take(self: &Arc<Self>, session: [u8; NONCE_LEN], stream: u64, behind: u64) -> Option<Live> {
        let live = match self.take_live(session, stream).await {
            Some(live) => live,
            None => {
                let (subject, events) = self.ended.of(session, stream)?;
                Live::ended(self, session, stream, subject, events)
            }
        };
        Some(live).filter(|live| live.goes_on(behind))
    }

    /// Takes a stream from whoever has it.
    async fn take_live(&self, session: [u8; NONCE_LEN], stream: u64) -> Option<Live> {
        let want = {
            let streams = self.streams();
            let known = streams.get(&stream).filter(|known| known.session == session)?;
            known.want.clone()
        };
        let (give, given) = oneshot::channel();
        let taken = async {
            want.send(give).await.ok()?;
            given.await.ok()
        };
        // Whoever sends it may wait for a connection that takes nothing.
        timeout(GIVEN_WITHIN, taken).await.ok().flatten()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on, the stream can be asked for, until this is forgotten.
    fn know(&self, stream: u64, session: [u8; NONCE_LEN]) -> mpsc::Receiver<oneshot::Sender<Live>> {
        let (want, wanted) = mpsc::channel(1);
        self.streams().insert(stream, Known { session, want });
        wanted
    }

    fn forget(&self, stream: u64) {
        self.streams().remove(&stream);
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        // Nothing panics between two changes that belong together.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a stream of this caller's that has no connection; `None`: there are too many.
    fn leave(self: &Arc<Self>, subject: &Arc<str>) -> Option<Alone> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.all >= MOST {
            return None;
        }
        let own = left.each.entry(Arc::clone(subject)).or_default();
        if *own >= MOST_EACH {
            return None;
        }
        *own += 1;
        left.all += 1;
        Some(Alone {
            of: Arc::clone(self),
            subject: Arc::clone(subject),
        })
    }
}

/// A stream without a connection, until this is dropped.
struct Alone {
    of: Arc<Resumable>,
    subject: Arc<str>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut left = self.of.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.all -= 1;
        if let Some(own) = left.each.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                left.each.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_replica() {
        let [one, other] = ["0123abcd", "456789ef"].map(|replica| Resumable::new(replica.to_owned()));
        let id = format!("{}-a-1f", one.replica);
        assert_eq!(one.place(&id), Some(Place::Here { stream: 10, number: 31 }));
        assert_eq!(other.place(&id), Some(Place::Elsewhere));
        for id in [
            "",
            "0123456789abcdef",
            "a-b",
            "a-b-",
            "a-b-x",
            "a--1",
            "a-1-1-1",
            "a-+1-1",
            "a-1-+1",
        ] {
            assert_eq!(one.place(id), None, "{id}");
        }
    }

    #[test]
    fn a_caller_leaves_only_so_many_streams() {
        let streams = Arc::new(Resumable::new("0123abcd".to_owned()));
        let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
        let mut left: Vec<Alone> = (0..MOST_EACH).map(|_| streams.leave(&alice).unwrap()).collect();
        assert!(streams.leave(&alice).is_none());
        assert!(streams.leave(&bob).is_some());
        left.pop();
        assert!(streams.leave(&alice).is_some());
        drop(left);
        assert!(streams.left.lock().unwrap().each.is_empty());
    }
}
