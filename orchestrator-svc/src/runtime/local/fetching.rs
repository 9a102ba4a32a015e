//! Fetches the package that a server's command names, before the server is started and gets any secret.

use stdio_bridge::Event;

use super::{
    bridge::leaves_nothing,
    failure::{Cause, Reached},
    packages::Fetch,
    place::{Place, Slot},
    server::{Fetching, Server, Step},
    supervisor::Supervisor,
};
use crate::domain::spec::{Launch, ServerSpec};

impl Supervisor {
    /// Starts a fetch, and cancels another one in progress.
    pub(super) async fn fetch(&mut self, fetch: Fetch, is_update: bool) {
        self.end_fetch().await;
        self.fetching = Some(Fetching {
            fetch,
            is_update,
            started: self.shared.clock.now_micros(),
            step: self.next_step(),
        });
        self.tell_update();
    }

    /// Makes the status say whether the package is being updated, as each change of the status does.
    fn tell_update(&self) {
        self.update(|_| {});
    }

    fn next_step(&self) -> Step {
        Step::Queued(Place::new(&self.shared.fetches))
    }

    /// Whether the fetch in progress is the one that a spec requires.
    pub(super) fn goes_on_fetching(&self, outline: &Launch) -> bool {
        self.fetching.as_ref().is_some_and(|fetching| {
            (self.update.is_some() || !fetching.is_update) && self.shared.machine.is_for(outline, &fetching.fetch)
        })
    }

    /// Starts the next step of the fetch, which has got a slot.
    pub(super) async fn start_fetch(&mut self, slot: Slot) {
        let Some(mut fetching) = self.fetching.take() else {
            return;
        };
        let Some(spec) = self.spec() else {
            return self.give_up(fetching.fetch).await;
        };
        let outline = spec.outline(&self.shared.machine.working_folder(&self.owner));
        match self.shared.machine.fetch(&self.owner, &outline, &fetching.fetch).await {
            Ok(bridge) => {
                fetching.step = Step::Running {
                    bridge: Box::new(bridge),
                    slot,
                };
                self.fetching = Some(fetching);
            }
            Err(error) => {
                tracing::error!(runtime.owner = %self.owner, error = %error, "a package could not be fetched");
                let message = "Internal error: the fetch of the package could not be started; see the server log.";
                self.fetch_failed(fetching, message).await;
            }
        }
    }

    pub(super) async fn on_fetch_event(&mut self, event: Event) {
        match event {
            Event::Log { line, time } => self.logs.push(&line, time),
            Event::Started { .. } | Event::Ready | Event::ToolsChanged | Event::SessionStarts { .. } => {}
            Event::Ended {
                reason,
                message,
                exit_code,
                ..
            } => {
                let Some(mut fetching) = self.fetching.take() else {
                    return;
                };
                if let Step::Running { bridge, .. } = std::mem::replace(&mut fetching.step, self.next_step()) {
                    bridge.reap().await;
                }
                if !leaves_nothing(reason) {
                    self.sweep_fetch().await;
                }
                if exit_code == Some(0) {
                    self.step_done(fetching).await;
                } else {
                    let requested = &fetching.fetch.request.requested;
                    // The bridge does not know that it runs a package manager.
                    let message = message.replace("The MCP server", "The package manager");
                    let message = format!("The package {requested} could not be fetched. {message}");
                    self.fetch_failed(fetching, &message).await;
                }
            }
        }
    }

    async fn step_done(&mut self, fetching: Fetching) {
        let requested = fetching.fetch.request.requested.clone();
        let started = fetching.started;
        match self.shared.machine.fetched(&self.owner, fetching.fetch).await {
            Ok(Some(fetch)) => {
                self.fetching = Some(Fetching { fetch, ..fetching });
            }
            Ok(None) => {
                if fetching.is_update {
                    self.update = None;
                }
                tracing::info!(runtime.owner = %self.owner, package = requested, "package fetched");
                self.restart_with_package().await;
            }
            Err(error) => {
                let message = format!("The package {requested} cannot be used: {error}.");
                self.not_fetched(&message, fetching.is_update, started);
            }
        }
    }

    async fn fetch_failed(&mut self, fetching: Fetching, message: &str) {
        let Fetching { is_update, started, .. } = fetching;
        self.give_up(fetching.fetch).await;
        self.not_fetched(message, is_update, started);
    }

    /// Records that a fetch failed. After a failed update, the server keeps its current versions, and the error is added to its status: at once if it
    /// runs or has failed, otherwise when it has been started. Without an update, the server cannot run.
    fn not_fetched(&mut self, message: &str, is_update: bool, started: i64) {
        if !is_update {
            let digest = self.spec().map(|spec| spec.digest()).unwrap_or_default();
            return self.failed(Cause::PackageNotFetched, message, digest, started, Reached::Nothing);
        }
        self.update = None;
        let message = self.shared.machine.without_folders(message);
        tracing::warn!(runtime.owner = %self.owner, error = %message, "a package was not updated");
        self.not_updated = Some(format!(
            "The package was not updated; the server keeps its current versions. {message}"
        ));
        self.update_is_over();
    }

    /// Drops a request for an update that was made for an earlier revision of the entry: who may request one depends on the revision.
    pub(super) async fn drop_outdated_update(&mut self, spec: &ServerSpec) {
        if self.update.take_if(|revision| *revision < spec.revision).is_none() {
            return;
        }
        self.not_updated =
            Some("The package was not updated: the entry has changed. Request the update again.".to_owned());
        if self.fetching.as_ref().is_some_and(|fetching| fetching.is_update) {
            self.end_fetch().await;
        }
    }

    /// Makes the status the outcome of an update that failed, if one did, unless the server is yet to be started.
    pub(super) fn update_is_over(&mut self) {
        let is_settled = match &self.server {
            Server::Running { next, .. } => next.is_none(),
            Server::BackOff { has_failed, .. } => *has_failed,
            _ => false,
        };
        if is_settled && self.not_updated.is_some() {
            self.explain_update();
            self.restart_is_done();
        }
    }

    /// Adds to the status why the last update failed, unless a status has said it.
    pub(super) fn explain_update(&mut self) {
        if let Some(message) = self.not_updated.take() {
            self.update(|status| status.explain(&message));
        }
    }

    /// Cancels a fetch in progress, and removes what it has fetched so far.
    pub(super) async fn end_fetch(&mut self) {
        let Some(fetching) = self.fetching.take() else {
            return;
        };
        self.tell_update();
        if let Step::Running { bridge, .. } = fetching.step {
            let clean = bridge.stop(std::future::ready(()), &self.logs).await;
            if !clean {
                self.sweep_fetch().await;
            }
        }
        self.give_up(fetching.fetch).await;
    }

    async fn sweep_fetch(&mut self) {
        if let Err(error) = self.shared.machine.sweep_fetch(&self.owner).await {
            tracing::error!(runtime.owner = %self.owner, error = %error, "processes of a fetch could not be ended");
        }
    }

    async fn give_up(&mut self, fetch: Fetch) {
        if let Err(error) = self.shared.machine.give_up(fetch).await {
            tracing::warn!(runtime.owner = %self.owner, error = %error, "the folder of an unfinished fetch could not be removed");
        }
    }
}
