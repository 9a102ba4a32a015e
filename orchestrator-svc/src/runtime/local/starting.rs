//! Starts a server: its secrets are drawn, then its bridge runs.

use std::{sync::Arc, time::Duration};

use stdio_bridge::EndReason;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    failure::Cause,
    machine::Started,
    server::{Run, Server},
    supervisor::Supervisor,
};
use crate::domain::{
    spec::{DrawError, Launch, Missing, ServerSpec},
    status::{Held, State},
};

/// How long a starting server occupies a slot. One that takes longer is waiting for something else than the processor.
const START: Duration = Duration::from_secs(10);
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
        if self.server.run().is_some() {
            let Some(launch) = self.draw(spec).await else { return };
            let fingerprint = launch.fingerprint();
            if let Some(run) = self.server.run()
                && run.fingerprint == fingerprint
                // A restart that waited for an update which is not made any more.
                && (self.restart.is_none() || self.fetching.is_some())
            {
                run.digest.clone_from(&digest);
                return self.update(|status| {
                    status.generation = spec.generation;
                    if status.state == State::Running {
                        status.spec_digest = digest;
                    }
                });
            }
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
        self.server = Server::Queued { digest };
    }

    /// Starts the server, which has got a slot.
    pub(super) async fn start(&mut self, permit: OwnedSemaphorePermit) {
        let Some(spec) = self.spec() else { return };
        let undrawn = self.undrawn.is_some();
        let Some(launch) = self.draw(&spec).await else {
            if matches!(self.server, Server::Queued { .. }) {
                self.server = Server::Idle;
            }
            return;
        };
        let (digest, fingerprint) = (spec.digest(), launch.fingerprint());
        // The draw takes a while: something else may be desired by now, which the next wake is about.
        if self.gone.is_cancelled() || self.spec().is_none_or(|spec| spec.digest() != digest) {
            self.server = Server::Idle;
            return;
        }
        if undrawn && self.failures == 0 {
            self.announce(spec.generation, "The server is being started.");
        }
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
                    place: Some((permit, Instant::now() + START)),
                };
                self.update(|status| {
                    status.package = package;
                    status.generation = spec.generation;
                    status.restart_count = status.restart_count.saturating_add(again.into());
                });
            }
            Err(error) => {
                tracing::error!(installation.uid = %self.owner, error = %error, "a bridge could not be started");
                self.failed(
                    Cause::Ended(EndReason::NotStarted),
                    "Internal error: the bridge of the MCP server could not be started; see the server log.",
                    digest,
                    started,
                    false,
                );
            }
        }
    }

    /// The spec with its secrets put in. If that fails, returns `None` and sets the status; if a person must do something first, the server is
    /// stopped too.
    async fn draw(&mut self, spec: &ServerSpec) -> Option<Launch> {
        // Until it succeeds.
        self.undrawn = Some(spec.digest());
        let missing = match spec.secrets.draw().await {
            Ok(secrets) => {
                let folder = self.shared.machine.working_folder(&self.owner);
                match spec.launch(&folder, &secrets) {
                    Ok(launch) => {
                        self.undrawn = None;
                        return Some(launch);
                    }
                    Err(missing) => missing,
                }
            }
            Err(DrawError::Missing(missing)) => missing,
            Err(DrawError::Unavailable(error)) => {
                tracing::warn!(installation.uid = %self.owner, error = %error, "the credential could not be drawn");
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
                return None;
            }
        };
        let Missing { reason, message } = missing;
        let held = Held {
            reason,
            message,
            generation: spec.generation,
            expected: true,
        };
        self.hold(&held).await;
        None
    }
}
