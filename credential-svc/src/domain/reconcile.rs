//! Reconciles the owners in the queue, and retries those that fail.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use service_kit::clock::from_micros;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    authorization::servers::AuthorizationServers,
    credentials::Credentials,
    owner::Owner,
    ports::{Registry, Store},
};

/// Owners that are taken from the queue together.
const BATCH: usize = 512;
/// Owners that are reconciled concurrently.
const CONCURRENT: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Runs until `stop` is cancelled.
pub(crate) async fn reconcile<S: Store, R: Registry, A: AuthorizationServers>(
    credentials: Arc<Credentials<S, R, A>>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = forever(&credentials) => {}
        () = stop.cancelled() => {}
    }
}

async fn forever<S: Store, R: Registry, A: AuthorizationServers>(credentials: &Credentials<S, R, A>) {
    let mut pending: BTreeSet<Owner> = BTreeSet::new();
    let mut failed: BTreeSet<Owner> = BTreeSet::new();
    let mut delay = FIRST_RETRY;
    let mut retry = Instant::now();
    loop {
        pending.extend(credentials.queue().take(credentials.clock.now_micros()));
        if Instant::now() >= retry {
            pending.append(&mut failed);
        }
        if pending.is_empty() {
            let due = credentials.queue().due().map(from_micros);
            let pause = due.map(|due| due.duration_since(credentials.clock.now()).unwrap_or_default());
            tokio::select! {
                () = credentials.queue().added() => {}
                () = sleep_until(retry), if !failed.is_empty() => {}
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            continue;
        }
        let batch = std::iter::from_fn(|| pending.pop_first()).take(BATCH);
        let left = reconcile_all(credentials, batch.collect()).await;
        if !left.is_empty() {
            failed.extend(left);
            retry = Instant::now() + delay;
            delay = (delay * 2).min(LAST_RETRY);
        } else if failed.is_empty() {
            delay = FIRST_RETRY;
        }
    }
}

/// Reconciles these owners; returns those that failed.
async fn reconcile_all<S: Store, R: Registry, A: AuthorizationServers>(
    credentials: &Credentials<S, R, A>,
    owners: Vec<Owner>,
) -> Vec<Owner> {
    let outcomes = futures::stream::iter(owners).map(|owner| async move {
        let outcome = credentials.reconcile(&owner).await;
        (owner, outcome)
    });
    let failed = outcomes
        .buffer_unordered(CONCURRENT)
        .filter_map(|(owner, outcome)| async move {
            let error = outcome.err()?;
            tracing::debug!(credential.owner = %owner, error = %error, "reconciling failed; it will be retried");
            Some(owner)
        });
    failed.collect().await
}
