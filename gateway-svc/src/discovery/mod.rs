//! Asks servers for their tools: when an installation becomes usable, on demand, and when a server says that its list changed.
//!
//! Level-triggered: what is to be done follows from the installation's state alone, so that it is safe to stop at any moment and for several
//! replicas to do the same. Each installation has a worker of its own; one bad server delays no other.

mod ask;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use ask::Asker;
pub(crate) use report::Reports;

use crate::{
    domain::{CallerToken, ConditionState, DiscoveredTools, Endpoint, Running},
    snapshot::Store,
};

/// The shortest time between two discoveries of a server that keeps announcing changes of its list.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);
const DESTINATION_CHANGED: &str = "DESTINATION_CHANGED";
/// For people.
const STOPPING: &str = "The gateway is being stopped. Try again in a moment.";

/// Asks an installation's server for all its tools, on all pages, with the installation's own credential.
pub(crate) trait ListTools: Send + Sync + 'static {
    /// All of them, in the server's order. No tools is an answer too. `caller` is used where each caller has a credential of their own.
    fn list_tools(
        &self,
        running: Running,
        caller: Option<Arc<CallerToken>>,
    ) -> BoxFuture<'_, Result<DiscoveredTools, Failure>>;
}

/// Why the tools of a server are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// A fault of the installation or its server: reported as `TOOLS_DISCOVERED` FALSE.
    #[error("{message}")]
    Installation {
        /// UPPER_SNAKE_CASE.
        reason: &'static str,
        /// For people: who is at fault and what to do.
        message: String,
    },
    /// Neither is at fault, and what was discovered is still true: it is retried and not reported.
    #[error("{message}")]
    Transient {
        /// UPPER_SNAKE_CASE.
        reason: &'static str,
        /// For people: the cause and what to do.
        message: String,
        /// Whether it is how servers are stopped and started again.
        planned: bool,
    },
}

impl Failure {
    /// Another part of Chandlery, which this names, did not do its part.
    fn of_chandlery(message: impl Into<String>) -> Self {
        Self::Transient {
            reason: "SERVICE_UNAVAILABLE",
            message: message.into(),
            planned: false,
        }
    }

    /// Whether it only follows from what somebody did: a server is started again, or an entry's secrets would go elsewhere, which each owner of one
    /// is told.
    fn is_expected(&self) -> bool {
        match self {
            Self::Installation { reason, .. } => *reason == DESTINATION_CHANGED,
            Self::Transient { planned, .. } => *planned,
        }
    }
}

/// What a discovery depends on: a change of any of these requires another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    generation: i64,
    credential_generation: i64,
    entry_credential_generation: i64,
    endpoint: Option<Endpoint>,
    tool_list_changes: i64,
}

impl Seen {
    fn of(running: &Running) -> Self {
        Self {
            generation: running.installation.generation,
            credential_generation: running.installation.credential_generation,
            entry_credential_generation: running.entry.credential_generation,
            endpoint: running.endpoint.clone(),
            tool_list_changes: running.tool_list_changes,
        }
    }
}

/// What this replica knows of an installation's discovery, as long as it runs.
#[derive(Clone, Debug)]
struct Known {
    /// What the last discovery depended on.
    seen: Seen,
    /// When it began.
    asked: Instant,
    /// When the server last said that its list changed.
    announced: Option<Instant>,
}

impl Known {
    fn outdated(&self) -> bool {
        self.announced.is_some_and(|announced| announced >= self.asked)
    }
}

