//! Session handles contain their session, sealed: any replica can open them, also after a restart, and clients cannot forge them.
//!
//! A handle is bound to its subject and its gateway or agent. One that was ended by DELETE is remembered until it
//! would have expired, by the replica that received it; after a restart it opens again, for the same caller only.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::aead::NONCE_LEN;
use data_encoding::BASE64URL_NOPAD;
use http::HeaderValue;
use moka::{policy::EvictionPolicy, sync::Cache};
use service_kit::keys::{Ring, Sealing};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{caller_at::CallerAt, recent::Recent};
use crate::{
    domain::ConsumerRef,
    upstream::{Client, Profile, Revision},
};

/// The header with a session's handle.
pub(super) const SESSION_ID: &str = "mcp-session-id";
/// A session ends after this time, and its client initializes again.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const CONTEXT: &[u8] = b"chandlery mcp session 2";
const ENDED: u64 = 1_000_000;
const KNOWN: usize = 200_000;
/// The longest handle that is opened; those of `seal` are shorter.
const MAX_HANDLE: usize = 4096;

/// What a client agreed to in `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The revision both speak.
    pub(crate) revision: Revision,
    /// Whether the client can open links for the user (`elicitation.url`).
    pub(crate) opens_links: bool,
    /// What the client says of itself.
    pub(crate) profile: Profile,
    /// Identifies it.
    pub(crate) id: [u8; NONCE_LEN],
    /// When it is over.
    pub(crate) until: SystemTime,
}

impl Session {
    /// The client, as servers with a session for each client distinguish it.
    pub(crate) fn client(&self) -> Client {
        Client::Session(self.id)
    }

    /// Whether its revision has tasks.
    pub(crate) fn has_tasks(&self) -> bool {
        self.revision >= Revision::V2025_11_25
    }

    /// Whether the error that asks to open a link is for this client.
    pub(crate) fn takes_links(&self) -> bool {
        self.opens_links && self.revision >= Revision::V2025_11_25
    }
}

/// Seals and opens sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    sealing: Sealing,
    ended: Cache<[u8; NONCE_LEN], ()>,
    /// How many that were, ever.
    count_ended: AtomicU64,
    /// Those that began here, and those whose clients hold streams here.
    known: Recent,
    streams: Arc<Streams>,
}

/// The sessions whose clients hold streams open: how many, and what ends them.
#[derive(Debug, Default)]
struct Streams(Mutex<HashMap<[u8; NONCE_LEN], (usize, CancellationToken)>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; NONCE_LEN], (usize, CancellationToken)>> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that a client of a session holds open.
#[derive(Debug)]
pub(crate) struct Listening {
    streams: Arc<Streams>,
    session: [u8; NONCE_LEN],
    ended: CancellationToken,
    is_from_elsewhere: bool,
}

impl Listening {
    /// Whether the session began at another replica or before this one was started, and has had no stream here.
    pub(crate) const fn is_from_elsewhere(&self) -> bool {
        self.is_from_elsewhere
    }

    /// Waits until the session is ended.
    pub(crate) fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.ended.cancelled()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        if let Some((count, _)) = streams.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.session);
            }
        }
    }
}

impl Sessions {
    /// With keys of 32 random bytes, which all replicas share.
    pub(crate) fn new(keys: impl Into<Ring>) -> Self {
        Self {
            sealing: Sealing::new(&keys.into()),
            ended: remembered(ENDED),
            count_ended: AtomicU64::new(0),
            known: Recent::new(KNOWN),
            streams: Arc::default(),
        }
    }

    /// A new session's handle.
    pub(crate) fn seal(
        &self,
        revision: Revision,
        opens_links: bool,
        profile: &Profile,
        subject: &str,
        consumer: &ConsumerRef,
        now: SystemTime,
    ) -> String {
        let capabilities = profile.capabilities();
        let mut plain = vec![revision as u8, u8::from(opens_links)];
        plain.extend_from_slice(&seconds(now).to_be_bytes());
        let length = u16::try_from(capabilities.len()).expect("a profile is short");
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(capabilities.as_bytes());
        plain.extend_from_slice(profile.info().as_bytes());
        let sealed = self.sealing.seal(&aad(subject, consumer), &plain);
        if let Some(id) = sealed.first_chunk() {
            self.known.insert(*id);
        }
        BASE64URL_NOPAD.encode(&sealed)
    }

