//! Servers that are away: calls do not wait for one after another of them. A circuit breaker for each installation's remote server.
//!
//! Only what says nothing about the request counts as a failure: no connection, no TLS, a 502, 503 or 504 of something in between, and silence. Before
//! silence or such a status counts for more than their own calls, and before a server that was away gets calls again, it is asked whether it is there.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use tokio::time::Instant;

use super::{
    error::{Away, Failure, UpstreamError},
    target::{Endpoint, Target},
};

/// After so many failures in a row, calls are refused; and how much time may be between two of them.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(600);
/// The longest time until a server is tried again.
const LONGEST: Duration = Duration::from_secs(30);
const SERVERS: u64 = 20_000;

/// The servers that fail.
#[derive(Debug)]
pub(super) struct Circuits {
    failing: Cache<Arc<str>, Arc<Circuit>>,
    /// How many these are. As a rule none, and nothing is looked up.
    count: Arc<AtomicUsize>,
    /// The time until a server is tried again, at first.
    first: Duration,
}

/// The server of an installation, from its first failure to its next answer.
#[derive(Debug)]
struct Circuit {
    endpoint: Endpoint,
    state: Mutex<State>,
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    since: Instant,
    last: Instant,
    what: Failure,
    why: String,
    /// Set while calls are refused.
    away: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    delay: Duration,
    until: Instant,
    /// Somebody asks whether it is there.
    trying: bool,
}

/// The right to ask a server whether it is there again. One call at a time has it.
#[derive(Debug)]
pub(super) struct Trial(Arc<Circuit>);

impl Drop for Circuit {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Circuit {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self, now: Instant) -> UpstreamError {
        let again = self.away.as_ref().map(|wait| wait.until.saturating_duration_since(now));
        UpstreamError::Away(Box::new(Away {
            failures: self.failures,
            lasts: now.saturating_duration_since(self.since),
            what: self.what,
            why: self.why.clone(),
            again: again.unwrap_or_default(),
        }))
    }
}

impl Circuits {
    /// A server that is given up is tried again after `first`, then after twice that, and so on.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            failing: Cache::builder().max_capacity(SERVERS).time_to_idle(WINDOW).build(),
            count: Arc::default(),
            first,
        }
    }

    fn of(&self, target: &Target) -> Option<Arc<Circuit>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let known = self.failing.get(target.installation());
        known.filter(|circuit| circuit.endpoint == target.key.endpoint)
    }

    /// Whether a request may be sent to this server: with a trial, once that has shown that it is there.
    ///
    /// # Errors
    /// The server is away.
    pub(super) fn admit(&self, target: &Target) -> Result<Option<Trial>, UpstreamError> {
        let Some(circuit) = self.of(target) else {
            return Ok(None);
        };
        let (mut state, now) = (circuit.state(), Instant::now());
        match &mut state.away {
            None => Ok(None),
            Some(wait) if wait.until <= now && !wait.trying => {
                wait.trying = true;
                drop(state);
                Ok(Some(Trial(circuit)))
            }
            Some(_) => Err(state.refusal(now)),
        }
    }

    /// The server has answered.
    pub(super) fn answered(&self, target: &Target) {
        let Some(circuit) = self.of(target) else { return };
        self.failing.invalidate(target.installation());
        if circuit.state().away.is_some() {
            tracing::info!(installation.uid = %target.installation(), "a server that was away answers again");
        }
    }

    /// The server has failed. Whether that was one failure too many: then it is to be given up, unless it answers something else.
    pub(super) fn failed(&self, target: &Target, what: Failure, why: &str) -> bool {
        let now = Instant::now();
        let circuit = self.of(target).unwrap_or_else(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            let state = State {
                failures: 0,
                since: now,
                last: now,
                what,
                why: String::new(),
                away: None,
            };
            let circuit = Arc::new(Circuit {
                endpoint: target.key.endpoint.clone(),
                state: Mutex::new(state),
                count: Arc::clone(&self.count),
            });
            self.failing
                .insert(Arc::clone(target.installation()), Arc::clone(&circuit));
            circuit
        });
        let mut state = circuit.state();
        if state.last + WINDOW < now {
            (state.failures, state.since) = (0, now);
        }
        state.failures = state.failures.saturating_add(1);
        (state.last, state.what) = (now, what);
        why.clone_into(&mut state.why);
        // The call that was to decide may have been given up meanwhile.
        state.away.is_none() && state.failures.is_multiple_of(FAILURES)
    }

    /// Refuses calls of this server until it is tried again.
    pub(super) fn give_up(&self, target: &Target) {
        let Some(circuit) = self.of(target) else { return };
        let mut state = circuit.state();
        tracing::warn!(
            installation.uid = %target.installation(),
            failures = state.failures,
            failure = %state.what,
            error = %state.why,
            "a server has failed too often in a row: calls are refused until it answers"
        );
        state.away = Some(Wait {
            delay: self.first,
            until: Instant::now() + self.first,
            trying: false,
        });
    }
}

impl Trial {
    /// It is still away: this many seconds longer.
    pub(super) fn failed(&self) -> UpstreamError {
        let (mut state, now) = (self.0.state(), Instant::now());
        if let Some(wait) = &mut state.away {
            wait.delay = (wait.delay * 2).min(LONGEST);
            wait.until = now + wait.delay;
        }
        state.refusal(now)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(wait) = &mut self.0.state().away {
            wait.trying = false;
        }
    }
}
