//! Servers that are away: calls do not wait for one after another of them. A circuit breaker for each installation's remote server.
//!
//! Only what says nothing about the request counts as a failure: no connection, no TLS, a 502, 503 or 504 of something in between, and silence. Before
//! silence or such a status counts for more than their own calls, and before a server that was away gets calls again, it is asked whether it is there.
//!
//! Where callers send a credential or headers of their own, silence and such a status may come of these. Each has a circuit of their own for that, and
//! they share that of connections.

use std::{
    ops::Add,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use service_kit::Clock;
use tokio::time::Instant;

use super::{
    error::{Away, Failure, UpstreamError},
    target::{Endpoint, Target, Whose},
};

/// After so many failures in a row, calls are refused; and how much time may be between two of them.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(600);
/// The longest time until a server is tried again.
const LONGEST: Duration = Duration::from_secs(30);
const SERVERS: u64 = 20_000;

/// Uid of an installation, and for whom alone its server fails.
type Key = (Arc<str>, Option<Whose>);

/// The servers that fail.
#[derive(Debug)]
pub(super) struct Circuits {
    failing: Cache<Key, Arc<Circuit>>,
    /// How many these are. As a rule none, and nothing is looked up.
    count: Arc<AtomicUsize>,
    /// The time until a server is tried again, at first.
    first: Duration,
    clock: Clock,
}

/// The server of an installation, from its first failure to its next answer.
#[derive(Debug)]
struct Circuit {
    key: Key,
    endpoint: Endpoint,
    state: Mutex<State>,
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    since: Moment,
    last: Instant,
    what: Failure,
    why: String,
    /// Set while calls are refused.
    away: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    delay: Duration,
    until: Moment,
    /// Somebody asks whether it is there.
    trying: bool,
}

/// A time to wait for, and the same for people: made once, since the two clocks run apart.
#[derive(Clone, Copy, Debug)]
struct Moment {
    instant: Instant,
    time: SystemTime,
}

impl Moment {
    fn now(clock: &Clock) -> Self {
        Self {
            instant: Instant::now(),
            time: clock.now(),
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self {
            instant: self.instant + later,
            time: self.time + later,
        }
    }
}

/// The right to ask a server whether it is there again. One request at a time has it.
#[derive(Debug)]
pub(super) struct Trial {
    circuit: Arc<Circuit>,
    clock: Clock,
}

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
    fn refusal(&self, now: Instant) -> Box<Away> {
        let until = self.away.as_ref().map_or(self.since, |wait| wait.until);
        Box::new(Away {
            failures: self.failures,
            since: self.since.time,
            lasts: now.saturating_duration_since(self.since.instant),
            what: self.what,
            why: self.why.clone(),
            until: until.time,
            again: until.instant.saturating_duration_since(now),
        })
    }
}

impl Circuits {
    /// A server that is given up is tried again after `first`, then after twice that, and so on.
    pub(super) fn new(first: Duration, clock: Clock) -> Self {
        Self {
            failing: Cache::builder().max_capacity(SERVERS).time_to_idle(WINDOW).build(),
            count: Arc::default(),
            first,
            clock,
        }
    }

    fn of(&self, installation: &Arc<str>, endpoint: &Endpoint, whose: Option<&Whose>) -> Option<Arc<Circuit>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let known = self.failing.get(&(Arc::clone(installation), whose.cloned()));
        known.filter(|circuit| circuit.endpoint == *endpoint)
    }

    /// Those that decide about the requests of this caller, or of one who sends what all others do: their own, and if connections fail, everybody's.
    fn about(
        &self,
        installation: &Arc<str>,
        endpoint: &Endpoint,
        whose: Option<&Whose>,
    ) -> impl Iterator<Item = Arc<Circuit>> {
        let own = self.of(installation, endpoint, whose);
        let all = whose.and_then(|_| self.of(installation, endpoint, None));
        own.into_iter()
            .chain(all.filter(|all| all.state().what == Failure::Connect))
    }

    fn about_target(&self, target: &Target) -> impl Iterator<Item = Arc<Circuit>> {
        self.about(target.installation(), &target.key.endpoint, target.whose.as_ref())
    }

    /// Why requests to this server are refused now, if they are.
    pub(super) fn refusal(
        &self,
        installation: &Arc<str>,
        endpoint: &Endpoint,
        whose: Option<&Whose>,
    ) -> Option<Box<Away>> {
        let refuses = |circuit: Arc<Circuit>| {
            let state = circuit.state();
            state.away.is_some().then(|| state.refusal(Instant::now()))
        };
        self.about(installation, endpoint, whose).find_map(refuses)
    }

    /// Whether a request may be sent to this server: with a trial, once that has shown that it is there.
    ///
    /// # Errors
    /// The server is away.
    pub(super) fn admit(&self, target: &Target) -> Result<Option<Trial>, UpstreamError> {
        let mut trial = None;
        for circuit in self.about_target(target) {
            let (mut state, now) = (circuit.state(), Instant::now());
            match &mut state.away {
                None => {}
                Some(wait) if wait.until.instant <= now && !wait.trying => {
                    wait.trying = true;
                    drop(state);
                    let clock = self.clock.clone();
                    trial = Some(Trial { circuit, clock });
                }
                Some(_) => return Err(UpstreamError::Away(state.refusal(now))),
            }
        }
        Ok(trial)
    }

    /// Why a request to this server would be refused now, unless somebody tries the server, or the request would.
    pub(super) fn turned_away(&self, target: &Target) -> Option<UpstreamError> {
        self.about_target(target).find_map(|circuit| {
            let (state, now) = (circuit.state(), Instant::now());
            let waits = |wait: &Wait| !wait.trying && wait.until.instant > now;
            let away = state.away.as_ref().is_some_and(waits);
            away.then(|| UpstreamError::Away(state.refusal(now)))
        })
    }

    /// The server has answered.
    pub(super) fn answered(&self, target: &Target) {
        for circuit in self.about_target(target) {
            self.failing.invalidate(&circuit.key);
            if circuit.state().away.is_some() {
                tracing::info!(installation.uid = %target.installation(), "a server that was away answers again");
            }
        }
    }

    /// The server has failed. Whether that was one failure too many: then it is to be given up, unless it answers something else.
    pub(super) fn failed(&self, target: &Target, what: Failure, why: &str) -> bool {
        let now = Moment::now(&self.clock);
        let whose = whose(target, what);
        if let (Some(_), Failure::Gateway(_)) = (whose, what) {
            self.connected(target);
        }
        let known = self.of(target.installation(), &target.key.endpoint, whose);
        let circuit = known.unwrap_or_else(|| {
            let key = (Arc::clone(target.installation()), whose.cloned());
            self.count.fetch_add(1, Ordering::Relaxed);
            let state = State {
                failures: 0,
                since: now,
                last: now.instant,
                what,
                why: String::new(),
                away: None,
            };
            let circuit = Arc::new(Circuit {
                key: key.clone(),
                endpoint: target.key.endpoint.clone(),
                state: Mutex::new(state),
                count: Arc::clone(&self.count),
            });
            self.failing.insert(key, Arc::clone(&circuit));
            circuit
        });
        let mut state = circuit.state();
        if state.last + WINDOW < now.instant {
            (state.failures, state.since) = (0, now);
        }
        state.failures = state.failures.saturating_add(1);
        (state.last, state.what) = (now.instant, what);
        why.clone_into(&mut state.why);
        // The call that was to decide may have been given up meanwhile.
        state.away.is_none() && state.failures.is_multiple_of(FAILURES)
    }

    /// A connection to the server was made, whatever else has failed: that callers share.
    fn connected(&self, target: &Target) {
        let all = self.of(target.installation(), &target.key.endpoint, None);
        if let Some(all) = all.filter(|all| all.state().what == Failure::Connect) {
            self.failing.invalidate(&all.key);
        }
    }

    /// Refuses calls of this server, which has failed so, until it is tried again.
    pub(super) fn give_up(&self, target: &Target, what: Failure) {
        let Some(circuit) = self.of(target.installation(), &target.key.endpoint, whose(target, what)) else {
            return;
        };
        let mut state = circuit.state();
        tracing::warn!(
            installation.uid = %target.installation(),
            failures = state.failures,
            failure = %state.what,
            of_one_caller = circuit.key.1.is_some(),
            error = %state.why,
            "a server has failed too often in a row: calls are refused until it answers"
        );
        state.away = Some(Wait {
            delay: self.first,
            until: Moment::now(&self.clock) + self.first,
            trying: false,
        });
    }
}

/// For whom alone a failure of this server counts.
fn whose(target: &Target, what: Failure) -> Option<&Whose> {
    target.whose.as_ref().filter(|_| what != Failure::Connect)
}

impl Trial {
    /// How the server has failed.
    pub(super) fn failure(&self) -> Failure {
        self.circuit.state().what
    }

    /// It is still away: this many seconds longer.
    pub(super) fn failed(&self) -> UpstreamError {
        let (mut state, now) = (self.circuit.state(), Moment::now(&self.clock));
        state.failures = state.failures.saturating_add(1);
        state.last = now.instant;
        if let Some(wait) = &mut state.away {
            wait.delay = (wait.delay * 2).min(LONGEST);
            wait.until = now + wait.delay;
        }
        UpstreamError::Away(state.refusal(now.instant))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(wait) = &mut self.circuit.state().away {
            wait.trying = false;
        }
    }
}
