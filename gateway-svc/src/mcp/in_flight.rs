//! Calls in progress, so that `notifications/cancelled` finds them. Each replica knows its own.
//!
//! A cancellation can overtake its call, which takes time to parse where it is long. Cancellations that find no call are remembered
//! for a while, for calls that arrived before them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::NONCE_LEN;
use tokio_util::sync::CancellationToken;

use super::{rpc::is_id, shards::Shards};

/// How long a cancellation that finds no call is remembered; and of how many, of one session and of all in a shard, the latest are.
const REMEMBERED: Duration = Duration::from_secs(30);
const REMEMBERED_EACH: usize = 64;
const REMEMBERED_IN_ALL: usize = 256;

/// Session and request id, verbatim.
type Key = ([u8; NONCE_LEN], Box<str>);

/// Calls in progress.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    shards: Shards<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    calls: HashMap<Key, CancellationToken>,
    /// Cancellations that found no call, in order.
    cancelled: VecDeque<(Instant, Key)>,
}

impl Shard {
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
    fn was_cancelled(&mut self, key: &Key, came: Instant) -> bool {
        self.forget();
        self.cancelled.iter().any(|(when, known)| *when >= came && known == key)
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
    calls: Arc<InFlight>,
    key: Key,
}

impl InFlight {
    /// Registers a call, whose message arrived at `came`. `None`: one with this id is in progress in the session.
    pub(super) fn begin(
        self: &Arc<Self>,
        session: [u8; NONCE_LEN],
        id: &str,
        came: Instant,
        cancel: CancellationToken,
    ) -> Option<Guard> {
        let key: Key = (session, id.into());
        let mut shard = self.shards.of(session);
        if shard.calls.contains_key(&key) {
            return None;
        }
        if shard.was_cancelled(&key, came) {
            cancel.cancel();
        }
        shard.calls.insert(key.clone(), cancel);
        drop(shard);
        Some(Guard {
            calls: Arc::clone(self),
            key,
        })
    }

    /// Cancels a call that is in progress, or has arrived and is not parsed yet.
    pub(super) fn cancel(&self, session: [u8; NONCE_LEN], id: &str) {
        if !is_id(id) {
            return;
        }
        let key: Key = (session, id.into());
        let mut shard = self.shards.of(session);
        match shard.calls.get(&key) {
            Some(call) => call.cancel(),
            None => shard.remember(key),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.calls.shards.of(self.key.0).calls.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(calls: &Arc<InFlight>, session: u8, id: &str, came: Instant) -> Option<(Guard, CancellationToken)> {
        let cancel = CancellationToken::new();
        let guard = calls.begin([session; NONCE_LEN], id, came, cancel.clone())?;
        Some((guard, cancel))
    }

    #[test]
    fn cancels_only_the_named_call_of_the_same_session() {
        let calls = Arc::new(InFlight::default());
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
    fn a_cancellation_may_overtake_its_call() {
        let calls = Arc::new(InFlight::default());
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
        let calls = Arc::new(InFlight::default());
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
