//! What is done now and then: pending installations that nobody completes expire, old changes and requests are forgotten.

use std::{sync::Arc, time::Duration};

use service_kit::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Registry, propagation::HEARTBEAT},
    operate::installations,
    store::{changes, requests},
};

/// So often, old changes and requests are forgotten: every so many heartbeats.
const COMPACT_EVERY: u64 = 15;
/// A retry with a `request_id` is recognized for this long.
const REQUESTS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Runs until `stop`, and says in `ready` whether the database answers.
pub(crate) async fn run(registry: Arc<Registry>, ready: watch::Sender<Readiness>, stop: CancellationToken) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for beat in 0_u64.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beats.tick() => {}
        }
        let now = match registry.propagation.heartbeat().await {
            Ok(()) => Readiness::Ready,
            Err(error) => {
                tracing::warn!(error = %error, "the database did not answer");
                Readiness::NotReady("the registry's database does not answer".to_owned())
            }
        };
        if let Err(error) = installations::expire(&registry).await {
            tracing::warn!(error = %error, "expired installations could not be deleted; trying again");
        }
        ready.send_if_modified(|ready| std::mem::replace(ready, now.clone()) != now);
        if beat % COMPACT_EVERY == 0
            && let Err(error) = forget(&registry).await
        {
            tracing::warn!(error = %error, "old changes could not be forgotten; trying again later");
        }
    }
}

async fn forget(registry: &Registry) -> sqlx::Result<()> {
    let kept = i64::try_from(REQUESTS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let mut tx = registry.db.write_quietly().await?;
    changes::compact(&mut tx).await?;
    requests::forget(&mut tx, registry.clock.now_micros() - kept).await?;
    tx.commit().await.map(drop)
}
