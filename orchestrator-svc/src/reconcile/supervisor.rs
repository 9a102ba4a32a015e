//! One installation's server: started when it can be, started again when it ends, stopped when it must not be.

use std::{path::PathBuf, sync::Arc, time::Duration};

use contracts::registry::{ConditionStatus, report_cleanup_request::Subject};
use service_kit::{Clock, clock::from_micros};
use stdio_bridge::{EndReason, Event};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    cleanup::report_cleanup,
    controller::{Restart, Runtime},
    vend::{VendError, vend},
};
use crate::{
    config::Backoff,
    domain::{
        desired::{Credentials, Desired},
        logs::LogLine,
        plan::{Missing, Plan, placeholders, self_hosted, wants_secrets},
        status::{State, Status, delay, failure},
    },
    runtime::local::{Bridge, Fetch, LocalRuntime, Started},
};

/// Of the last lines, how many go into a message.
const LAST_LINES: usize = 10;

/// What every supervisor uses.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) registry: Channel,
    pub(crate) credential: Channel,
    pub(crate) clock: Clock,
    pub(crate) local: Arc<LocalRuntime>,
    pub(crate) backoff: Backoff,
}

/// Looks after one installation.
pub(crate) struct Supervisor {
    pub(crate) uid: String,
    pub(crate) context: Arc<Context>,
    pub(crate) desired: watch::Receiver<Arc<Desired>>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) stop: CancellationToken,
    pub(crate) state: Running,
}

/// What it has going.
#[derive(Default)]
pub(crate) struct Running {
    pub(super) bridge: Option<Bridge>,
    socket: PathBuf,
    /// What the bridge fetches; `None` while it serves.
    pub(super) fetch: Option<Fetch>,
    /// What is left to do of what was fetched.
    pub(super) rest: Option<Fetch>,
    /// Whether the newest versions of its package were asked for, rather than those it has.
    pub(super) update_wanted: bool,
    /// Updates that were asked for and taken up.
    pub(super) updates_taken: u64,
    /// The entry revision for which they were.
    update_for_revision: i64,
    pub(super) fingerprint: Option<[u8; 32]>,
    /// As `Status::spec_digest`.
    spec_digest: String,
    pub(super) started: i64,
    /// In a row.
    failures: u32,
    /// When to try again.
    pub(super) retry: Option<Instant>,
    /// What was last looked at; nothing else needs a new look.
    pub(super) seen: Option<Seen>,
}

/// What a decision depends on, but for secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the plan with placeholders.
    spec: [u8; 32],
    credentials: Credentials,
}

enum Wake {
    Desired,
    Restart(Restart),
    Retry,
    Said(Event),
    Stop,
}

impl Supervisor {
    /// Runs until the installation is gone, or the service stops.
    pub(crate) async fn run(mut self) {
        let mut restarts = self.runtime.restarts.subscribe();
        self.state.updates_taken = restarts.borrow_and_update().updates_asked;
        loop {
            let desired = Arc::clone(&self.desired.borrow_and_update());
            if desired.installation.delete_time.is_some() {
                return self.delete().await;
            }
            self.look(&desired).await;
            loop {
                match self.wait(&mut restarts).await {
                    Wake::Stop => return self.stop_bridge().await,
                    Wake::Desired => break,
                    Wake::Retry => {
                        self.state.retry = None;
                        self.state.seen = None;
                        break;
                    }
                    Wake::Restart(Restart {
                        number,
                        updates_asked,
                        update_for_revision,
                    }) => {
                        self.state.failures = 0;
                        let fetches = self.state.fetch.is_some() || self.state.rest.is_some();
                        if fetches && updates_asked == self.state.updates_taken {
                            // There is no server yet that could be started again, and what has been fetched is not thrown away.
                            self.update(|s| s.restart = number);
                            continue;
                        }
                        self.stop_bridge().await;
                        self.state.update_wanted |= updates_asked > self.state.updates_taken;
                        self.state.updates_taken = updates_asked;
                        self.state.update_for_revision = update_for_revision;
                        self.state.retry = None;
                        self.state.seen = None;
                        self.update(|s| {
                            s.set(State::Pending, "STARTING", "The server is being started again.");
                            s.restart = number;
                        });
                        break;
                    }
                    Wake::Said(event) => self.hear(event).await,
                }
            }
        }
    }

