//! Counts the requests in flight, and refuses further ones.

use std::{sync::Arc, time::Duration};

use http::Response;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::answer::{Body, until_sent};

/// Counts requests until their answers are sent, and admits no more once the server must stop.
#[derive(Clone, Debug)]
pub(crate) struct InFlight(Arc<watch::Sender<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    closed: bool,
    /// When a request was last admitted or finished.
    used: Instant,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<watch::Sender<State>>);

impl Default for InFlight {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State {
            requests: 0,
            closed: false,
            used: Instant::now(),
        })))
    }
}

impl InFlight {
    /// Admits a request. `None`: no more are admitted.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let admitted = self.0.send_if_modified(|state| {
            state.requests += usize::from(!state.closed);
            state.used = Instant::now();
            !state.closed
        });
        admitted.then(|| Admitted(Arc::clone(&self.0)))
    }

    /// Admits no more, and waits until none is in flight.
    pub(crate) async fn drain(&self) {
        self.close();
        let mut state = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.requests == 0).await;
    }

    /// Since when no request has been in flight; `None` if one is, or no more are admitted.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let state = self.0.borrow();
        (state.requests == 0 && !state.closed).then_some(state.used)
    }

    /// Admits no more, unless a request is in flight. False: one is, or no more were admitted already.
    pub(crate) fn close_if_idle(&self) -> bool {
        self.0.send_if_modified(|state| {
            let idle = state.requests == 0 && !state.closed;
            state.closed |= idle;
            idle
        })
    }

    /// Whether no more are admitted.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    /// Admits no more.
    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    /// Waits until none has been in flight for this time, and admits no more. Never returns if it was closed by another method.
    pub(crate) async fn idle_for(&self, time: Duration) {
        let mut state = self.0.subscribe();
        loop {
            let idle = state.borrow_and_update().requests == 0;
            let until = self.idle_since().map(|since| since + time);
            match until.filter(|_| idle) {
                Some(until) => {
                    if timeout_at(until, state.changed()).await.is_err() && self.close_if_idle() {
                        return;
                    }
                }
                // The sender lives as long as `self`.
                None => drop(state.changed().await),
            }
        }
    }

    /// Calls `then` each time that none has been in flight for this time. Never returns.
    pub(crate) async fn each_rest(&self, time: Duration, then: impl Fn()) {
        let mut state = self.0.subscribe();
        loop {
            state.borrow_and_update();
            if let Some(since) = self.idle_since() {
                if timeout_at(since + time, state.changed()).await.is_ok() {
                    continue;
                }
                then();
            }
            // The sender lives as long as `self`.
            let _ = state.changed().await;
        }
    }
}

impl Admitted {
    /// Keeps the request in flight until its answer is sent, or its client has disconnected.
    pub(crate) fn until_answered(self, response: Response<Body>) -> Response<Body> {
        until_sent(response, self)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.send_modify(|state| {
            state.requests -= 1;
            state.used = Instant::now();
        });
    }
}
