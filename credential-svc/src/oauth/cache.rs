//! What servers say of themselves, kept for a while. All who wait share one fetch.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use service_kit::Clock;
use tokio::{sync::watch, time::timeout};

use crate::domain::authorization::servers::ServerError;

/// How long what was read is used without asking again.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long it is used while the server is unreachable.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a server that failed is not asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// What is kept of one server is at most about 60 KB.
const SERVERS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Cache<T: Send + Sync + 'static> {
    clock: Clock,
    /// How long one request may take.
    patience: Duration,
    slots: moka::sync::Cache<String, Arc<Slot<T>>>,
}

/// What is known of one server.
#[derive(Debug)]
struct Slot<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    last: Option<(T, SystemTime)>,
    /// The failure of the last fetch.
    failed: Option<(ServerError, SystemTime)>,
    /// Closes when the fetch ends.
    fetch: Option<watch::Receiver<()>>,
}

impl<T: Clone + Send + Sync + 'static> Cache<T> {
    pub(super) fn new(clock: Clock, patience: Duration) -> Self {
        Self {
            clock,
            patience,
            slots: moka::sync::Cache::builder()
                .max_capacity(SERVERS)
                .time_to_idle(STALE)
                .build(),
        }
    }

    /// What is known of the server `key`, or what `fetch` reads. What was read before `since` counts only while the server is unreachable.
    pub(super) async fn get<F>(
        &self,
        key: &str,
        since: Option<SystemTime>,
        fetch: impl FnOnce() -> F,
    ) -> Result<T, ServerError>
    where
        F: Future<Output = Result<T, ServerError>> + Send + 'static,
    {
        let slot = self.slots.get_with_by_ref(key, Arc::default);
        let (mut ended, patience) = {
            let mut state = slot.state();
            let now = self.clock.now();
            if state.is_decided(now, since) {
                return state.answer(now);
            }
            let patience = match (state.usable(now), &state.failed) {
                (None, _) => self.fetch_time(),
                // With something older that may serve, briefly, and not at all after a failure.
                (Some(_), None) if state.is_from(since) => self.patience / 5,
                (Some(_), None) => self.fetch_time(),
                (Some(_), Some(_)) => Duration::ZERO,
            };
            // A fetch whose channel is closed has ended, or panicked.
            let under_way = state.fetch.clone().filter(|ended| ended.has_changed().is_ok());
            let ended = under_way.unwrap_or_else(|| self.begin(Arc::clone(&slot), fetch()));
            state.fetch = Some(ended.clone());
            (ended, patience)
        };
        let _late = timeout(patience, ended.changed()).await;
        slot.state().answer(self.clock.now())
    }

    /// How long a fetch may take, which is several requests.
    fn fetch_time(&self) -> Duration {
        self.patience * 2
    }

    /// In a task of its own: the caller who begins it may be cancelled.
    fn begin(
        &self,
        slot: Arc<Slot<T>>,
        fetch: impl Future<Output = Result<T, ServerError>> + Send + 'static,
    ) -> watch::Receiver<()> {
        let (end, ended) = watch::channel(());
        let (clock, patience) = (self.clock.clone(), self.fetch_time());
        tokio::spawn(async move {
            let fetched = timeout(patience, fetch).await.unwrap_or_else(|_late| Err(late()));
            let mut state = slot.state();
            let now = clock.now();
            match fetched {
                Ok(value) => (state.last, state.failed) = (Some((value, now)), None),
                Err(error) => state.failed = Some((error, now)),
            }
            drop(state);
            drop(end);
        });
        ended
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            last: None,
            failed: None,
            fetch: None,
        }))
    }
}

impl<T> Slot<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> State<T> {
    /// Whether nothing has to be fetched.
    fn is_decided(&self, now: SystemTime, since: Option<SystemTime>) -> bool {
        match &self.failed {
            Some((_, at)) => age(*at, now) < PAUSE,
            None => self.is_from(since) && self.last.as_ref().is_some_and(|(_, at)| age(*at, now) < FRESH),
        }
    }

    /// Whether what was read last was not read before `since`.
    fn is_from(&self, since: Option<SystemTime>) -> bool {
        let last = self.last.as_ref();
        since.is_none_or(|since| last.is_some_and(|(_, at)| *at >= since))
    }

    /// What was read last, unless the server said something wrong after that, or it is too old.
    fn usable(&self, now: SystemTime) -> Option<T> {
        let (last, at) = self.last.as_ref()?;
        let said_nothing = self.failed.as_ref().is_none_or(|(error, _)| error.is_passing());
        (said_nothing && age(*at, now) < STALE).then(|| last.clone())
    }

    fn answer(&self, now: SystemTime) -> Result<T, ServerError> {
        self.usable(now).ok_or_else(|| match &self.failed {
            Some((error, _)) => error.clone(),
            None => late(),
        })
    }
}

fn age(at: SystemTime, now: SystemTime) -> Duration {
    // Where the clock was set back: nothing is kept for longer because of that.
    now.duration_since(at).unwrap_or_else(|ahead| ahead.duration())
}

fn late() -> ServerError {
    ServerError::Unavailable("the server did not answer in time".to_owned())
}