    /// The session of a handle, if it was made for this subject and this gateway or agent, and is not over.
    pub(crate) fn open(&self, handle: &str, subject: &str, consumer: &ConsumerRef, now: SystemTime) -> Option<Session> {
        if handle.len() > MAX_HANDLE {
            return None;
        }
        let sealed = BASE64URL_NOPAD.decode(handle.as_bytes()).ok()?;
        let (id, plain) = self.sealing.open(&aad(subject, consumer), &sealed)?;
        let ([revision, opens_links], rest) = plain.split_first_chunk()?;
        let (made, rest) = rest.split_first_chunk()?;
        let (length, profile) = rest.split_first_chunk()?;
        let made = u64::from_be_bytes(*made);
        let profile = std::str::from_utf8(profile).ok()?;
        let (capabilities, info) = profile.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let revision = [Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25]
            .into_iter()
            .find(|known| *known as u8 == *revision)?;
        let until = UNIX_EPOCH + Duration::from_secs(made) + LIFETIME;
        let over = now >= until || self.ended.contains_key(&id);
        (!over).then_some(Session {
            revision,
            opens_links: *opens_links == 1,
            profile: Profile::new(capabilities, info),
            id,
            until,
        })
    }

    /// The session of this handle, if it is one of this caller at this gateway or agent.
    pub(super) fn of(&self, handle: &HeaderValue, who: &CallerAt, now: SystemTime) -> Option<Arc<Session>> {
        let CallerAt { identified, consumer } = who;
        let session = self.open(handle.to_str().ok()?, &identified.subject, &consumer.name, now)?;
        Some(Arc::new(session))
    }

    /// Whether the session was ended.
    pub(crate) fn has_ended(&self, session: &Session) -> bool {
        self.ended.contains_key(&session.id)
    }

    /// How many sessions were ended: a session that had not ended at the same count has not ended.
    pub(crate) fn count_ended(&self) -> u64 {
        self.count_ended.load(Acquire)
    }

    /// Ends the session.
    pub(crate) fn end(&self, session: &Session) {
        self.ended.insert(session.id, ());
        self.count_ended.fetch_add(1, Release);
        if let Some((_, stream)) = self.streams.lock().get(&session.id) {
            stream.cancel();
        }
    }

    /// A stream of this session, which ends with it, and with `stop`.
    pub(crate) fn listen(&self, session: &Session, stop: &CancellationToken) -> Listening {
        let mut streams = self.streams.lock();
        let (count, ended) = (streams.entry(session.id)).or_insert_with(|| (0, stop.child_token()));
        *count += 1;
        let ended = ended.clone();
        drop(streams);
        // It may have been ended since it was opened.
        if self.ended.contains_key(&session.id) {
            ended.cancel();
        }
        let is_from_elsewhere = self.known.insert(session.id);
        Listening {
            streams: Arc::clone(&self.streams),
            session: session.id,
            ended,
            is_from_elsewhere,
        }
    }
}

