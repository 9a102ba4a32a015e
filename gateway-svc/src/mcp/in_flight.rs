//! Calls in progress, so that `notifications/cancelled` finds them. Each replica knows its own.
//!
//! A cancellation can overtake its call, which takes time to parse where it is long. Cancellations that find no call are remembered
//! for a while, for calls that arrived before them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::NONCE_LEN;
use service_kit::cancel::Cancel;
use smallvec::SmallVec;

use super::{
    rpc::is_id,
    shards::{Shard, Shards},
};

/// How long a cancellation that finds no call is remembered; and of how many, of one session and of all in a shard, the latest are.
const REMEMBERED: Duration = Duration::from_secs(30);
const REMEMBERED_EACH: usize = 64;
const REMEMBERED_IN_ALL: usize = 256;

/// Of a session. The gateway has chosen it, at random.
type SessionId = [u8; NONCE_LEN];

/// Session and request id, verbatim.
type Key = (SessionId, Box<str>);

/// Calls in progress.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    shards: Shards<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    /// Of each session with any.
    calls: HashMap<SessionId, SmallVec<[InProgress; 1]>, BuildHasherDefault<Random>>,
    /// Cancellations that found no call, in order.
    cancelled: VecDeque<(Instant, Key)>,
}

/// A call in progress.
#[derive(Debug)]
struct InProgress {
    /// The request's id. Most are short.
    id: SmallVec<[u8; 16]>,
    cancel: Cancel,
}

/// Hashes what is random already: the last bytes as they are, since the first choose the shard.
#[derive(Default)]
struct Random(u64);

impl Hasher for Random {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    /// How long it is.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Calls {
    fn remember(&mut self, key: Key) {
        self.forget();
        let of_session = |(_, known): &&(Instant, Key)| known.0 == key.0;
        let first = if self.cancelled.iter().filter(of_session).count() >= REMEMBERED_EACH {
            self.cancelled.iter().position(|known| of_session(&known))
        } else {
            (self.cancelled.len() >= REMEMBERED_IN_ALL).then_some(0)
        };
        if let Some(first) = first {
            self.cancelled.remove(first);
        }
        self.cancelled.push_back((Instant::now(), key));
    }

    /// Whether a call that arrived at `came` was cancelled since.
    fn was_cancelled(&mut self, session: SessionId, id: &str, came: Instant) -> bool {
        self.forget();
        let is_it = |(of, known): &Key| *of == session && **known == *id;
        self.cancelled.iter().any(|(when, known)| *when >= came && is_it(known))
    }

    fn forget(&mut self) {
        while self
            .cancelled
            .front()
            .is_some_and(|(when, _)| when.elapsed() > REMEMBERED)
        {
            self.cancelled.pop_front();
        }
    }
}

/// A call in progress, until this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// Not all of them: that would be counted by all threads.
    calls: Arc<Shard<Calls>>,
    session: SessionId,
    cancel: Cancel,
}

impl InFlight {
    /// Registers a call, whose message arrived at `came`. `None`: one with this id is in progress in the session.
    pub(super) fn begin(&self, session: SessionId, id: &str, came: Instant) -> Option<Guard> {
        let calls = self.shards.part(session);
        let mut shard = calls.lock();
        let own = shard.calls.get(&session);
        if own.is_some_and(|own| own.iter().any(|call| *call.id == *id.as_bytes())) {
            return None;
        }
        let cancel = Cancel::default();
        if shard.was_cancelled(session, id, came) {
            cancel.cancel();
        }
        shard.calls.entry(session).or_default().push(InProgress {
            id: SmallVec::from_slice(id.as_bytes()),
            cancel: cancel.clone(),
        });
        drop(shard);
        Some(Guard {
            calls: Arc::clone(calls),
            session,
            cancel,
        })
    }

    /// Cancels a call that is in progress, or has arrived and is not parsed yet.
    pub(super) fn cancel(&self, session: SessionId, id: &str) {
        if !is_id(id) {
            return;
        }
        let mut shard = self.shards.of(session);
        let mut own = shard.calls.get(&session).into_iter().flatten();
        match own.find(|call| *call.id == *id.as_bytes()) {
            Some(call) => {
                let cancel = call.cancel.clone();
                drop(shard);
                cancel.cancel();
            }
            None => shard.remember((session, id.into())),
        }
    }
}

