//! The supervisor of an owner's server: starts the server, restarts it when it ends, and stops it when it should not run.

use std::sync::Arc;

use stdio_bridge::Event;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    bridge::Bridge,
    drawing::{Drawing, Drawn},
    failure::{Cause, Reached},
    place::{Place, Slot},
    restarts::{PendingRestart, Restarts},
    server::{Comparing, Fetching, Next, Server, Step},
    shared::Shared,
};
use crate::domain::{
    logs::Logs,
    spec::ServerSpec,
    status::{Held, State, Status},
};

/// The message of a server that is stopped in order to be restarted.
pub(super) const RESTARTED: &str = "The server is being restarted.";

/// The desired state of an owner.
#[derive(Clone, Debug)]
pub(super) enum Desired {
    Run(Arc<ServerSpec>),
    Hold(Held),
}

/// Supervises an owner's server.
pub(super) struct Supervisor {
    pub(super) owner: String,
    pub(super) shared: Arc<Shared>,
    pub(super) logs: Arc<Logs>,
    desired: watch::Receiver<Desired>,
    restarts: watch::Receiver<Restarts>,
    pub(super) gone: CancellationToken,
    pub(super) server: Server,
    /// Another spec for the server that runs.
    pub(super) comparing: Option<Comparing>,
    /// A fetch in progress. The server may run meanwhile, with earlier versions.
    pub(super) fetching: Option<Fetching>,
    /// The entry revision for which an update of the package was requested.
    pub(super) update: Option<i64>,
    updates_seen: u64,
    /// Why the last update failed, until a status says it.
    pub(super) not_updated: Option<String>,
    pub(super) restart: Option<PendingRestart>,
    /// How many starts have failed in a row.
    pub(super) failures: u32,
    /// The digest of the spec whose last start failed after it had used up its slot; see `Shared::slow_starts`.
    pub(super) slow: Option<String>,
    /// When secrets that could not be drawn are drawn again.
    pub(super) redraw: Option<Instant>,
    /// The digest of the spec whose secrets could not be drawn last time. Its status stays until they can be: each status is reported, and
    /// comes back as another look at the same spec.
    pub(super) undrawn: Option<String>,
}

enum Wake {
    Gone,
    Desired,
    Restart,
    Server(Event),
    Fetch(Event),
    Drawn(Drawn),
    Compared(Drawn),
    Start(Slot),
    StartFetch(Slot),
    FreeSlot,
    Retry,
}

impl Supervisor {
    pub(super) fn new(
        owner: &str,
        shared: Arc<Shared>,
        logs: Arc<Logs>,
        desired: watch::Receiver<Desired>,
        restarts: watch::Receiver<Restarts>,
        gone: CancellationToken,
    ) -> Self {
        Self {
            owner: owner.to_owned(),
            shared,
            logs,
            desired,
            restarts,
            gone,
            server: Server::Idle,
            comparing: None,
            fetching: None,
            update: None,
            updates_seen: 0,
            not_updated: None,
            restart: None,
            failures: 0,
            slow: None,
            redraw: None,
            undrawn: None,
        }
    }

