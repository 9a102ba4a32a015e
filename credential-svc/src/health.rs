//! Whether this service can do its work: it follows the registry, and its store answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use service_kit::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::{
    credentials::Credentials,
    ports::{Store, StoreError},
};

const EVERY: Duration = Duration::from_secs(10);

/// Tells the readiness that follows from what is known of the registry and the store.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    told: watch::Sender<Readiness>,
}

#[derive(Debug, Default)]
struct State {
    /// The registry has told once what there is.
    is_loaded: bool,
    is_connected: bool,
    store_fails: bool,
}

impl Health {
    pub(crate) fn new() -> (Self, watch::Receiver<Readiness>) {
        let state = State::default();
        let (told, readiness) = watch::channel(state.readiness());
        let state = Mutex::new(state);
        (Self(Arc::new(Inner { state, told })), readiness)
    }

    /// The registry is followed, or is out of reach.
    pub(crate) fn registry(&self, is_connected: bool) {
        self.change(|state| {
            state.is_loaded |= is_connected;
            state.is_connected = is_connected;
        });
    }

    fn store(&self, answer: Result<(), StoreError>) {
        self.change(|state| match answer {
            Ok(()) => {
                if std::mem::take(&mut state.store_fails) {
                    tracing::info!("the secret store is available again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.store_fails, true) {
                    tracing::error!(error = %error, "the secret store is unavailable");
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let readiness = state.readiness();
        self.0
            .told
            .send_if_modified(|told| std::mem::replace(told, readiness.clone()) != readiness);
    }
}

/// Asks the store every ten seconds whether it answers, until `stop` is cancelled.
pub(crate) async fn watch_store<S: Store, R: Send + Sync>(
    credentials: Arc<Credentials<S, R>>,
    health: Health,
    stop: CancellationToken,
) {
    let forever = async {
        loop {
            health.store(credentials.check_store().await);
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = forever => {}
        () = stop.cancelled() => {}
    }
}

impl State {
    fn readiness(&self) -> Readiness {
        if self.store_fails {
            Readiness::NotReady("the secret store is unavailable: nothing can be stored or vended".to_owned())
        } else if !self.is_loaded {
            Readiness::NotReady("the first snapshot of the registry has not arrived yet".to_owned())
        } else if !self.is_connected {
            Readiness::Degraded("the registry is unavailable; vending goes on with what was known".to_owned())
        } else {
            Readiness::Ready
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_where_both_answer() {
        let (health, told) = Health::new();
        let is = |expected: fn(&Readiness) -> bool| assert!(expected(&told.borrow()), "{told:?}");
        is(|told| matches!(told, Readiness::NotReady(_)));
        health.registry(false);
        is(|told| matches!(told, Readiness::NotReady(why) if why.contains("registry")));
        health.registry(true);
        is(|told| matches!(told, Readiness::Ready));
        health.registry(false);
        is(|told| matches!(told, Readiness::Degraded(_)));
        health.store(Err(StoreError::Unavailable("refused".to_owned())));
        is(|told| matches!(told, Readiness::NotReady(why) if why.contains("store")));
        health.registry(true);
        is(|told| matches!(told, Readiness::NotReady(_)));
        health.store(Ok(()));
        is(|told| matches!(told, Readiness::Ready));
    }
}
