//! Streams that were sent to their ends, which may not have arrived. Only their last events are kept, and for a moment: official clients close
//! the connection once they have the answer, so that nobody knows whether they have it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use aws_lc_rs::aead::NONCE_LEN;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::event::Event;

/// Bytes of one stream, of the streams of one caller, and of all. What is longer is not kept; of more, those that ended first are forgotten.
const MOST_OF_ONE: usize = 256 << 10;
const MOST_EACH: usize = 1 << 20;
const MOST: usize = 64 << 20;
/// What a stream costs besides its messages, and each event.
const OVERHEAD: usize = 512;
/// How often those are looked for whose time is over.
const OFTEN: Duration = Duration::from_secs(1);

/// A stream that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stream: u64,
    pub(super) session: [u8; NONCE_LEN],
    pub(super) subject: Arc<str>,
    pub(super) events: VecDeque<Event>,
}

/// Streams that have ended, for as long as each may be asked for.
#[derive(Debug)]
pub(super) struct AllEnded {
    kept: Mutex<EndedStreams>,
    within: Duration,
}

#[derive(Debug, Default)]
struct EndedStreams {
    next: u64,
    /// In the order in which they ended, under numbers that grow.
    all: BTreeMap<u64, (Ended, Instant)>,
    by_stream: HashMap<u64, u64>,
    each: HashMap<Arc<str>, Own>,
    bytes: usize,
}

/// Those of one caller.
#[derive(Debug, Default)]
struct Own {
    numbers: BTreeSet<u64>,
    bytes: usize,
}

impl Ended {
    fn bytes(&self) -> usize {
        let events = self.events.iter().map(|event| event.size + OVERHEAD);
        events.sum::<usize>() + OVERHEAD
    }
}

impl AllEnded {
    /// Each is kept for this time.
    pub(super) fn new(within: Duration) -> Self {
        let kept = Mutex::default();
        Self { kept, within }
    }

    /// Keeps a stream; false: it is too long.
    pub(super) fn keep(self: &Arc<Self>, ended: Ended) -> bool {
        let Some(runtime) = Handle::try_current().ok().filter(|_| ended.bytes() <= MOST_OF_ONE) else {
            return false;
        };
        let first = {
            let mut kept = self.kept();
            let first = kept.all.is_empty();
            kept.add(ended, Instant::now() + self.within);
            first
        };
        if first {
            runtime.spawn(forget(Arc::downgrade(self)));
        }
        true
    }

    /// The events of a stream of this session, if it is kept.
    pub(super) fn of(&self, session: [u8; NONCE_LEN], stream: u64) -> Option<(Arc<str>, VecDeque<Event>)> {
        let kept = self.kept();
        let (ended, _) = kept.all.get(kept.by_stream.get(&stream)?)?;
        (ended.session == session).then(|| (Arc::clone(&ended.subject), ended.events.clone()))
    }

    fn kept(&self) -> MutexGuard<'_, EndedStreams> {
        // Nothing panics between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets each when its time is over, until there is none.
async fn forget(all: Weak<AllEnded>) {
    loop {
        let next = {
            let Some(all) = all.upgrade() else { return };
            let mut kept = all.kept();
            let now = Instant::now();
            while kept.first_until().is_some_and(|until| until <= now) {
                kept.forget_first();
            }
            let Some(next) = kept.first_until() else { return };
            next.max(now + OFTEN)
        };
        sleep_until(next).await;
    }
}

impl EndedStreams {
    fn add(&mut self, ended: Ended, until: Instant) {
        // It was asked for, and has ended once more.
        if let Some(&number) = self.by_stream.get(&ended.stream) {
            self.forget(number);
        }
        let (number, bytes) = (self.next, ended.bytes());
        self.next += 1;
        let subject = Arc::clone(&ended.subject);
        self.bytes += bytes;
        self.by_stream.insert(ended.stream, number);
        self.all.insert(number, (ended, until));
        let own = self.each.entry(Arc::clone(&subject)).or_default();
        own.numbers.insert(number);
        own.bytes += bytes;
        while let Some(own) = self.each.get(&subject).filter(|own| own.bytes > MOST_EACH)
            && let Some(&first) = own.numbers.first()
        {
            self.forget(first);
        }
        while self.bytes > MOST {
            self.forget_first();
        }
    }

    fn first_until(&self) -> Option<Instant> {
        self.all.first_key_value().map(|(_, (_, until))| *until)
    }

    fn forget_first(&mut self) {
        if let Some((&number, _)) = self.all.first_key_value() {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some((ended, _)) = self.all.remove(&number) else {
            return;
        };
        let bytes = ended.bytes();
        self.bytes -= bytes;
        self.by_stream.remove(&ended.stream);
        if let Some(own) = self.each.get_mut(&ended.subject) {
            own.bytes -= bytes;
            own.numbers.remove(&number);
            if own.numbers.is_empty() {
                self.each.remove(&ended.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    fn ended(stream: u64, subject: &str, size: usize) -> Ended {
        let pieces = vec![Bytes::from_static(b"")];
        let event = Event {
            number: 1,
            pieces,
            size,
        };
        Ended {
            stream,
            session: [1; NONCE_LEN],
            subject: subject.into(),
            events: VecDeque::from([event]),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_forgotten_in_time() {
        let all = Arc::new(AllEnded::new(WITHIN));
        for (stream, subject) in [(1, "users/a"), (2, "users/b"), (1, "users/a")] {
            all.keep(ended(stream, subject, 10));
            tokio::time::sleep(WITHIN / 3).await;
        }
        let known = |stream| all.of([1; NONCE_LEN], stream).is_some();
        assert!(known(1) && known(2));
        assert!(all.of([2; NONCE_LEN], 1).is_none(), "it is another session's");
        tokio::time::sleep(WITHIN / 3 + OFTEN).await;
        assert!(known(1) && !known(2));
        tokio::time::sleep(WITHIN / 3 + OFTEN).await;
        let kept = all.kept();
        assert!(kept.all.is_empty() && kept.each.is_empty() && kept.by_stream.is_empty());
        assert_eq!(kept.bytes, 0);
    }

    #[tokio::test]
    async fn a_caller_keeps_so_much_and_nothing_of_others() {
        let all = Arc::new(AllEnded::new(WITHIN));
        let large = MOST_OF_ONE - 2 * OVERHEAD;
        assert!(!all.keep(ended(0, "users/a", large + 1)), "it is too long");
        all.keep(ended(1, "users/b", large));
        let streams = u64::try_from(MOST_EACH / MOST_OF_ONE).unwrap();
        for stream in 2..=streams + 2 {
            all.keep(ended(stream, "users/a", large));
        }
        let known = |stream| all.of([1; NONCE_LEN], stream).is_some();
        assert!(known(1) && !known(2) && (3..=streams + 2).all(known));
    }
}
