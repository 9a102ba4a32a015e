//! What is done now and then: pending installations that nobody completes expire, old changes and requests are forgotten.

use std::{sync::Arc, time::Duration};

use service_kit::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{api::Registry, api::propagation::HEARTBEAT};

/// Runs until `stop`, and says in `ready` whether the database answers.
pub(crate) async fn run(registry: Arc<Registry>, ready: watch::Sender<Readiness>, stop: CancellationToken) {
    let mut beats = tokio::time::interval(HEARTBEAT.min(Duration::from_secs(4)));
    loop {
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
        ready.send_if_modified(|ready| std::mem::replace(ready, now.clone()) != now);
    }
}
