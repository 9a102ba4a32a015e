//! What the bridge of a server reports.

use service_kit::clock::from_micros;
use stdio_bridge::Event;
use tokio::time::Instant;

use super::{
    bridge::leaves_nothing,
    excerpt::excerpt,
    failure::{Cause, Failure, LOOP, Reached, delay, failure, session_failure},
    server::{Next, Server},
    supervisor::{RESTARTED, Supervisor},
};
use crate::domain::status::State;

impl Supervisor {
    pub(super) async fn on_event(&mut self, event: Event) {
        match event {
            Event::Log { line, time } => self.logs.push(&line, time),
            Event::Started { pid } => {
                tracing::info!(runtime.owner = %self.owner, process.pid = pid, "server started");
                if let Some(run) = self.server.run() {
                    let started = from_micros(run.started);
                    self.update(|status| {
                        status.start_time = Some(started);
                        status.tool_list_changes = 0;
                    });
                }
            }
            Event::ToolsChanged => self.update(|status| status.tool_list_changes += 1),
            Event::SessionStarts { failure } => {
                let machine = &self.shared.machine;
                let told =
                    failure.map(|failure| session_failure(failure.reason, &machine.without_folders(&failure.message)));
                self.update(|status| status.sessions = told.unwrap_or_default());
            }
            Event::Ready => self.ready(),
            Event::Ended { reason, message, .. } => {
                let (run, was_ready, next) = match std::mem::replace(&mut self.server, Server::Idle) {
                    Server::Starting { run, slot } => {
                        if slot.is_none() {
                            self.slow = Some(run.digest.clone());
                        }
                        (run, false, None)
                    }
                    Server::Running { run, next } => (run, true, next),
                    _ => return,
                };
                run.bridge.reap().await;
                if !leaves_nothing(reason) {
                    self.sweep().await;
                }
                let replaced = self.comparing.take().is_some();
                if replaced || next.is_some() {
                    tracing::warn!(runtime.owner = %self.owner, "server ended before its successor was started");
                    self.update(|status| status.set(State::Pending, "STARTING", RESTARTED));
                }
                if replaced {
                    self.failures = 0;
                    return self.reconcile().await;
                }
                if let Some(mut next) = next {
                    if let Next::Queued(queued) = &mut next {
                        queued.place = self.shared.starts.place(false);
                    }
                    return self.server.set_next(run.digest, next);
                }
                let reached = match was_ready {
                    false => Reached::Nothing,
                    true if self.has_run_long(run.started) => Reached::Stable,
                    true => Reached::Ready,
                };
                self.failed(Cause::Ended(reason), &message, run.digest, run.started, reached);
            }
        }
    }

    fn ready(&mut self) {
        let run = match std::mem::replace(&mut self.server, Server::Idle) {
            Server::Starting { run, .. } => run,
            other => return self.server = other,
        };
        let (endpoint, digest) = (format!("unix:{}", run.socket.display()), run.digest.clone());
        self.server = Server::Running { run, next: None };
        self.slow = None;
        self.update(|status| {
            status.set(State::Running, "", "");
            status.endpoint = endpoint;
            status.spec_digest = digest;
        });
        self.explain_update();
        self.restart_is_done();
    }

    fn has_run_long(&self, started: i64) -> bool {
        let ran = self.shared.clock.now_micros() - started;
        u128::try_from(ran).unwrap_or_default() >= self.shared.backoff.stable.as_micros()
    }

    /// Records a failure, and schedules the next start. After a stable run, the delay is the shortest one.
    pub(super) fn failed(&mut self, cause: Cause, message: &str, digest: String, started: i64, reached: Reached) {
        let stable = reached == Reached::Stable;
        if stable {
            self.failures = 0;
        }
        self.failures += 1;
        let pause = delay(&self.shared.backoff, &self.owner, self.failures);
        let last = excerpt(&self.logs.last(usize::MAX, started), stable);
        let shown = |text: &str| self.shared.machine.without_folders(text);
        let last: Vec<_> = last.iter().map(|line| shown(line)).collect();
        let Failure {
            reason,
            message,
            summary,
        } = failure(cause, &shown(message), self.failures, &last);
        tracing::warn!(runtime.owner = %self.owner, reason, retry.delay_ms = pause.as_millis(), "server failed");
        let has_failed = reached == Reached::Nothing || self.failures >= LOOP;
        self.server = Server::BackOff {
            digest,
            until: Instant::now() + pause,
            has_failed,
        };
        if !has_failed {
            // Nobody must repair it: calls wait for the next start, as they do for a restart. What that comes to is the outcome of restarts and updates.
            let message = format!("{summary} The server is being started again.");
            return self.update(|status| status.set(State::Pending, "STARTING", message));
        }
        self.update(|status| status.fail(reason, &message, &summary));
        self.explain_update();
        self.restart_is_done();
    }
}