/// Discovers tools.
pub(crate) struct Discovery {
    store: Arc<Store>,
    servers: Arc<dyn ListTools>,
    reports: Reports,
    permits: Semaphore,
    timeout: Duration,
    announced: mpsc::UnboundedSender<Arc<str>>,
    known: Mutex<HashMap<Arc<str>, Known>>,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

/// The worker of one installation.
#[derive(Clone, Debug, Default)]
struct Worker {
    wake: Arc<Notify>,
}

impl Discovery {
    /// At most `concurrency` servers are asked at a time, each for at most `timeout`.
    /// The receiver is for [`Discovery::run`].
    pub(crate) fn new(
        store: Arc<Store>,
        servers: Arc<dyn ListTools>,
        reports: Reports,
        concurrency: usize,
        timeout: Duration,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<str>>) {
        let (announced, announcements) = mpsc::unbounded_channel();
        let permits = Semaphore::new(concurrency);
        let known = Mutex::default();
        (
            Arc::new(Self {
                store,
                servers,
                reports,
                permits,
                timeout,
                announced,
                known,
            }),
            announcements,
        )
    }

    /// A server has said that its list of tools changed.
    pub(crate) fn changed(&self, installation_uid: &Arc<str>) {
        // The receiver is gone: the service stops.
        let _ = self.announced.send(Arc::clone(installation_uid));
    }

    /// Asks now, on behalf of this caller, reports the result, and returns the server's own names of its tools, sorted.
    pub(crate) async fn now(
        &self,
        running: &Running,
        caller: Option<Arc<CallerToken>>,
    ) -> Result<Vec<String>, Failure> {
        let asked = Instant::now();
        let listed = self.ask(running, caller).await;
        self.report(running, asked, &listed).await?;
        let mut names: Vec<_> = listed?.tools.into_iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Keeps the tools of all installations known. `changed` receives the installations that were added, changed or removed.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut changed: mpsc::UnboundedReceiver<Arc<str>>,
        mut announced: mpsc::UnboundedReceiver<Arc<str>>,
        stop: CancellationToken,
    ) {
        let mut workers: HashMap<Arc<str>, Worker> = HashMap::new();
        let mut running = JoinSet::new();
        loop {
            let uid = tokio::select! {
                Some(uid) = changed.recv() => uid,
                Some(uid) = announced.recv() => {
                    if let Some(known) = self.lock_known().get_mut(&uid) {
                        known.announced = Some(Instant::now());
                    }
                    uid
                }
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    // The next change replaces a worker that panicked.
                    let Ok(uid) = ended else { continue };
                    workers.remove(&uid);
                    uid
                }
                () = stop.cancelled() => break,
            };
            if let Some(worker) = workers.get(&uid) {
                worker.wake.notify_one();
            } else if self.due(&uid).is_some() {
                let worker = Worker::default();
                workers.insert(Arc::clone(&uid), worker.clone());
                let discovery = Arc::clone(&self);
                running.spawn(async move {
                    discovery.work(&uid, &worker.wake).await;
                    uid
                });
            }
        }
        running.shutdown().await;
    }

    /// Until the tools of an installation are known, or it is not usable any more.
    async fn work(&self, uid: &Arc<str>, wake: &Notify) {
        let mut delays = delays();
        while let Some(running) = self.due(uid) {
            tokio::time::sleep(self.too_soon(uid)).await;
            let asked = Instant::now();
            let tried = Seen::of(&running);
            let listed = self.ask(&running, None).await;
            let outcome = self
                .report(&running, asked, &listed)
                .await
                .and(listed.map(|found| found.tools.len()));
            let failure = match outcome {
                Ok(tools) => {
                    tracing::info!(installation.uid = %uid, entry = %running.entry.slug, tools, "discovered the tools of an installation");
                    delays = self::delays();
                    continue;
                }
                Err(failure) => failure,
            };
            let pause = delays.next().unwrap_or(LAST_RETRY);
            if failure.is_expected() {
                tracing::debug!(
                    installation.uid = %uid, entry = %running.entry.slug, error = %failure, retry.delay_ms = pause.as_millis(),
                    "the tools of an installation are discovered later"
                );
            } else {
                tracing::warn!(
                    installation.uid = %uid, entry = %running.entry.slug, error = %failure, retry.delay_ms = pause.as_millis(),
                    "the tools of an installation could not be discovered"
                );
            }
            self.pause(uid, &tried, pause, wake, &mut delays).await;
        }
    }