/// Ids of sessions, at most `capacity`: of more, the latest. The default policy would admit none to a full cache.
fn remembered(capacity: u64) -> Cache<[u8; NONCE_LEN], ()> {
    let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
    cache.max_capacity(capacity).time_to_live(LIFETIME).build()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The subject, and the gateway or agent. Neither contains a line end.
fn aad(subject: &str, consumer: &ConsumerRef) -> Vec<u8> {
    let mut aad = Vec::with_capacity(CONTEXT.len() + subject.len() + consumer.slug.len() + 16);
    aad.extend_from_slice(CONTEXT);
    aad.push(b'\n');
    aad.extend_from_slice(subject.as_bytes());
    aad.push(b'\n');
    aad.push(b'0' + consumer.kind as u8);
    aad.extend_from_slice(consumer.slug.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ConsumerKind;

    fn gateway(slug: &str) -> ConsumerRef {
        ConsumerRef::new(ConsumerKind::Gateway, slug)
    }

    /// Any replica opens a handle, but only for the same subject and gateway, whichever of their tokens is used.
    #[test]
    fn opens_on_any_replica_but_for_nobody_else() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let handle = Sessions::new([1; 32]).seal(
            Revision::V2025_06_18,
            true,
            &Profile::default(),
            "users/a",
            &gateway("g"),
            now,
        );
        let replica = Sessions::new([1; 32]);
        let session = replica.open(&handle, "users/a", &gateway("g"), now).unwrap();
        assert_eq!((session.revision, session.opens_links), (Revision::V2025_06_18, true));
        let agent = ConsumerRef::new(ConsumerKind::Agent, "g");
        assert_eq!(replica.open(&handle, "users/b", &gateway("g"), now), None);
        assert_eq!(replica.open(&handle, "users/a", &gateway("h"), now), None);
        assert_eq!(replica.open(&handle, "users/a", &agent, now), None);
        assert_eq!(
            Sessions::new([2; 32]).open(&handle, "users/a", &gateway("g"), now),
            None
        );
        assert_eq!(replica.open(&handle, "users/a", &gateway("g"), now + LIFETIME), None);
        for forged in ["", "AAAA", "ü", &handle[1..], &handle.to_lowercase(), &"A".repeat(6000)] {
            assert_eq!(replica.open(forged, "users/a", &gateway("g"), now), None, "{forged}");
        }
    }

    #[tokio::test]
    async fn the_streams_of_an_ended_session_end_and_all_when_the_gateway_stops() {
        let sessions = Sessions::new([1; 32]);
        let session = |id| Session {
            revision: Revision::LATEST,
            opens_links: false,
            profile: Profile::default(),
            id: [id; NONCE_LEN],
            until: UNIX_EPOCH,
        };
        let stop = CancellationToken::new();
        let [first, second, other] = [1, 1, 2].map(|id| sessions.listen(&session(id), &stop));
        drop(first);
        assert!(!second.ended.is_cancelled());
        sessions.end(&session(1));
        second.ended().await;
        sessions.listen(&session(1), &stop).ended().await;
        assert!(!other.ended.is_cancelled());
        stop.cancel();
        other.ended().await;
        drop((second, other));
        assert!(sessions.streams.lock().is_empty());
    }

    #[test]
    fn a_session_from_elsewhere_is_known_from_its_first_stream_on() {
        let (now, profile) = (UNIX_EPOCH, Profile::default());
        let [here, elsewhere] = [(); 2].map(|()| Sessions::new([1; 32]));
        let handle = elsewhere.seal(Revision::LATEST, false, &profile, "users/a", &gateway("g"), now);
        let session = here.open(&handle, "users/a", &gateway("g"), now).unwrap();
        let is_from_elsewhere =
            |replica: &Sessions| replica.listen(&session, &CancellationToken::new()).is_from_elsewhere();
        assert!(!is_from_elsewhere(&elsewhere));
        assert!(is_from_elsewhere(&here));
        assert!(!is_from_elsewhere(&here));
    }

    /// However many sessions have ended before it.
    #[test]
    fn the_session_that_ended_last_is_remembered() {
        let ended = remembered(10);
        for id in 0..100 {
            ended.insert([id; NONCE_LEN], ());
            ended.run_pending_tasks();
            assert!(ended.contains_key(&[id; NONCE_LEN]), "{id}");
        }
        assert!(!ended.contains_key(&[0; NONCE_LEN]));
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let now = UNIX_EPOCH;
        let sessions = Sessions::new([1; 32]);
        let profile = Profile::default();
        let seal = || sessions.seal(Revision::LATEST, false, &profile, "users/a", &gateway("g"), now);
        let (handle, other) = (seal(), seal());
        sessions.end(&sessions.open(&handle, "users/a", &gateway("g"), now).unwrap());
        assert_eq!(sessions.open(&handle, "users/a", &gateway("g"), now), None);
        assert!(sessions.open(&other, "users/a", &gateway("g"), now).is_some());
    }
}
