//! Starts a server: its secrets are drawn, then it waits for a start slot, then its bridge runs.

use std::{pin::pin, sync::Arc, time::Duration};

use stdio_bridge::EndReason;
use tokio::time::{Instant, timeout};

use super::{
    drawing::{Drawing, Drawn},
    failure::{Cause, Reached},
    machine::Started,
    place::Slot,
    server::{Next, Queued, Run, Server},
    supervisor::{RESTARTED, Supervisor},
};
use crate::domain::{
    spec::{DrawError, Launch, Missing, Secrets, ServerSpec},
    status::{Held, State},
};

/// The delay before secrets that could not be drawn are drawn again.
const REDRAW: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Runs a spec whose package, if it has one, is fetched. A running server is kept if its secrets are the same too.
    pub(super) async fn run_spec(&mut self, spec: &Arc<ServerSpec>, digest: String) {
        let undrawn = self.undrawn.as_ref() == Some(&digest);
        if undrawn && self.redraw.is_some() && self.server.run().is_none() {
            return self.update(|status| status.generation = spec.generation);
        }
        self.redraw = None;
        let is_restarted = matches!(self.server, Server::Running { next: Some(_), .. });
        if is_restarted && self.server.digest() == Some(&digest) {
            self.update(|status| status.generation = spec.generation);
            return self.draw(spec, digest);
        }
        if self.server.run().is_some() {
            return self.compare(spec, digest);
        }
        if !matches!(self.server, Server::Idle) {
            self.failures = 0;
        }
        if self.failures == 0 && !undrawn {
            self.announce(spec.generation, "The server is being started.");
        } else {
            self.update(|status| status.generation = spec.generation);
        }
        self.end_server().await;
        self.draw(spec, digest);
    }

    /// Begins to draw the secrets of the server that is to be started.
    pub(super) fn draw(&mut self, spec: &Arc<ServerSpec>, digest: String) {
        let is_slow = self.slow.as_ref() == Some(&digest);
        let drawing = Drawing::new(Arc::clone(spec), &self.shared, is_slow);
        self.server.set_next(digest, Next::Drawing(drawing));
    }

    /// Makes the server wait for a start slot, with the secrets that were drawn for it.
    pub(super) async fn on_drawn(&mut self, drawn: Drawn) {
        let Some((digest, _)) = self.server.take_next() else {
            return;
        };
        let Some(spec) = self.still_desired(&digest) else {
            return;
        };
        let Drawn {
            spec: of,
            secrets,
            slot,
            slow,
        } = drawn;
        let launch = match self.launch(&spec, secrets) {
            Ok(launch) => launch,
            Err(error) => {
                // The calls of a server that is stopped may take long.
                drop((slot, slow));
                return self.not_drawn(&spec, &of, error).await;
            }
        };
        if self.undrawn.take().is_some() && self.failures == 0 && self.server.run().is_none() {
            self.announce(spec.generation, "The server is being started.");
        }
        let queued = Queued {
            launch,
            place: self.shared.starts.place(self.server.run().is_some()),
            drawn: slot,
            slow,
        };
        self.server.set_next(digest, Next::Queued(Box::new(queued)));
    }

    /// Stops the server whose place the next one takes, and starts that, which has got a start slot.
    pub(super) async fn start(&mut self, slot: Slot) {
        let Some((digest, Next::Queued(queued))) = self.server.take_next() else {
            return;
        };
        let Some(spec) = self.still_desired(&digest) else {
            return;
        };
        let Queued {
            launch, drawn, slow, ..
        } = *queued;
        // The start slot limits how many secrets are in memory from now on.
        drop(drawn);
        if self.server.run().is_some() {
            self.announce(spec.generation, RESTARTED);
        }
        let mut prepared = Some((launch, slot, slow));
        {
            let patience = self.shared.drain;
            let mut ending = pin!(self.end_server());
            if timeout(patience, &mut ending).await.is_err() {
                // The calls of the one before take long. Others get the slots meanwhile, and no secrets stay in memory.
                prepared = None;
                ending.await;
            }
        }
        // The calls may have taken long.
        let Some(spec) = self.still_desired(&digest) else {
            return;
        };
        let Some((launch, slot, slow)) = prepared else {
            return self.draw(&spec, digest);
        };
        let slot = Some((slot, slow, Instant::now() + self.shared.start));
        let fingerprint = launch.fingerprint();
        let started = self.shared.clock.now_micros();
        let again = self.failures > 0;
        self.logs.begin_run();
        match self.shared.machine.start(&self.owner, launch).await {
            Ok(Started {
                bridge,
                socket,
                package,
            }) => {
                self.server = Server::Starting {
                    run: Run {
                        bridge,
                        socket,
                        digest,
                        fingerprint,
                        started,
                    },
                    slot,
                };
                self.update(|status| {
                    status.package = package;
                    status.generation = spec.generation;
                    status.restart_count = status.restart_count.saturating_add(again.into());
                });
            }
            Err(error) => {
                tracing::error!(runtime.owner = %self.owner, error = %error, "a bridge could not be started");
                self.failed(
                    Cause::Ended(EndReason::NotStarted),
                    "Internal error: the bridge of the MCP server could not be started; see the server log.",
                    digest,
                    started,
                    Reached::Nothing,
                );
            }
        }
    }

    /// The spec of a server that is to be started. `None` if it should not be any more: then the next wake is about that.
    pub(super) fn still_desired(&self, digest: &str) -> Option<Arc<ServerSpec>> {
        let spec = self.spec().filter(|_| !self.gone.is_cancelled())?;
        (spec.digest() == digest).then_some(spec)
    }

    /// The spec with the secrets that were drawn for it.
    pub(super) fn launch(&self, spec: &ServerSpec, drawn: Result<Secrets, DrawError>) -> Result<Launch, DrawError> {
        let folder = self.shared.machine.working_folder(&self.owner);
        spec.launch(&folder, &drawn?).map_err(DrawError::Missing)
    }

    /// Handles secrets that could not be drawn: sets the status, and if a person must do something first, stops the server. `of` is the spec that
    /// they were drawn for, which has the same digest.
    pub(super) async fn not_drawn(&mut self, spec: &Arc<ServerSpec>, of: &Arc<ServerSpec>, error: DrawError) {
        // The secrets may have been entered since: the same spec was applied again.
        if matches!(error, DrawError::Missing(_)) && !Arc::ptr_eq(spec, of) {
            return self.reconcile().await;
        }
        self.undrawn = Some(spec.digest());
        match error {
            DrawError::Missing(Missing { reason, message }) => {
                let held = Held {
                    reason,
                    message,
                    generation: spec.generation,
                    expected: true,
                };
                self.hold(&held).await;
            }
            DrawError::Unavailable(error) => {
                tracing::warn!(runtime.owner = %self.owner, error = %error, "the credential could not be drawn");
                if self.server.run().is_none() {
                    self.update(|status| {
                        status.set(
                            State::Pending,
                            "CREDENTIAL_UNAVAILABLE",
                            "The credential service is unavailable; the start will be retried.",
                        );
                    });
                }
                self.redraw = Some(Instant::now() + REDRAW);
            }
        }
    }
}
