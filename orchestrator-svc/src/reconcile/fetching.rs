//! The package that a server's command names: fetched before the server is started, and before it gets any secret.

use stdio_bridge::EndReason;
use tokio::time::Instant;

use super::supervisor::Supervisor;
use crate::{
    domain::{plan::Plan, status::State},
    runtime::local::Fetch,
};

impl Supervisor {
    /// Begins to fetch what `outline`, a plan without secrets, names.
    pub(super) async fn fetch(&mut self, outline: &Plan, fetch: Fetch, generation: i64) {
        self.stop_bridge().await;
        self.state.retry = None;
        self.state.started = self.context.clock.now_micros();
        self.update(|s| {
            let message = format!("The package {} is being fetched.", fetch.wanted.requested);
            s.set(State::Pending, "STARTING", message);
            s.generation = generation;
        });
        match self.context.local.fetch(&self.uid, outline, &fetch).await {
            Ok(bridge) => {
                self.state.bridge = Some(bridge);
                self.state.fetch = Some(fetch);
            }
            Err(error) => {
                tracing::error!(installation.uid = %self.uid, error = %error, "a package could not be fetched");
                self.give_up(fetch).await;
                self.failed(
                    EndReason::PackageNotFetched,
                    "The fetch of the package could not be started; the log of Chandlery says why.",
                );
            }
        }
    }

    /// The bridge that fetched it has ended.
    pub(super) async fn fetched(&mut self, fetch: Fetch, message: &str, succeeded: bool) {
        let requested = fetch.wanted.requested.clone();
        if !succeeded {
            // Those versions go on that there are.
            self.state.update_wanted = false;
            self.give_up(fetch).await;
            let message = format!("The package {requested} could not be fetched. {message}");
            return self.failed(EndReason::PackageNotFetched, &message);
        }
        match self.context.local.fetched(&self.uid, fetch).await {
            Ok(rest) => {
                if rest.is_none() {
                    self.state.update_wanted = false;
                    tracing::info!(installation.uid = %self.uid, package = requested, "package fetched");
                }
                self.state.rest = rest;
                self.state.seen = None;
                self.state.retry = Some(Instant::now());
            }
            Err(error) => {
                self.state.update_wanted = false;
                let message = format!("The package {requested} cannot be used: {error}.");
                self.failed(EndReason::PackageNotFetched, &message);
            }
        }
    }

    /// Removes what was fetched of it.
    pub(super) async fn give_up(&self, fetch: Fetch) {
        if let Err(error) = self.context.local.give_up(fetch).await {
            tracing::warn!(installation.uid = %self.uid, error = %error, "a package's unfinished folder is left");
        }
    }
}
