//! What a thread knows of the clients that it serves: who they are, in which session, and where their calls go.
//!
//! A client sends many requests with the same headers. What these come to is worked out once on each thread, and is void as soon as the registry
//! says anything else.

use std::{
    cell::RefCell,
    collections::HashMap,
    mem::take,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use service_kit::{
    Quotas,
    identity::KNOWN_FOR,
    quota::{CallerQuota, Callers},
};
use thread_local::ThreadLocal;

use super::{
    caller_at::CallerAt,
    session::{SESSION_ID, Session, Sessions},
};
use crate::{calls::Prepared, domain::ConsumerRef, listing::Listing, snapshot::Snapshot};

/// Clients that a thread knows, half of them those that came last.
const CLIENTS: usize = 32_768;
/// Those that do not come for this time are forgotten, and their tokens, when the thread next serves a client of which it knows something, or gets another one.
const IDLE: Duration = Duration::from_secs(60);
/// So many bytes at the end of a session's handle, or of a token, tell clients apart as a rule: they are random.
const TAIL: usize = 24;
/// Bytes of a header by which a client is known. One that sends more, such as thousands of spaces before its token, is identified each time: else a
/// caller with many sessions could fill the memory of each thread.
const LONGEST: usize = 4 << 10;

/// What all threads know.
#[derive(Debug, Default)]
pub(super) struct KnownClients(ThreadLocal<RefCell<Lane>>);

/// What one thread knows.
#[derive(Debug, Default)]
struct Lane {
    recent: HashMap<[u8; TAIL], Arc<Known>>,
    before: HashMap<[u8; TAIL], Arc<Known>>,
    turned: Option<SystemTime>,
}

/// A client at a gateway or agent, while one snapshot is in force.
#[derive(Debug)]
pub(super) struct Known {
    authorization: HeaderValue,
    handle: Option<HeaderValue>,
    since: SystemTime,
    until: SystemTime,
    pub(super) who: Arc<CallerAt>,
    /// `None`: its requests stand alone.
    session: Option<Arc<Session>>,
    /// How many sessions had ended when this one was last found not to be one of them.
    ended: AtomicU64,
    pub(super) prepared: Arc<Prepared>,
    /// Counts their messages.
    pub(super) quota: CallerQuota,
    /// Its list of tools, where no server shows it others: only as long as others keep it.
    listing: Mutex<Weak<Listing>>,
}

impl Known {
    /// By the headers of a request, which this caller has sent: whoever sends the same is the same. `None`: they are too long, or the session that they
    /// name is none.
    pub(super) fn new(
        headers: &HeaderMap,
        who: &Arc<CallerAt>,
        snapshot: &Arc<Snapshot>,
        sessions: &Sessions,
        quotas: &Quotas,
        now: SystemTime,
    ) -> Option<Self> {
        let mut authorization = copied(headers.get(AUTHORIZATION)?)?;
        authorization.set_sensitive(true);
        let handle = match headers.get(SESSION_ID) {
            Some(handle) => Some(copied(handle)?),
            None => None,
        };
        let ended = AtomicU64::new(sessions.count_ended());
        let session = match &handle {
            Some(handle) => Some(sessions.of(handle, who, now)?),
            None => None,
        };
        let identified = &who.identified;
        Some(Self {
            authorization,
            handle,
            since: now,
            until: until(identified.expires, session.as_deref(), now),
            who: Arc::clone(who),
            session,
            ended,
            prepared: Arc::new(Prepared::new(snapshot)),
            quota: quotas.of_caller(Callers {
                minute: &identified.charged_to,
                at_a_time: &identified.subject,
            }),
            listing: Mutex::default(),
        })
    }

    /// The same, once its caller has been identified again: if they are who they were, and nothing else has changed.
    pub(super) fn renewed(&self, who: &Arc<CallerAt>, snapshot: &Arc<Snapshot>, now: SystemTime) -> Option<Self> {
        let is_over = self.session.as_ref().is_some_and(|session| now >= session.until);
        let is_same = !is_over && self.is_of_snapshot(snapshot) && self.who.identified == who.identified;
        is_same.then(|| self.prepared.forget_over());
        is_same.then(|| Self {
            authorization: self.authorization.clone(),
            handle: self.handle.clone(),
            since: now,
            until: until(who.identified.expires, self.session.as_deref(), now),
            who: Arc::clone(who),
            session: self.session.clone(),
            ended: AtomicU64::new(self.ended.load(Acquire)),
            prepared: Arc::clone(&self.prepared),
            quota: self.quota.clone(),
            listing: Mutex::new(self.lock_listing().clone()),
        })
    }

    /// Whether it says what the registry says now.
    pub(super) fn is_of_snapshot(&self, snapshot: &Arc<Snapshot>) -> bool {
        self.prepared.is_of(snapshot)
    }

    /// Whether its caller need not be identified again yet.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        (self.since..self.until).contains(&now)
    }

    /// Its session, unless that was ended.
    pub(super) fn session(&self, sessions: &Sessions) -> Option<Arc<Session>> {
        let session = self.session.as_ref()?;
        let ended = sessions.count_ended();
        if self.ended.load(Acquire) != ended {
            if sessions.has_ended(session) {
                return None;
            }
            self.ended.store(ended, Release);
        }
        Some(Arc::clone(session))
    }

    fn lock_listing(&self) -> MutexGuard<'_, Weak<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's list of tools in this snapshot, if that is kept.
    pub(super) fn listing(&self, snapshot: &Arc<Snapshot>) -> Option<Arc<Listing>> {
        self.lock_listing().upgrade().filter(|_| self.prepared.is_of(snapshot))
    }

    /// Keeps the client's list of tools in this snapshot.
    pub(super) fn keep_listing(&self, snapshot: &Arc<Snapshot>, listing: &Arc<Listing>) {
        if self.prepared.is_of(snapshot) {
            *self.lock_listing() = Arc::downgrade(listing);
        }
    }

    fn is_of(&self, headers: &HeaderMap, name: &ConsumerRef) -> bool {
        self.who.consumer.name == *name
            && headers.get(SESSION_ID) == self.handle.as_ref()
            && headers.get(AUTHORIZATION) == Some(&self.authorization)
    }
}