    async fn wait(&mut self, restarts: &mut watch::Receiver<Restart>) -> Wake {
        let retry = self.state.retry;
        let bridge = &mut self.state.bridge;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Wake::Stop,
            changed = self.desired.changed() => if changed.is_ok() { Wake::Desired } else { Wake::Stop },
            Ok(()) = restarts.changed() => Wake::Restart(*restarts.borrow_and_update()),
            event = async { match bridge { Some(bridge) => bridge.next().await, None => std::future::pending().await } } => Wake::Said(event),
            () = async { match retry { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => Wake::Retry,
        }
    }

    /// Makes the server match what should be.
    async fn look(&mut self, desired: &Desired) {
        // What runs goes on until it is known what should.
        let Some(revision) = &desired.revision else { return };
        // Who may ask for new versions depends on the revision: what was asked of an earlier one is void.
        self.state.update_wanted &= self.state.update_for_revision >= revision.number;
        let installation = &desired.installation;
        let generation = installation.generation;
        if self_hosted(revision).is_none() {
            return self.move_away(generation).await;
        }
        if self.runtime.status.borrow().is_none() {
            self.runtime.status.send_replace(Some(Status::new(generation)));
        }
        // Tells whether anything but secrets has changed.
        let (spec, outline) = match self.context.local.plan(installation, revision, &placeholders(revision)) {
            Ok(plan) => (plan.fingerprint(), plan),
            Err(missing) => {
                self.state.seen = None;
                return self.hold(&missing, generation).await;
            }
        };
        let credentials = if wants_secrets(revision) {
            Credentials::of(desired, revision)
        } else {
            Credentials::NONE
        };
        let seen = Seen { spec, credentials };
        let undecided = credentials.are_undecided();
        if self.state.seen == Some(seen) {
            if !undecided {
                self.update(|s| s.generation = generation);
            }
            return;
        }
        if undecided {
            self.state.seen = Some(seen);
            // What runs goes on until credential-svc has spoken, and speaks for the generation it was started for.
            if self.state.bridge.is_none() && self.state.retry.is_none() {
                self.update(|s| {
                    s.set(
                        State::Pending,
                        "CREDENTIAL_PENDING",
                        "The credential is being looked at.",
                    );
                    s.generation = generation;
                });
            }
            return;
        }
        if let Some(message) = awaited(credentials) {
            self.state.seen = Some(seen);
            let missing = Missing {
                reason: "CREDENTIAL_REQUIRED",
                message: message.to_owned(),
            };
            return self.hold(&missing, generation).await;
        }
        // Before any secret is drawn: what is fetched gets none.
        if let Some(rest) = self.state.rest.take() {
            if self.context.local.wants(&outline, &rest) {
                self.state.seen = Some(seen);
                return self.fetch(&outline, rest, generation).await;
            }
            // Of an earlier revision, which had other versions, or was asked about them.
            self.give_up(rest).await;
        }
        let anew = self.state.update_wanted && self.state.update_for_revision == revision.number;
        match self.context.local.prepare_fetch(&self.uid, &outline, anew) {
            Ok(Some(fetch)) => {
                self.state.seen = Some(seen);
                return self.fetch(&outline, fetch, generation).await;
            }
            Ok(None) => {}
            Err(error) => {
                // What runs is another revision's, or nothing's.
                self.state.seen = Some(seen);
                self.stop_bridge().await;
                self.state.started = self.context.clock.now_micros();
                self.update(|s| s.generation = generation);
                let message = format!("The package cannot be fetched: {error}.");
                return self.failed(EndReason::PackageNotFetched, &message);
            }
        }
        drop(outline);
        let secrets = match vend(&self.context.credential, installation, revision).await {
            Ok(secrets) => secrets,
            Err(VendError::Missing(missing)) => {
                self.state.seen = Some(seen);
                return self.hold(&missing, generation).await;
            }
            Err(VendError::Unavailable(status)) => {
                tracing::warn!(installation.uid = %self.uid, error = %status.message(), "the credential could not be drawn");
                if self.state.bridge.is_none() {
                    self.update(|s| {
                        s.set(
                            State::Pending,
                            "CREDENTIAL_UNAVAILABLE",
                            "The credential service does not answer; it is tried again.",
                        )
                    });
                }
                self.state.retry = Some(Instant::now() + Duration::from_secs(1));
                return;
            }
        };
        self.state.seen = Some(seen);
        match self.context.local.plan(installation, revision, &secrets) {
            Err(missing) => self.hold(&missing, generation).await,
            Ok(plan) => self.run_plan(plan, spec, generation).await,
        }
    }

    /// The entry's server runs elsewhere by now.
    async fn move_away(&mut self, generation: i64) {
        self.stop_bridge().await;
        self.state.retry = None;
        self.state.seen = None;
        self.update(|s| {
            s.set(State::Pending, "NOT_SELF_HOSTED", "The entry's server runs elsewhere.");
            s.wanted = false;
            s.generation = generation;
        });
    }

    async fn run_plan(&mut self, plan: Plan, spec: [u8; 32], generation: i64) {
        let fingerprint = plan.fingerprint();
        let same = self.state.fingerprint == Some(fingerprint);
        self.state.spec_digest = hex::encode(spec);
        if same && (self.state.bridge.is_some() || self.state.retry.is_some()) {
            let spec_digest = self.state.spec_digest.clone();
            return self.update(|s| {
                s.generation = generation;
                if s.state == State::Running {
                    s.spec_digest = spec_digest;
                }
            });
        }
        if !same {
            self.state.failures = 0;
        }
        // Said before the old one is stopped: nobody should begin to call it.
        let first = self.state.failures == 0;
        self.update(|s| {
            s.generation = generation;
            if first {
                s.set(State::Pending, "STARTING", "The server is being started.");
            } else {
                s.restart_count = s.restart_count.saturating_add(1);
            }
        });
        self.stop_bridge().await;
        self.state.fingerprint = Some(fingerprint);
        self.state.retry = None;
        self.state.started = self.context.clock.now_micros();
        match self.context.local.start(&self.uid, plan).await {
            Ok(Started {
                bridge,
                socket,
                package,
            }) => {
                self.state.bridge = Some(bridge);
                self.state.socket = socket;
                self.update(|s| s.package = package);
            }
            Err(error) => {
                tracing::error!(installation.uid = %self.uid, error = %error, "a bridge could not be started");
                self.failed(
                    EndReason::NotStarted,
                    "The bridge of the MCP server could not be started; the log of Chandlery says why.",
                );
            }
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Log { line, time } => self.runtime.logs.push(LogLine { text: line, time }),
            Event::Started { .. } if self.state.fetch.is_some() => {}
            Event::Started { pid } => {
                tracing::info!(installation.uid = %self.uid, process.pid = pid, "server started");
                let started = from_micros(self.state.started);
                self.update(|s| s.start_time = Some(started));
            }
            Event::Ready => {
                let endpoint = format!("unix:{}", self.state.socket.display());
                let spec_digest = self.state.spec_digest.clone();
                self.update(|s| {
                    s.set(State::Running, "", "");
                    s.endpoint = endpoint;
                    s.spec_digest = spec_digest;
                });
            }
            Event::Ended {
                reason,
                message,
                exit_code,
                ..
            } => {
                if let Some(bridge) = self.state.bridge.take() {
                    bridge.reap().await;
                }
                if let Err(error) = self.context.local.sweep(&self.uid).await {
                    tracing::error!(installation.uid = %self.uid, error = %error, "processes of a server are left");
                }
                match self.state.fetch.take() {
                    Some(fetch) => self.fetched(fetch, &message, exit_code == Some(0)).await,
                    None => self.failed(reason, &message),
                }
            }
        }
    }

    /// Notes a failure and when to try again.
    pub(super) fn failed(&mut self, reason: EndReason, message: &str) {
        let ran = self.context.clock.now_micros() - self.state.started;
        if u128::try_from(ran).unwrap_or_default() >= self.context.backoff.stable.as_micros() {
            self.state.failures = 0;
        }
        self.state.failures += 1;
        let pause = delay(&self.context.backoff, self.state.failures);
        self.state.retry = Some(Instant::now() + pause);
        let last = self.runtime.logs.last(LAST_LINES, self.state.started);
        let shown = |text: &str| self.context.local.without_folders(text);
        let last: Vec<_> = last.iter().map(|line| shown(line)).collect();
        let (reason, text) = failure(reason, &shown(message), self.state.failures, &last);
        tracing::warn!(installation.uid = %self.uid, reason, retry.delay_ms = pause.as_millis(), "server failed");
        self.update(|s| {
            s.set(State::Failed, reason, text);
        });
    }

    /// Nothing may run until somebody does something.
    async fn hold(&mut self, missing: &Missing, generation: i64) {
        self.update(|s| {
            s.set(State::Pending, missing.reason, missing.message.clone());
            s.generation = generation;
        });
        self.state.retry = None;
        self.stop_bridge().await;
    }

    pub(super) async fn stop_bridge(&mut self) {
        self.state.fingerprint = None;
        if let Some(rest) = self.state.rest.take() {
            self.give_up(rest).await;
        }
        let fetch = self.state.fetch.take();
        let Some(bridge) = self.state.bridge.take() else {
            return;
        };
        let logs = &self.runtime.logs;
        bridge
            .stop(|event| {
                if let Event::Log { line, time } = event {
                    logs.push(LogLine { text: line, time });
                }
            })
            .await;
        if let Some(fetch) = fetch {
            self.give_up(fetch).await;
        }
    }

    async fn delete(mut self) {
        self.stop_bridge().await;
        self.runtime.status.send_replace(None);
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.context.local.remove(&self.uid).await {
            tracing::error!(installation.uid = %self.uid, error = %error, "a server's folder could not be removed");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
                () = self.stop.cancelled() => return,
            }
        }
        tokio::select! {
            () = report_cleanup(&self.context.registry, Subject::InstallationUid(self.uid.clone())) => {}
            () = self.stop.cancelled() => {}
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        self.runtime.status.send_if_modified(|status| {
            let Some(status) = status else { return false };
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}

/// What a server that gets no secrets yet waits for.
fn awaited(credentials: Credentials) -> Option<&'static str> {
    if credentials.own == ConditionStatus::False {
        Some("The server starts once its credential has been entered, and its owner has confirmed what gets it.")
    } else if credentials.entry == ConditionStatus::False {
        Some("The server starts once an admin has stored the entry's credential, or confirmed where it goes.")
    } else {
        None
    }
}
