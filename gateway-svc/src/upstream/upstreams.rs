//! What all calls to upstreams share.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::{future::Cache, sync};
use service_kit::{Clock, egress::EgressPolicy, http1::HttpPath, turns::OwnTurns};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{
    by_client::ByClient,
    circuit::Circuits,
    client::{Client, Era, Profile},
    door::Doors,
    limits::Limits,
    message::{Outgoing, Params},
    open_session::OpenSession,
    pool::Pool,
    progress_tokens::ProgressTokens,
    room::Rooms,
    session::Session,
    stream_begun::StreamBegun,
    subscribed::Subscribed,
    target::{Endpoint, SessionKey, Target},
};

/// A session that was not used for this time is forgotten.
const SESSION_IDLE: Duration = Duration::from_secs(3600);
const SESSIONS: u64 = 50_000;
/// Whether a server has become modern is asked again after this time.
const ERA: Duration = Duration::from_secs(3600);
/// A level that no session was opened with for this time is forgotten.
const LEVEL_IDLE: Duration = Duration::from_secs(24 * 3600);

/// See [`Upstreams::when_opened`].
type Opened = Box<dyn Fn(&Client) -> bool + Send + Sync>;

/// Says that a session has been opened that several clients share; returns what its first calls wait for.
type SharedOpened = Box<dyn Fn(OpenSession) -> Option<StreamBegun> + Send + Sync>;

/// All upstreams.
#[derive(Clone)]
pub(crate) struct Upstreams {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) remote: Pool,
    /// Remote servers that get secrets by plain http.
    pub(super) plain_with_secrets: Pool,
    pub(super) hosted: Pool,
    /// The remote servers that fail.
    pub(super) circuits: Circuits,
    /// Those that cannot be reached, for what no caller waits for.
    pub(super) doors: Doors,
    pub(super) sessions: Cache<SessionKey, Arc<Session>>,
    pub(super) by_client: Arc<ByClient>,
    /// Called when a client has another session of its own.
    pub(super) opened: OnceLock<Opened>,
    /// Called when a session has been opened that several clients share.
    pub(super) shared_opened: OnceLock<SharedOpened>,
    pub(super) subscribed: Subscribed,
    /// The levels of log messages that clients have set, as JSON.
    pub(super) levels: sync::Cache<Client, Arc<str>>,
    /// The progress tokens of the requests of clients with sessions, which are good for as long as a task that became of one.
    pub(super) tokens: ProgressTokens,
    /// Which era each server speaks, as far as that is known.
    pub(super) eras: sync::Cache<Endpoint, Era>,
    pub(super) limits: Limits,
    next_id: AtomicU64,
    /// For answers to callers.
    pub(super) rooms: Rooms,
    /// For answers to the gateway itself, each upstream its own.
    pub(super) own_rooms: Rooms,
    pub(super) turns: OwnTurns,
    pub(super) own_profile: Profile,
    pub(super) shared_profile: Profile,
    /// Requests whose upstreams are to be told if nobody waits for the answer.
    pub(super) open: TaskTracker,
    /// Outlives the threads that serve connections.
    pub(super) runtime: Handle,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

impl Upstreams {
    /// Connects to remote servers only where `policy` permits. Within the runtime that lasts as long as the service.
    pub(crate) fn new(policy: EgressPolicy, limits: Limits, path: HttpPath, clock: Clock) -> Self {
        let by_client = Arc::new(ByClient::default());
        let index = Arc::clone(&by_client);
        let sessions = Cache::builder()
            .max_capacity(SESSIONS)
            .time_to_idle(SESSION_IDLE)
            .eviction_listener(move |key, session: Arc<Session>, _| {
                session.set_forgotten();
                index.remove(&key, &session);
            })
            .build();
        let plain_with_secrets = Arc::new(policy.for_plain_secrets());
        let rooms = Rooms::new(limits.room, limits.room_each, limits.room_wait);
        let own_rooms = Rooms::new(limits.room / 4, limits.max_message, limits.room_wait);
        let inner = Inner {
            remote: Pool::new(Some(Arc::new(policy)), limits.connect, path),
            // A separate pool: a connection that was made without a secret may lead to an address that must not get one.
            plain_with_secrets: Pool::new(Some(plain_with_secrets), limits.connect, path),
            hosted: Pool::new(None, limits.connect, path),
            circuits: Circuits::new(limits.away, clock),
            doors: Doors::default(),
            sessions,
            by_client,
            opened: OnceLock::new(),
            shared_opened: OnceLock::new(),
            subscribed: Subscribed::default(),
            levels: sync::Cache::builder()
                .max_capacity(SESSIONS)
                .time_to_idle(LEVEL_IDLE)
                .build(),
            tokens: ProgressTokens::default(),
            eras: sync::Cache::builder().max_capacity(SESSIONS).time_to_live(ERA).build(),
            limits,
            next_id: AtomicU64::new(1),
            rooms,
            own_rooms,
            turns: OwnTurns::default(),
            own_profile: Profile::default(),
            shared_profile: Profile::without_capabilities(),
            open: TaskTracker::new(),
            runtime: Handle::current(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has this called when a client has another session of its own; it says whether somebody listens. Only the first counts.
    pub(crate) fn when_opened(&self, opened: impl Fn(&Client) -> bool + Send + Sync + 'static) {
        let _ = self.inner.opened.set(Box::new(opened));
    }

    /// Waits until no request is open: each is answered, or its upstream told that it is cancelled.
    pub(crate) async fn idle(&self) {
        self.inner.open.close();
        self.inner.open.wait().await;
    }

    /// A request under a fresh id. `params` is empty or a JSON object; `extra` are further members of the message.
    pub(crate) fn request(&self, method: &str, params: &[u8], extra: &[(Cow<'_, str>, &str)]) -> Outgoing {
        Outgoing::new(self.next_id(), method, params, extra, None)
    }

    /// A request for a client, who follows its progress under `token`, if that is given: the upstream gets the request's id in its place.
    pub(crate) fn request_for(
        &self,
        method: &str,
        token: Option<Bytes>,
        params: impl Params,
        extra: &[(Cow<'_, str>, &str)],
    ) -> Outgoing {
        Outgoing::new(self.next_id(), method, params, extra, token)
    }

    /// The same request under a fresh id, with what a modern server has asked for.
    pub(super) fn again(&self, request: &Outgoing, inputs: Bytes) -> Outgoing {
        request.again(self.next_id(), inputs)
    }

    fn next_id(&self) -> u64 {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// What the gateway says of itself or its client to this server.
    pub(super) fn profile<'a>(&'a self, target: &'a Target) -> &'a Profile {
        match &target.profile {
            Some(profile) => profile,
            None if target.takes_no_questions => &self.inner.shared_profile,
            None => &self.inner.own_profile,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}