    /// Runs until `gone` is cancelled. Afterwards, no process of the server is left.
    pub(super) async fn run(mut self) {
        self.reconcile().await;
        loop {
            match self.wait().await {
                Wake::Gone => {
                    self.end_fetch().await;
                    return self.end_server().await;
                }
                Wake::Desired => self.reconcile().await,
                Wake::Restart => self.start_again().await,
                Wake::Server(event) => self.on_event(event).await,
                Wake::Fetch(event) => self.on_fetch_event(event).await,
                Wake::Drawn(drawn) => self.on_drawn(drawn).await,
                Wake::Compared(drawn) => self.on_compared(drawn).await,
                Wake::Start(slot) => self.start(slot).await,
                Wake::StartFetch(slot) => self.start_fetch(slot).await,
                Wake::FreeSlot => {
                    if let Server::Starting { slot, .. } = &mut self.server {
                        *slot = None;
                    }
                }
                Wake::Retry => {
                    self.redraw = None;
                    if matches!(self.server, Server::BackOff { .. }) {
                        self.server = Server::Idle;
                    }
                    self.reconcile().await;
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let (mut server, mut draw, mut start, mut free_slot) = (None, None, None, None);
        let (mut retry, mut upcoming) = (self.redraw, None);
        match &mut self.server {
            Server::Idle | Server::Held => {}
            Server::Waiting { next, .. } => upcoming = Some(next),
            Server::BackOff { until, .. } => retry = Some(retry.map_or(*until, |redraw| redraw.min(*until))),
            Server::Starting { run, slot } => {
                free_slot = slot.as_ref().map(|(_, _, until)| *until);
                server = Some(&mut run.bridge);
            }
            Server::Running { run, next } => {
                server = Some(&mut run.bridge);
                upcoming = next.as_mut();
            }
        }
        match upcoming {
            Some(Next::Drawing(drawing)) => draw = Some(drawing),
            Some(Next::Queued(queued)) => start = Some(&mut queued.place),
            Some(Next::Due) | None => {}
        }
        let compared = self.comparing.as_mut().map(|comparing| &mut comparing.drawing);
        let (mut fetch, mut start_fetch) = (None, None);
        match self.fetching.as_mut().map(|fetching| &mut fetching.step) {
            Some(Step::Running { bridge, .. }) => fetch = Some(&mut **bridge),
            Some(Step::Queued(place)) => start_fetch = Some(place),
            None => {}
        }
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Wake::Gone,
            changed = self.desired.changed() => if changed.is_ok() { Wake::Desired } else { Wake::Gone },
            Ok(()) = self.restarts.changed() => Wake::Restart,
            event = next_event(server) => Wake::Server(event),
            event = next_event(fetch) => Wake::Fetch(event),
            drawn = drawn(draw) => Wake::Drawn(drawn),
            compared = drawn(compared) => Wake::Compared(compared),
            slot = slot(start) => Wake::Start(slot),
            slot = slot(start_fetch) => Wake::StartFetch(slot),
            () = at(free_slot) => Wake::FreeSlot,
            () = at(retry) => Wake::Retry,
        }
    }

    /// Makes the server match the desired state.
    pub(super) async fn reconcile(&mut self) {
        let desired = self.desired.borrow_and_update().clone();
        match desired {
            Desired::Hold(held) => self.hold(&held).await,
            Desired::Run(spec) => self.reconcile_spec(&spec).await,
        }
    }

    async fn reconcile_spec(&mut self, spec: &Arc<ServerSpec>) {
        self.drop_outdated_update(spec).await;
        let digest = spec.digest();
        self.comparing.take_if(|comparing| comparing.digest != digest);
        let is_current = self.server.digest() == Some(&digest);
        let is_due = matches!(self.server.next(), Some(Next::Due));
        if is_current && !is_due && self.redraw.is_none() {
            self.update(|status| status.generation = spec.generation);
            return self.update_is_over();
        }
        let outline = spec.outline(&self.shared.machine.working_folder(&self.owner));
        if !self.goes_on_fetching(&outline) {
            self.end_fetch().await;
        }
        // An update continues while the server runs. Any other fetch is one that the server waits for.
        if self.fetching.as_ref().is_some_and(|fetching| !fetching.is_update) {
            if self.server.run().is_some() {
                self.announce(spec.generation, "The package is being fetched.");
                self.end_server().await;
            }
            return self.update(|status| status.generation = spec.generation);
        }
        match self.shared.machine.prepare_fetch(&self.owner, &outline, false) {
            Ok(None) => {
                self.run_spec(spec, digest).await;
                self.resume_update(spec).await;
            }
            Ok(Some(fetch)) => {
                // The server that runs is that of another revision.
                let message = format!("The package {} is being fetched.", fetch.request.requested);
                self.announce(spec.generation, &message);
                self.end_server().await;
                self.fetch(fetch, false).await;
            }
            Err(error) => {
                self.announce(spec.generation, "The package is being checked.");
                self.end_fetch().await;
                self.end_server().await;
                let message = format!("The package cannot be fetched: {error}.");
                self.failed(
                    Cause::PackageNotFetched,
                    &message,
                    digest,
                    self.shared.clock.now_micros(),
                    Reached::Nothing,
                );
            }
        }
    }

    /// Stops the server until another desired state is set.
    pub(super) async fn hold(&mut self, held: &Held) {
        self.update(|status| status.hold(held));
        self.end_fetch().await;
        self.end_server().await;
        self.server = Server::Held;
        self.failures = 0;
        self.not_updated = None;
        self.restart_is_done();
    }

    /// Restarts the server as requested.
    async fn start_again(&mut self) {
        let Restarts {
            last,
            updates,
            update_package_of,
        } = self.restarts.borrow_and_update().clone();
        let waits = last.updates;
        self.restart = Some(last);
        self.failures = 0;
        self.not_updated = None;
        let updates = std::mem::replace(&mut self.updates_seen, updates) != updates;
        if updates {
            self.update = Some(update_package_of);
        }
        let Some(spec) = self.spec() else {
            return self.restart_is_done();
        };
        self.drop_outdated_update(&spec).await;
        // The fetch may be waiting for a registry that does not answer.
        self.end_fetch().await;
        // A restart that requests no update does not wait for an earlier one, which `reconcile` begins again beside the new server.
        if waits && self.update.is_some() && self.server.run().is_some() && self.begin_update(&spec).await {
            return;
        }
        self.end_for_restart(&spec).await;
        self.reconcile().await;
    }

    /// Stops the server in order to restart it; one that is ready, only once its successor can start.
    async fn end_for_restart(&mut self, spec: &ServerSpec) {
        if let Server::Running { next, .. } = &mut self.server {
            *next = Some(Next::Due);
            return;
        }
        self.announce(spec.generation, RESTARTED);
        self.end_server().await;
    }

    /// Begins the update that was requested beside the server, unless another spec is being compared with it.
    pub(super) async fn resume_update(&mut self, spec: &ServerSpec) {
        let may = self.fetching.is_none() && self.comparing.is_none() && !matches!(self.server, Server::Held);
        if self.update.is_some() && may {
            self.begin_update(spec).await;
        }
    }

    /// Starts to fetch newer versions while the server runs. Returns false if there is nothing to fetch.
    async fn begin_update(&mut self, spec: &ServerSpec) -> bool {
        let outline = spec.outline(&self.shared.machine.working_folder(&self.owner));
        match self.shared.machine.prepare_fetch(&self.owner, &outline, true) {
            Ok(Some(fetch)) => {
                self.fetch(fetch, true).await;
                true
            }
            // `reconcile` runs into the same error, and reports it.
            Ok(None) | Err(_) => false,
        }
    }

    /// Sets the status before a server is stopped, so that no new calls are sent to it.
    pub(super) fn announce(&self, generation: i64, message: &str) {
        self.update(|status| {
            status.generation = generation;
            status.set(State::Pending, "STARTING", message);
        });
    }

    /// Marks the status as the outcome of the last restart, unless that restart waits for an update, or for a start slot.
    pub(super) fn restart_is_done(&mut self) {
        if self.server.next().is_some() {
            return;
        }
        let updating = self.fetching.as_ref().is_some_and(|fetching| fetching.is_update);
        if let Some(restart) = self.restart.take_if(|restart| !(restart.updates && updating)) {
            self.update(|status| status.observed_restart = restart.id);
        }
    }

    /// Stops the server, and waits until no process of it is left. Its calls are finished first, unless no server should run any more.
    pub(super) async fn end_server(&mut self) {
        let (gone, mut desired) = (self.gone.clone(), self.desired.clone());
        let hurry = async {
            tokio::select! {
                () = gone.cancelled() => {}
                _ = desired.wait_for(|desired| matches!(desired, Desired::Hold(_))) => {}
            }
        };
        self.comparing = None;
        // What is to be started gives up its place and its slots before the calls are waited for.
        let ended = match std::mem::replace(&mut self.server, Server::Idle) {
            Server::Starting { run, .. } | Server::Running { run, .. } => Some(run),
            _ => None,
        };
        if let Some(run) = ended {
            let clean = run.bridge.stop(hurry, &self.logs).await;
            if !clean {
                self.sweep().await;
            }
        }
    }

    pub(super) async fn sweep(&mut self) {
        if let Err(error) = self.shared.machine.sweep(&self.owner).await {
            tracing::error!(runtime.owner = %self.owner, error = %error, "processes of a server could not be ended");
        }
    }

    /// Restarts the server with the package that was fetched.
    pub(super) async fn restart_with_package(&mut self) {
        if self.server.run().is_some()
            && let Some(spec) = self.spec()
        {
            self.end_for_restart(&spec).await;
        }
        if !matches!(self.server, Server::Held | Server::Running { .. }) {
            self.server = Server::Idle;
        }
        self.reconcile().await;
    }

    /// The spec that should run, if one should.
    pub(super) fn spec(&self) -> Option<Arc<ServerSpec>> {
        match &*self.desired.borrow() {
            Desired::Run(spec) => Some(Arc::clone(spec)),
            Desired::Hold(_) => None,
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        let update = self.fetching.as_ref().filter(|fetching| fetching.is_update);
        let update = update.map_or_else(String::new, |update| updating(&update.fetch.request.requested));
        self.shared.statuses.update(
            &self.owner,
            || Status::starting(0),
            |status| {
                change(status);
                status.update = update;
            },
        );
    }
}

fn updating(requested: &str) -> String {
    format!(
        "The package {requested} is being updated: its newest versions are being fetched. The server is restarted with them once they are there."
    )
}

async fn next_event(bridge: Option<&mut Bridge>) -> Event {
    match bridge {
        Some(bridge) => bridge.next().await,
        None => std::future::pending().await,
    }
}

async fn drawn(drawing: Option<&mut Drawing>) -> Drawn {
    match drawing {
        Some(drawing) => drawing.drawn().await,
        None => std::future::pending().await,
    }
}

async fn slot(place: Option<&mut Place>) -> Slot {
    match place {
        Some(place) => place.slot().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
