//! Connections that wait for the next request.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::coop::unconstrained,
    time::{Instant, sleep_until},
};

use super::connection::{Connection, Server};

/// The connections of one thread, whichever thread their last answers were read on: the thread that has opened one is the one that its bytes wake.
#[derive(Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those of each server, the one that was used last at the back.
    servers: HashMap<Server, VecDeque<Idle>>,
    sweep: Sweep,
    limits: Limits,
}

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Unused.
    pub(crate) idle: Duration,
    /// Since it was opened: the server's name may lead elsewhere by now.
    pub(crate) age: Duration,
    /// For each server.
    pub(crate) each: usize,
}

struct Idle {
    connection: Box<Connection>,
    /// Until when it may be used.
    until: Instant,
}

/// The task that closes connections which nobody takes.
#[derive(Default)]
enum Sweep {
    #[default]
    Absent,
    /// It has not been polled yet.
    Begun,
    /// Woken when a server closes a connection.
    Waits(Waker),
}

impl Kept {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            limits,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to this server that was used last, if it may still be. Whether the server has closed it must be looked at.
    pub(super) fn take(&self, server: &Server, now: Instant) -> Option<Box<Connection>> {
        let mut state = self.state();
        let idle = state.servers.get_mut(server)?.pop_back()?;
        // The others are older still, and the sweep's.
        (now < idle.until).then_some(idle.connection)
    }

    /// Keeps a connection, behind an exchange that has ended.
    pub(super) fn put(self: Arc<Self>, mut connection: Box<Connection>) {
        let mut state = self.state();
        if !connection.is_quiet(&mut Context::from_waker(state.sweep.waker())) {
            return;
        }
        let (now, Limits { idle, age, each }) = (Instant::now(), state.limits);
        let (until, is_old) = (now + idle, now >= connection.opened + age);
        let of_server = state.servers.entry(connection.server.clone()).or_default();
        if is_old || of_server.len() >= each {
            return;
        }
        of_server.push_back(Idle { connection, until });
        if matches!(state.sweep, Sweep::Absent)
            && let Ok(runtime) = Handle::try_current()
        {
            state.sweep = Sweep::Begun;
            // What is spawned is dropped at once by a runtime that ends.
            drop(state);
            runtime.spawn(sweep(Sweeper {
                kept: Arc::downgrade(&self),
                has_ended: false,
            }));
        }
    }

    /// Closes those that are too old, or that their servers have closed; later ones wake the task. Returns when the next is too old, if any are left.
    fn sweep(&self, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        state.sweep = Sweep::Waits(cx.waker().clone());
        let mut next = None;
        state.servers.retain(|_, of_server| {
            of_server.retain_mut(|idle| now < idle.until && idle.connection.is_quiet(cx));
            next = of_server.front().map(|first| first.until).into_iter().chain(next).min();
            !of_server.is_empty()
        });
        if next.is_none() {
            state.sweep = Sweep::Absent;
        }
        next
    }
}

impl Sweep {
    fn waker(&self) -> &Waker {
        match self {
            Self::Waits(waker) => waker,
            Self::Absent | Self::Begun => Waker::noop(),
        }
    }
}

/// Says that the task is gone, where its runtime has ended before it.
struct Sweeper {
    kept: Weak<Kept>,
    has_ended: bool,
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(kept) = self.kept.upgrade()
        {
            kept.state().sweep = Sweep::Absent;
        }
    }
}

/// Closes connections in time, with one timer for all, until there are none.
async fn sweep(mut sweeper: Sweeper) {
    let mut timer = pin!(sleep_until(Instant::now()));
    let sweeps = poll_fn(|cx| {
        loop {
            let Some(next) = sweeper.kept.upgrade().and_then(|kept| kept.sweep(cx)) else {
                return Poll::Ready(());
            };
            timer.as_mut().reset(next);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    });
    // Otherwise, a budget that is used up looks like a quiet connection, and wakes the task.
    unconstrained(sweeps).await;
    // The state says so already; another task may have begun since.
    sweeper.has_ended = true;
}