impl Guard {
    /// What cancels the call.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut shard = self.calls.lock();
        let Some(own) = shard.calls.get_mut(&self.session) else {
            return;
        };
        own.retain(|call| !call.cancel.is(&self.cancel));
        if own.is_empty() {
            shard.calls.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(calls: &InFlight, session: u8, id: &str, came: Instant) -> Option<(Guard, Cancel)> {
        let guard = calls.begin([session; NONCE_LEN], id, came)?;
        let cancel = guard.cancel().clone();
        Some((guard, cancel))
    }

    #[test]
    fn cancels_only_the_named_call_of_the_same_session() {
        let calls = InFlight::default();
        let came = Instant::now();
        let (guard, first) = begin(&calls, 1, "1", came).unwrap();
        let (_other, second) = begin(&calls, 2, "1", came).unwrap();
        assert!(begin(&calls, 1, "1", came).is_none());
        calls.cancel([1; NONCE_LEN], "\"1\"");
        calls.cancel([3; NONCE_LEN], "1");
        assert!(!first.is_cancelled() && !second.is_cancelled());
        calls.cancel([1; NONCE_LEN], "1");
        assert!(first.is_cancelled() && !second.is_cancelled());
        drop(guard);
        let (_guard, third) = begin(&calls, 1, "1", came).unwrap();
        assert!(!third.is_cancelled(), "that was about another one");
    }

    #[test]
    fn a_session_with_no_call_in_progress_is_forgotten() {
        let calls = InFlight::default();
        let came = Instant::now();
        let guards: Vec<_> = (0..3)
            .map(|id: u8| begin(&calls, 1, &id.to_string(), came).unwrap())
            .collect();
        assert_eq!(calls.shards.of([1; NONCE_LEN]).calls[&[1; NONCE_LEN]].len(), 3);
        let (_other, other) = begin(&calls, 65, "1", came).unwrap();
        let mut guards = guards.into_iter();
        drop(guards.next());
        assert!(begin(&calls, 1, "1", came).is_none() && begin(&calls, 1, "0", came).is_some());
        calls.cancel([1; NONCE_LEN], "2");
        let cancelled: Vec<bool> = guards.map(|(_guard, cancel)| cancel.is_cancelled()).collect();
        assert_eq!(cancelled, [false, true]);
        assert!(!other.is_cancelled());
        assert_eq!(calls.shards.of([1; NONCE_LEN]).calls.len(), 1, "that of session 65");
    }

    #[test]
    fn a_cancellation_may_overtake_its_call() {
        let calls = InFlight::default();
        let came = Instant::now();
        calls.cancel([1; NONCE_LEN], "1");
        let is_cancelled = |session, id, came| begin(&calls, session, id, came).unwrap().1.is_cancelled();
        assert!(is_cancelled(1, "1", came));
        assert!(!is_cancelled(1, "2", came) && !is_cancelled(2, "1", came));
        let later = Instant::now();
        assert!(!is_cancelled(1, "1", later), "an id may be used again");
    }

    #[test]
    fn few_cancellations_are_remembered() {
        let calls = InFlight::default();
        let came = Instant::now();
        // Session 65 has the same shard.
        calls.cancel([65; NONCE_LEN], "1");
        calls.cancel([1; NONCE_LEN], &"1".repeat(1 << 20));
        for id in 0..REMEMBERED_IN_ALL * 2 {
            calls.cancel([1; NONCE_LEN], &id.to_string());
        }
        assert_eq!(calls.shards.of([1; NONCE_LEN]).cancelled.len(), REMEMBERED_EACH + 1);
        let is_cancelled = |session, id: &str| begin(&calls, session, id, came).unwrap().1.is_cancelled();
        assert!(is_cancelled(65, "1"), "others' are not forgotten for one");
        assert!(is_cancelled(1, "511") && !is_cancelled(1, "447"));
    }
}
