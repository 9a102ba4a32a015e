//! The in-memory runtime, for tests: it implements the whole contract of [`Runtime`] and starts no processes.
//!
//! A server whose command is `fail` ends as soon as it is started; any other keeps running.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::stream::{BoxStream, StreamExt as _};

use super::observations::Observations;
use crate::domain::{
    logs::{LogLine, LogQuery, Logs},
    protection::Protection,
    restarts::RecentRestarts,
    runtime::{Observed, Restart, Runtime, RuntimeError},
    spec::{DrawError, Missing, ServerSpec},
    status::{Held, State, Status},
};

/// The delay between two attempts to start.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryRuntime(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    statuses: Observations,
    owners: Mutex<HashMap<String, Owner>>,
}

#[derive(Debug, Default)]
struct Owner {
    /// What should run; `None`: nothing.
    spec: Option<ServerSpec>,
    /// Counts changes of the desired state: work on an older one stops.
    turn: u64,
    logs: Arc<Logs>,
    restart: String,
    recent: RecentRestarts,
    /// Counts attempts to start.
    starts: u64,
}

impl MemoryRuntime {
    /// Whether an owner's server runs.
    pub(crate) fn runs(&self, owner: &str) -> bool {
        let status = self.status(owner);
        status.is_some_and(|status| status.state == State::Running)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<String, Owner>> {
        self.0.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, owner: &str, change: impl FnOnce(&mut Status)) {
        self.0.statuses.update(owner, || Status::starting(0), change);
    }

    /// Starts the owner's spec in the background, in place of earlier work.
    fn begin(&self, owner: &str) {
        let (runtime, owner) = (self.clone(), owner.to_owned());
        let turn = {
            let mut owners = self.owners();
            let Some(known) = owners.get_mut(&owner) else { return };
            known.turn += 1;
            known.turn
        };
        tokio::spawn(async move {
            while runtime.step(&owner, turn).await {
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Attempts to start; returns whether another attempt is due.
    async fn step(&self, owner: &str, turn: u64) -> bool {
        let spec = match self.owners().get(owner) {
            Some(known) if known.turn == turn => known.spec.clone(),
            _ => None,
        };
        let Some(spec) = spec else { return false };
        let drawn = spec.secrets.draw().await;
        let mut owners = self.owners();
        let Some(known) = owners.get_mut(owner).filter(|known| known.turn == turn) else {
            return false;
        };
        let restart = known.restart.clone();
        let launch = match drawn {
            Ok(secrets) => spec.launch("/".as_ref(), &secrets),
            Err(DrawError::Missing(missing)) => Err(missing),
            Err(DrawError::Unavailable(error)) => {
                self.update(owner, |status| {
                    status.set(State::Pending, "CREDENTIAL_UNAVAILABLE", error);
                });
                return true;
            }
        };
        let launch = match launch {
            Ok(launch) => launch,
            Err(Missing { reason, message }) => {
                known.turn += 1;
                let held = Held {
                    reason,
                    message,
                    generation: spec.generation,
                    expected: true,
                };
                self.update(owner, |status| {
                    status.hold(&held);
                    status.observed_restart = restart;
                });
                return false;
            }
        };
        known.starts += 1;
        known.logs.begin_run();
        let token = launch.environment.get("TOKEN").map_or("nothing", String::as_str);
        let line = format!("started with {token}");
        let masked = launch
            .secrets
            .iter()
            .fold(line, |line, secret| line.replace(secret, "[redacted]"));
        known.logs.push(&masked, 1);
        let endpoint = format!("memory:{owner}/{}", known.starts);
        let fails = launch.command == "fail";
        self.update(owner, |status| {
            if fails {
                status.set(State::Failed, "EXITED", "It ended.");
                status.restart_count += 1;
            } else {
                status.set(State::Running, "", "");
                status.endpoint = endpoint;
                status.spec_digest = spec.digest();
            }
            status.generation = spec.generation;
            status.observed_restart = restart;
        });
        fails
    }
}

#[async_trait::async_trait]
impl Runtime for MemoryRuntime {
    async fn apply(&self, owner: &str, spec: ServerSpec) {
        {
            let mut owners = self.owners();
            let known = owners.entry(owner.to_owned()).or_default();
            let before = self.0.statuses.get(owner).filter(|_| known.spec.is_some());
            let goes_on = before.is_some_and(|status| status.spec_digest == spec.digest());
            known.spec = Some(spec.clone());
            if goes_on {
                return self.update(owner, |status| status.generation = spec.generation);
            }
        }
        self.update(owner, |status| {
            status.set(State::Pending, "STARTING", "The server is being started.");
            status.generation = spec.generation;
        });
        self.begin(owner);
    }

    async fn hold(&self, owner: &str, held: Held) {
        let restart = {
            let mut owners = self.owners();
            let known = owners.entry(owner.to_owned()).or_default();
            known.spec = None;
            known.turn += 1;
            known.restart.clone()
        };
        self.update(owner, |status| {
            status.hold(&held);
            status.observed_restart = restart;
        });
    }

    async fn stop(&self, owner: &str) {
        self.owners().remove(owner);
        self.0.statuses.forget(owner);
    }

    async fn remove(&self, owner: &str) -> Result<(), RuntimeError> {
        self.stop(owner).await;
        Ok(())
    }

    async fn restart(&self, owner: &str, restart: Restart) -> Result<(), RuntimeError> {
        let holds = {
            let mut owners = self.owners();
            let known = owners.get_mut(owner).ok_or(RuntimeError::Unknown)?;
            if !known.recent.add(&restart.id) {
                return Ok(());
            }
            known.restart.clone_from(&restart.id);
            known.spec.is_none()
        };
        self.update(owner, |status| {
            status.requested_restart.clone_from(&restart.id);
            if holds {
                status.observed_restart = restart.id;
            } else {
                status.set(State::Pending, "STARTING", "The server is being restarted.");
            }
        });
        if !holds {
            self.begin(owner);
        }
        Ok(())
    }

    fn status(&self, owner: &str) -> Option<Status> {
        self.0.statuses.get(owner)
    }

    fn observe(&self) -> BoxStream<'static, Observed> {
        self.0.statuses.observe()
    }

    fn logs(&self, owner: &str, query: LogQuery) -> BoxStream<'static, LogLine> {
        match self.owners().get(owner) {
            Some(known) => known.logs.query(query),
            None => futures::stream::empty().boxed(),
        }
    }

    fn protections(&self) -> Vec<Protection> {
        Vec::new()
    }

    async fn release(&self) {
        let owners: Vec<_> = self.owners().keys().cloned().collect();
        for owner in owners {
            self.stop(&owner).await;
        }
    }
}

mod tests {
    use super::*;
    use crate::{
        domain::spec::tests::spec,
        runtime::suite::{self, Kind, Tested},
    };

    struct Memory(MemoryRuntime);

    impl Tested for Memory {
        fn runtime(&self) -> &dyn Runtime {
            &self.0
        }

        fn spec(&self, kind: Kind) -> ServerSpec {
            match kind {
                Kind::Runs => spec("run"),
                Kind::Ends => spec("fail"),
            }
        }

        fn runs(&self, owner: &str) -> bool {
            self.0.runs(owner)
        }
    }

    #[tokio::test]
    async fn passes_the_suite() {
        suite::run(async || Memory(MemoryRuntime::default())).await;
    }
}