    /// Waits, but no longer than until the installation changes: what was wrong may be right then.
    async fn pause(
        &self,
        uid: &Arc<str>,
        tried: &Seen,
        pause: Duration,
        wake: &Notify,
        delays: &mut impl Iterator<Item = Duration>,
    ) {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = wake.notified() => match self.due(uid) {
                    Some(running) if Seen::of(&running) == *tried => {}
                    Some(_) => {
                        // Not at once: it may change often.
                        if let Some(delay) = delays.next() {
                            tokio::time::sleep(delay.min(FIRST_RETRY)).await;
                        }
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    async fn ask(&self, running: &Running, caller: Option<Arc<CallerToken>>) -> Result<DiscoveredTools, Failure> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Failure::of_chandlery(STOPPING))?;
        let listing = self.servers.list_tools(running.clone(), caller);
        tokio::time::timeout(self.timeout, listing).await.unwrap_or_else(|_| {
            Err(Failure::Installation {
                reason: "UPSTREAM_TIMEOUT",
                message: format!(
                    "The MCP server of {} did not list its tools within {} s. It is asked again automatically.",
                    running.entry.slug,
                    self.timeout.as_secs()
                ),
            })
        })
    }

    async fn report(
        &self,
        running: &Running,
        asked: Instant,
        listed: &Result<DiscoveredTools, Failure>,
    ) -> Result<(), Failure> {
        let reported = match listed {
            Ok(found) => self.reports.tools(running, found).await,
            Err(failure) => Err(failure.clone()),
        };
        match reported {
            Ok(()) => {
                let mut known = self.lock_known();
                let uid = &running.installation.uid;
                let announced = known.get(uid).and_then(|known| known.announced);
                known.insert(
                    Arc::clone(uid),
                    Known {
                        seen: Seen::of(running),
                        asked,
                        announced,
                    },
                );
                Ok(())
            }
            Err(Failure::Installation { reason, message }) => {
                self.reports.failure(running, reason, &message).await?;
                Err(Failure::Installation { reason, message })
            }
            Err(transient) => Err(transient),
        }
    }

    /// The installation, if its server is to be asked.
    fn due(&self, uid: &Arc<str>) -> Option<Running> {
        // Also while the registry is unreachable for long: nothing would wake a worker that stopped now when it is back.
        let snapshot = self.store.last();
        let Some(installation) = snapshot.installation(uid) else {
            self.lock_known().remove(uid);
            return None;
        };
        let running = snapshot.running(installation).filter(askable)?;
        let now = Seen::of(&running);
        let mut known = self.lock_known();
        match known.get(uid) {
            Some(known) if known.seen == now && !known.outdated() => return None,
            Some(_) => {}
            // Discovered before this process started. Whether the server has announced a change since is unknown.
            None if running.tool_list_changes == 0
                && installation
                    .discovered
                    .is_some_and(|generation| generation >= installation.generation) =>
            {
                known.insert(
                    Arc::clone(&installation.uid),
                    Known {
                        seen: now,
                        asked: Instant::now(),
                        announced: None,
                    },
                );
                return None;
            }
            None => {}
        }
        Some(running)
    }

    /// How long to wait before a server is asked again that was asked just now and has not changed otherwise.
    fn too_soon(&self, uid: &str) -> Duration {
        match self.lock_known().get(uid) {
            Some(known) if known.outdated() => MIN_INTERVAL.saturating_sub(known.asked.elapsed()),
            _ => Duration::ZERO,
        }
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is a server that can be asked: the credentials are stored and, if it is self-hosted, it runs what the installation does. Where each
/// caller has a credential of their own, it is asked on demand only.
fn askable(running: &Running) -> bool {
    running.usable()
        && !running.is_outdated()
        && !running.revision.per_caller
        && (!running.revision.self_hosted || running.server() == ConditionState::True)
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_RETRY)
        .with_max_delay(LAST_RETRY)
        .without_max_times()
        .with_jitter()
        .build()
}
