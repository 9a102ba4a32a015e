//! The local runtime: servers as processes of this machine, each behind a bridge process.
//!
//! The bridges are children of the service and end with it, so [`Runtime::release`] stops all servers. The next start of the service starts
//! them again.

#[cfg(test)]
mod tests;

mod bridge;
mod comparing;
mod drawing;
mod events;
mod excerpt;
mod failure;
mod fetching;
mod folders;
mod machine;
mod packages;
mod place;
mod program;
mod programs;
mod removal;
mod restarts;
mod sandbox;
mod server;
mod shared;
mod start_slots;
mod starting;
mod supervisor;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::stream::{BoxStream, StreamExt as _};
use service_kit::Clock;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use self::{machine::LocalError, sandbox::SandboxError};
use self::{
    machine::Machine,
    restarts::Restarts,
    shared::Shared,
    start_slots::StartSlots,
    supervisor::{Desired, Supervisor},
};
use super::observations::Observations;
use crate::{
    config::Config,
    domain::{
        logs::{LogLine, LogQuery, Logs},
        protection::{Protection, ProtectionLevel},
        restarts::RecentRestarts,
        runtime::{Observed, Restart, Runtime, RuntimeError},
        spec::ServerSpec,
        status::{Held, Status},
    },
};

/// How long a starting server occupies a slot. A server that takes longer waits for something other than the processor.
const START: Duration = Duration::from_secs(10);
/// See [`Shared::drain`].
const DRAIN: Duration = Duration::from_secs(1);
/// How many packages are fetched at a time. A fetch from a registry that does not answer takes minutes.
const FETCHES: usize = 8;
/// See [`Shared::draws`].
const DRAWS: usize = 16;

/// Has a supervisor for each owner.
#[derive(Debug)]
pub(crate) struct LocalRuntime {
    shared: Arc<Shared>,
    supervised: Arc<Mutex<HashMap<String, Supervised>>>,
}

#[derive(Debug)]
struct Supervised {
    desired: watch::Sender<Desired>,
    restarts: watch::Sender<Restarts>,
    recent: RecentRestarts,
    logs: Arc<Logs>,
    /// The supervisor must end.
    gone: CancellationToken,
    /// The supervisor has ended, and no process of its server is left.
    ended: CancellationToken,
}

impl LocalRuntime {
    /// Creates the folders, tests the sandbox, and ends processes that an earlier run left.
    ///
    /// # Errors
    /// If the data folder cannot be used, or servers cannot be sandboxed as the configuration requires.
    pub(crate) async fn new(config: Config, clock: Clock) -> Result<Self, LocalError> {
        let backoff = config.backoff.clone();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            machine: Arc::new(Machine::new(config).await?),
            statuses: Observations::default(),
            clock,
            backoff,
            starts: StartSlots::new(2 * processors),
            slow_starts: Arc::new(Semaphore::new(processors)),
            start: START,
            drain: DRAIN,
            draws: Arc::new(Semaphore::new(DRAWS)),
            fetches: Arc::new(Semaphore::new(FETCHES)),
        };
        Ok(Self {
            shared: Arc::new(shared),
            supervised: Arc::default(),
        })
    }

    /// The holder of the lease for this data folder. Only one process uses the folder at a time, so a new process replaces the one before.
    pub(crate) fn holder(&self) -> &str {
        self.shared.machine.holder()
    }

    /// Sets the desired state of an owner, and starts its supervisor if there is none.
    async fn tell(&self, owner: &str, desired: Desired) {
        loop {
            let ended = {
                let mut supervised = self.supervised();
                match supervised.get(owner) {
                    Some(known) if !known.gone.is_cancelled() => {
                        known.desired.send_replace(desired);
                        return;
                    }
                    Some(known) => known.ended.clone(),
                    None => {
                        supervised.insert(owner.to_owned(), self.supervise(owner, desired));
                        return;
                    }
                }
            };
            ended.cancelled().await;
        }
    }

    fn supervise(&self, owner: &str, desired: Desired) -> Supervised {
        let (desired, receiver) = watch::channel(desired);
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
            desired,
            restarts,
            recent: RecentRestarts::default(),
            logs,
            gone,
            ended,
        }
    }

    /// Makes an owner's supervisor end. The returned token is cancelled when it has ended.
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
        self.tell(owner, Desired::Run(Arc::new(spec))).await;
    }

    async fn hold(&self, owner: &str, held: Held) {
        self.tell(owner, Desired::Hold(held)).await;
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
        let mut supervised = self.supervised();
        let known = supervised.get_mut(owner).filter(|known| !known.gone.is_cancelled());
        let Some(known) = known else {
            return Err(RuntimeError::Unknown);
        };
        if known.recent.add(&restart.id) {
            known.restarts.send_modify(|restarts| restarts.add(&restart));
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