impl KnownClients {
    /// Whom these headers come from, if this thread knows that, or has known it in this snapshot.
    pub(super) fn find(
        &self,
        headers: &HeaderMap,
        name: &ConsumerRef,
        snapshot: &Arc<Snapshot>,
        now: SystemTime,
    ) -> Option<Arc<Known>> {
        let tail = tail(headers)?;
        let mut lane = self.0.get_or_default().borrow_mut();
        lane.turn(now);
        let known = match lane.recent.get(&tail) {
            Some(known) => Arc::clone(known),
            None => {
                let known = lane.before.remove(&tail)?;
                lane.put(tail, Arc::clone(&known));
                known
            }
        };
        (known.is_of_snapshot(snapshot) && known.is_of(headers, name)).then_some(known)
    }

    /// This thread knows this client from now on.
    pub(super) fn keep(&self, headers: &HeaderMap, known: &Arc<Known>) {
        if let Some(tail) = tail(headers) {
            let mut lane = self.0.get_or_default().borrow_mut();
            lane.turn(known.since);
            lane.put(tail, Arc::clone(known));
        }
    }
}

impl Lane {
    fn put(&mut self, tail: [u8; TAIL], known: Arc<Known>) {
        if self.recent.len() == CLIENTS / 2 && !self.recent.contains_key(&tail) {
            self.before = take(&mut self.recent);
        }
        self.recent.insert(tail, known);
    }

    /// Forgets those that have not come since the last turn.
    fn turn(&mut self, now: SystemTime) {
        let turned = *self.turned.get_or_insert(now);
        if now.duration_since(turned).is_ok_and(|since| since >= IDLE) {
            self.turned = Some(now);
            self.before = take(&mut self.recent);
        }
    }
}

/// Until when a caller need not be identified again, nor their session looked at.
fn until(token: Option<SystemTime>, session: Option<&Session>, now: SystemTime) -> SystemTime {
    let over = token.into_iter().chain(session.map(|session| session.until));
    over.fold(now + KNOWN_FOR, SystemTime::min)
}

/// By itself: a clone would keep the whole head that the value came in. `None`: it is too long.
fn copied(value: &HeaderValue) -> Option<HeaderValue> {
    let short = (value.len() <= LONGEST).then_some(value)?;
    HeaderValue::from_bytes(short.as_bytes()).ok()
}

/// Tells clients apart, as a rule.
fn tail(headers: &HeaderMap) -> Option<[u8; TAIL]> {
    let last = headers.get(SESSION_ID).or_else(|| headers.get(AUTHORIZATION))?;
    last.as_bytes().last_chunk().copied()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_value_that_is_kept_keeps_nothing_else() {
        let head = Bytes::from(vec![b'a'; 64 << 10]);
        let value = HeaderValue::from_maybe_shared(head.slice(..10)).unwrap();
        let kept = copied(&value).unwrap();
        drop(value);
        assert_eq!(kept, "aaaaaaaaaa");
        assert!(head.is_unique());
    }

    #[test]
    fn a_client_is_known_no_longer_than_its_token_and_its_session_last() {
        let now = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        let session = |until| Session {
            revision: crate::upstream::Revision::LATEST,
            opens_links: false,
            profile: crate::upstream::Profile::default(),
            id: [0; 12],
            until,
        };
        assert_eq!(until(None, None, now), now + KNOWN_FOR);
        assert_eq!(
            until(Some(now + second), Some(&session(now + 2 * second)), now),
            now + second
        );
        assert_eq!(
            until(Some(now + 2 * second), Some(&session(now + second)), now),
            now + second
        );
    }

    #[test]
    fn a_long_value_is_not_kept() {
        for (spaces, is_kept) in [(LONGEST - 11, true), (LONGEST - 10, false), (60 << 10, false)] {
            let value = format!("Bearer{}cht_a", " ".repeat(spaces));
            assert_eq!(copied(&value.parse().unwrap()).is_some(), is_kept, "{spaces}");
        }
    }
}
