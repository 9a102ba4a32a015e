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

/// Publishes the readiness that follows from the state of the registry and of the store.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    published: watch::Sender<Readiness>,
}

#[derive(Debug, Default)]
struct State {
    /// The first snapshot of the registry has arrived.
    is_loaded: bool,
    is_connected: bool,
    /// Why the store fails, for operators.
    store_fails: Option<String>,
}

impl Health {
    pub(crate) fn new() -> (Self, watch::Receiver<Readiness>) {
        let state = State::default();
        let (published, readiness) = watch::channel(state.readiness());
        let state = Mutex::new(state);
        (Self(Arc::new(Inner { state, published })), readiness)
    }

    /// The registry's watch is connected, or the registry is unreachable.
    pub(crate) fn registry(&self, is_connected: bool) {
        self.change(|state| {
            state.is_loaded |= is_connected;
            state.is_connected = is_connected;
        });
    }

    fn store(&self, answer: Result<(), StoreError>) {
        self.change(|state| match answer {
            Ok(()) => {
                if state.store_fails.take().is_some() {
                    tracing::info!("the secret store is available again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if state.store_fails.as_ref() != Some(&error) {
                    tracing::error!(error = %error, "nothing can be stored, and only what was vended in the last hour is vended");
                }
                state.store_fails = Some(error);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let readiness = state.readiness();
        self.0
            .published
            .send_if_modified(|published| std::mem::replace(published, readiness.clone()) != readiness);
    }
}

/// Checks every ten seconds that the store answers, until `stop` is cancelled.
pub(crate) async fn watch_store<S: Store, R: Send + Sync, A: Send + Sync>(
    credentials: Arc<Credentials<S, R, A>>,
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
        if let Some(error) = &self.store_fails {
            Readiness::NotReady(format!(
                "nothing can be stored, and only what was vended in the last hour is vended: {error}"
            ))
        } else if !self.is_loaded {
            Readiness::NotReady("the first snapshot of the registry has not arrived yet".to_owned())
        } else if !self.is_connected {
            Readiness::Degraded("the registry is unavailable; vending continues with what was known".to_owned())
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
        let (health, readiness) = Health::new();
        let is = |expected: fn(&Readiness) -> bool| assert!(expected(&readiness.borrow()), "{readiness:?}");
        is(|readiness| matches!(readiness, Readiness::NotReady(_)));
        health.registry(false);
        is(|readiness| matches!(readiness, Readiness::NotReady(why) if why.contains("registry")));
        health.registry(true);
        is(|readiness| matches!(readiness, Readiness::Ready));
        health.registry(false);
        is(|readiness| matches!(readiness, Readiness::Degraded(_)));
        health.store(Err(StoreError::Unavailable("refused".to_owned())));
        is(
            |readiness| matches!(readiness, Readiness::NotReady(why) if why.contains("store") && why.contains("refused")),
        );
        health.registry(true);
        is(|readiness| matches!(readiness, Readiness::NotReady(_)));
        health.store(Ok(()));
        is(|readiness| matches!(readiness, Readiness::Ready));
    }
}
