//! Periodic work. Each of these is a separate task: one that is slow does not delay the others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use contracts::registry::GatewayReplica;
use service_kit::{Readiness, Workload};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Registry, installations};
use crate::{
    config::Retention,
    domain::{Actor, Error},
    store::{self, Compaction, gateway_replicas, requests, watchers},
};

/// How often the database is checked, and expired installations and lost gateways are searched for.
const LOOK: Duration = Duration::from_secs(4);
/// After this time without an answer, the database counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often the size of the change log is checked, and how often it is compacted whatever its size.
const LOG: Duration = Duration::from_secs(5);
const COMPACT: Duration = Duration::from_secs(60);
/// A retry with a `request_id` is recognized for this long.
const REQUESTS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Requests that are forgotten in one transaction.
const REQUESTS_AT_ONCE: i64 = 1_000;

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Reports in `ready` whether the database answers and whether watchers lag.
pub(crate) async fn look(registry: Arc<Registry>, ready: watch::Sender<Readiness>, stop: CancellationToken) {
    let mut ticks = ticks(LOOK);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let answered = timeout(PATIENCE, registry.db.read()).await;
        let now = match answered {
            Ok(Ok(_)) => registry.propagation.readiness(),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the database did not answer");
                unanswered()
            }
            Err(_) => unanswered(),
        };
        ready.send_if_modified(|ready| {
            let changed = *ready != now;
            if changed && let Readiness::Degraded(text) = &now {
                tracing::warn!("{text}");
            }
            *ready = now;
            changed
        });
    }
}

fn unanswered() -> Readiness {
    Readiness::NotReady("the registry's database does not answer".to_owned())
}

/// Deletes installations that were not completed in time.
pub(crate) async fn expire(registry: Arc<Registry>, stop: CancellationToken) {
    let mut ticks = ticks(LOOK);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let expired = async {
            // In small transactions, with others between them.
            while installations::expire(&registry).await? > 0 {
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>(())
        };
        if let Some(Err(error)) = stop.run_until_cancelled(expired).await {
            tracing::warn!(error = %error, "expired installations could not be deleted; trying again");
        }
    }
}

/// Deletes old changes and request ids.
pub(crate) async fn forget(registry: Arc<Registry>, retention: Retention, stop: CancellationToken) {
    let mut compaction = Compaction::new(retention);
    let mut ticks = ticks(LOG.min(retention.age));
    let mut compacted: Option<Instant> = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let forgotten = async {
            let is_time = compacted.is_none_or(|compacted| compacted.elapsed() >= COMPACT.min(retention.age));
            if !compaction.is_due(&registry.db).await? && !is_time {
                return Ok::<_, store::Error>(());
            }
            compaction.run(&registry.db, registry.clock.now_micros()).await?;
            forget_requests(&registry).await?;
            compacted = Some(Instant::now());
            Ok(())
        };
        if let Some(Err(error)) = stop.run_until_cancelled(forgotten).await {
            tracing::warn!(error = %error, "old changes could not be deleted; trying again later");
        }
    }
}

async fn forget_requests(registry: &Registry) -> store::Result<()> {
    let kept = i64::try_from(REQUESTS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let before = registry.clock.now_micros() - kept;
    loop {
        let mut tx = registry.db.write_quietly().await?;
        let forgotten = requests::forget(&mut tx, before, REQUESTS_AT_ONCE).await?;
        tx.commit().await?;
        if forgotten == 0 {
            return Ok(());
        }
    }
}

/// Keeps the list of gateway replicas, which their peers watch, equal to those that are connected, here or at other replicas.
pub(crate) async fn know_gateways(registry: Arc<Registry>, stop: CancellationToken) {
    let began = Instant::now();
    let mut ticks = ticks(LOOK);
    let mut goodbyes = Vec::new();
    loop {
        let next = async {
            tokio::select! {
                () = registry.propagation.gateways_changed() => {}
                _ = ticks.tick() => {}
            }
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return;
        }
        goodbyes.append(&mut registry.propagation.take_goodbyes());
        // After a start, gateways have some time to come back.
        let all_back = began.elapsed() > registry.propagation.lease();
        match know_gateways_once(&registry, &goodbyes, all_back).await {
            Ok(()) => goodbyes.clear(),
            Err(error) => {
                tracing::warn!(error = %error, "the addresses of gateways could not be written; trying again");
            }
        }
    }
}

async fn know_gateways_once(registry: &Registry, goodbyes: &[String], all_back: bool) -> store::Result<()> {
    let now = || registry.clock.now_micros();
    watchers::bury(&registry.db).await?;
    let mut tx = registry.db.read().await?;
    let mut known: HashMap<String, String> = gateway_replicas::all(&mut tx)
        .await?
        .into_iter()
        .map(|replica| (replica.instance, replica.address))
        .collect();
    drop(tx);
    let mut missing = Vec::new();
    for (instance, address) in registry.propagation.gateways() {
        if !address.is_empty() && known.remove(&instance).as_ref() != Some(&address) {
            missing.push(GatewayReplica { instance, address });
        }
    }
    if !missing.is_empty() {
        let mut tx = registry.db.write(Actor::Workload(Workload::Gateway), now).await?;
        for replica in &missing {
            gateway_replicas::put(&mut tx, replica).await?;
        }
        tx.commit().await?;
    }
    known.retain(|instance, _| {
        let counts = registry.propagation.has_gateway(instance);
        counts == Some(false) && (all_back || goodbyes.contains(instance))
    });
    if known.is_empty() {
        return Ok(());
    }
    let mut tx = registry.db.write(Actor::Registry, now).await?;
    // One may have connected since, to whichever replica.
    let connected = gateway_replicas::connected(&mut tx).await?;
    for instance in known.into_keys() {
        if registry.propagation.has_gateway(&instance) == Some(false) && !connected.contains(&instance) {
            gateway_replicas::remove(&mut tx, &instance).await?;
        }
    }
    tx.commit().await.map(drop)
}
