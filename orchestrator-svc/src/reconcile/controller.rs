//! One supervisor an installation.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::registry::{WatchedInstallation, report_cleanup_request::Subject};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    report::{report, report_cleanup},
    supervisor::{Context, Running, Supervisor},
};
use crate::domain::{logs::Logs, status::Status};

/// What others see of an installation's server.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// `None`: there is none to run.
    pub(crate) status: watch::Sender<Option<Status>>,
    pub(crate) logs: Logs,
    /// Counts the restarts asked for.
    pub(crate) restarts: watch::Sender<u64>,
}

/// Starts and ends supervisors.
#[derive(Debug)]
pub(crate) struct Controller {
    context: Arc<Context>,
    supervised: Mutex<HashMap<String, Supervised>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Supervised {
    desired: watch::Sender<Arc<WatchedInstallation>>,
    runtime: Arc<Runtime>,
    stop: CancellationToken,
    /// Whose removal ended it; a later one with the same uid waits for nothing else.
    ended: CancellationToken,
}

impl Controller {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            supervised: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// What should be, of one installation.
    pub(crate) fn put(&self, uid: &str, watched: WatchedInstallation) {
        let watched = Arc::new(watched);
        let mut supervised = self.supervised();
        if let Some(known) = supervised.get(uid).filter(|s| !s.ended.is_cancelled()) {
            known.desired.send_replace(watched);
            return;
        }
        if self.stop.is_cancelled() {
            return;
        }
        let (desired, receiver) = watch::channel(watched);
        let runtime = Arc::new(Runtime {
            status: watch::channel(None).0,
            logs: Logs::default(),
            restarts: watch::channel(0).0,
        });
        let stop = self.stop.child_token();
        let ended = CancellationToken::new();
        let supervisor = Supervisor {
            uid: uid.to_owned(),
            context: Arc::clone(&self.context),
            desired: receiver.clone(),
            runtime: Arc::clone(&runtime),
            stop: stop.clone(),
            state: Running::default(),
        };
        let reporting = report(
            self.context.registry.clone(),
            uid.to_owned(),
            runtime.status.subscribe(),
            receiver,
        );
        let guard = ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _guard = guard;
            // The report has nothing more to say once the supervisor has ended.
            tokio::select! {
                () = supervisor.run() => {}
                () = async { reporting.await; std::future::pending().await } => {}
            }
        });
        supervised.insert(
            uid.to_owned(),
            Supervised {
                desired,
                runtime,
                stop,
                ended,
            },
        );
    }

    /// The installation is gone from the registry. Its folder stays: absence deletes nothing.
    pub(crate) fn remove(&self, uid: &str) {
        if let Some(gone) = self.supervised().remove(uid) {
            gone.stop.cancel();
        }
    }

    /// Keeps only these.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.supervised().retain(|uid, supervised| {
            let keep = keep(uid);
            if !keep {
                supervised.stop.cancel();
            }
            keep
        });
    }

    /// Nothing is ever left of an entry here but its installations, which are looked after one by one.
    pub(crate) fn entry_deleted(&self, uid: String) {
        let registry = self.context.registry.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = report_cleanup(&registry, Subject::EntryUid(uid)) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// The server of an installation; `None` where there is none to run, or none is known yet.
    pub(crate) fn runtime(&self, uid: &str) -> Option<Arc<Runtime>> {
        self.supervised().get(uid).map(|s| Arc::clone(&s.runtime))
    }

    /// Stops all servers and waits until nothing of them is left.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn supervised(&self) -> MutexGuard<'_, HashMap<String, Supervised>> {
        self.supervised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
