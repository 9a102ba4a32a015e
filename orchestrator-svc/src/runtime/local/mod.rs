//! The local runtime: servers as processes of this machine, each behind a bridge process of its own.
//!
//! Its servers cannot outlive the service, whose children their bridges are: [`Runtime::release`] stops them, and the next start of the
//! service starts them again.

#[cfg(test)]
mod tests;

mod bridge;
mod excerpt;
mod failure;
mod fetching;
mod folders;
mod machine;
mod packages;
mod programs;
mod removal;
mod sandbox;
mod server;
mod shared;
mod supervisor;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::stream::{BoxStream, StreamExt as _};
use service_kit::Clock;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use self::{machine::LocalError, sandbox::SandboxError};
use self::{
    machine::Machine,
    shared::Shared,
    supervisor::{Restarts, Supervisor, Wanted},
};
use super::observations::Observations;
use crate::{
    config::Config,
    domain::{
        logs::{LogLine, LogQuery, Logs},
        protection::{Protection, ProtectionLevel},
        runtime::{Observed, Restart, Runtime, RuntimeError},
        spec::ServerSpec,
        status::{Held, Status},
    },
};

/// Packages fetched at a time: one whose registry is silent takes its place for minutes.
const FETCHES: usize = 8;

/// Keeps one supervisor for each owner.
#[derive(Debug)]
pub(crate) struct LocalRuntime {
    shared: Arc<Shared>,
    supervised: Arc<Mutex<HashMap<String, Supervised>>>,
}

#[derive(Debug)]
struct Supervised {
    wanted: watch::Sender<Wanted>,
    restarts: watch::Sender<Restarts>,
    logs: Arc<Logs>,
    /// It is to end.
    gone: CancellationToken,
    /// It has ended, and nothing of its server runs.
    ended: CancellationToken,
}

impl LocalRuntime {
    /// Makes the folders, tries the sandbox, and ends what an earlier run left behind.
    ///
    /// # Errors
    /// When the data folder cannot be used, or servers cannot be held as the configuration requires.
    pub(crate) async fn new(config: Config, clock: Clock) -> Result<Self, LocalError> {
        let backoff = config.backoff.clone();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            machine: Arc::new(Machine::new(config).await?),
            statuses: Observations::default(),
            clock,
            backoff,
            starts: Arc::new(Semaphore::new(2 * processors)),
            fetches: Arc::new(Semaphore::new(FETCHES)),
        };
        Ok(Self {
            shared: Arc::new(shared),
            supervised: Arc::default(),
        })
    }

    /// Names whoever runs servers in this data folder, which is one process at a time: whichever opens it next takes its place.
    pub(crate) fn holder(&self) -> &str {
        self.shared.machine.holder()
    }

    /// Says what should be of an owner to its supervisor, which there is from now on.
    async fn tell(&self, owner: &str, wanted: Wanted) {
        loop {
            let ended = {
                let mut supervised = self.supervised();
                match supervised.get(owner) {
                    Some(known) if !known.gone.is_cancelled() => {
                        known.wanted.send_replace(wanted);
                        return;
                    }
                    Some(known) => known.ended.clone(),
                    None => {
                        supervised.insert(owner.to_owned(), self.supervise(owner, wanted));
                        return;
                    }
                }
            };
            ended.cancelled().await;
        }
    }

    fn supervise(&self, owner: &str, wanted: Wanted) -> Supervised {
        let (wanted, receiver) = watch::channel(wanted);
        let (restarts, asked) = watch::channel(Restarts::default());
        let (gone, ended) = (CancellationToken::new(), CancellationToken::new());
        let logs = Arc::new(Logs::default());
        let supervisor = Supervisor::new(
            owner,
            Arc::clone(&self.shared),
            Arc::clone(&logs),
            receiver,
            asked,
            gone.clone(),
        );
        let (all, owner, guard) = (
            Arc::clone(&self.supervised),
            owner.to_owned(),
            ended.clone().drop_guard(),
        );
        tokio::spawn(async move {
            supervisor.run().await;
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner);
            drop(guard);
        });
        Supervised {
            wanted,
            restarts,
            logs,
            gone,
            ended,
        }
    }

    /// Tells an owner's supervisor to end; returns what tells when it has.
    fn end(&self, owner: &str) -> Option<CancellationToken> {
        self.supervised().get(owner).map(|known| {
            known.gone.cancel();
            known.ended.clone()
        })
    }

    fn supervised(&self) -> MutexGuard<'_, HashMap<String, Supervised>> {
        self.supervised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Runtime for LocalRuntime {
    async fn apply(&self, owner: &str, spec: ServerSpec) {
        self.tell(owner, Wanted::Run(Arc::new(spec))).await;
    }

    async fn hold(&self, owner: &str, held: Held) {
        self.tell(owner, Wanted::Hold(held)).await;
    }

    async fn stop(&self, owner: &str) {
        if let Some(ended) = self.end(owner) {
            ended.cancelled().await;
        }
        self.shared.statuses.forget(owner);
    }

    async fn remove(&self, owner: &str) -> Result<(), RuntimeError> {
        self.stop(owner).await;
        let removed = self.shared.machine.remove(owner).await;
        removed.map_err(|error| RuntimeError::Failed(error.to_string()))
    }

    async fn restart(&self, owner: &str, restart: Restart) -> Result<(), RuntimeError> {
        let supervised = self.supervised();
        let known = supervised.get(owner).filter(|known| !known.gone.is_cancelled());
        let Some(known) = known else {
            return Err(RuntimeError::Unknown);
        };
        let is_new = known.restarts.send_if_modified(|restarts| restarts.add(&restart));
        if is_new {
            let first = || Status::starting(0);
            self.shared
                .statuses
                .update(owner, first, |status| status.requested_restart = restart.id);
        }
        Ok(())
    }

    fn status(&self, owner: &str) -> Option<Status> {
        self.shared.statuses.get(owner)
    }

    fn observe(&self) -> BoxStream<'static, Observed> {
        self.shared.statuses.observe()
    }

    fn logs(&self, owner: &str, query: LogQuery) -> BoxStream<'static, LogLine> {
        match self.supervised().get(owner) {
            Some(known) => known.logs.query(query),
            None => futures::stream::empty().boxed(),
        }
    }

    fn protections(&self) -> Vec<Protection> {
        let protections = self.shared.machine.protections().into_iter();
        protections.map(protection).collect()
    }

    async fn release(&self) {
        let owners: Vec<_> = self.supervised().keys().cloned().collect();
        for owner in &owners {
            self.end(owner);
        }
        for owner in &owners {
            self.stop(owner).await;
        }
    }
}

fn protection(protection: ::sandbox::Protection) -> Protection {
    use ::sandbox::Level;
    Protection {
        subject: protection.subject,
        level: match protection.level {
            Level::None => ProtectionLevel::None,
            Level::Partial => ProtectionLevel::Partial,
            Level::Enforced => ProtectionLevel::Enforced,
        },
        explanation: protection.by,
    }
}
