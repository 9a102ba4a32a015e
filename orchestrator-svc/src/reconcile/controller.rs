//! One supervisor an installation whose server runs here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sandbox::Protection;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cleanup::{Cleanup, Deleted},
    report::{Shown, report},
    supervisor::{Context, Running, Supervisor},
};
use crate::domain::{desired::Desired, logs::Logs, plan::self_hosted, status::Status};

/// What others see of an installation's server.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// `None`: there is none to run.
    pub(crate) status: watch::Sender<Option<Status>>,
    pub(crate) logs: Logs,
    /// The last restart that was asked for.
    pub(crate) restarts: watch::Sender<Restart>,
}

/// A restart, asked for by a person.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restart {
    /// Counts them.
    pub(crate) number: u64,
    /// Counts those that ask for the newest versions of the server's package. A restart that comes behind one of these, before it has begun, and
    /// does not ask for them leaves it asked for.
    pub(crate) updates_asked: u64,
    /// The entry revision for which they were last asked for.
    pub(crate) update_for_revision: i64,
}

/// Starts and ends supervisors.
#[derive(Debug)]
pub(crate) struct Controller {
    context: Arc<Context>,
    cleanup: Arc<Cleanup>,
    supervised: Mutex<HashMap<String, Supervised>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Supervised {
    desired: watch::Sender<Arc<Desired>>,
    shown: watch::Sender<Shown>,
    runtime: Arc<Runtime>,
    stop: CancellationToken,
    /// Whose removal ended it; a later one with the same uid waits for nothing else.
    ended: CancellationToken,
}

impl Controller {
    /// Cleans up in the background from now on.
    pub(crate) fn new(context: Context) -> Self {
        let controller = Self {
            context: Arc::new(context),
            cleanup: Arc::default(),
            supervised: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let (cleanup, context) = (Arc::clone(&controller.cleanup), Arc::clone(&controller.context));
        let stop = controller.stop.clone();
        controller.tasks.spawn(async move {
            tokio::select! {
                () = cleanup.run(&context) => {}
                () = stop.cancelled() => {}
            }
        });
        controller
    }

    /// What should be of one installation, and what the registry shows of it. Only a server that runs here gets a supervisor.
    pub(crate) fn put(&self, uid: &str, desired: Desired, shown: Shown) {
        let mut supervised = self.supervised();
        if let Some(known) = supervised.get(uid).filter(|s| !s.ended.is_cancelled()) {
            known.shown.send_replace(shown);
            known.desired.send_replace(Arc::new(desired));
            return;
        }
        if desired.installation.delete_time.is_some() {
            return self.clean_up(Deleted::Installation(uid.to_owned()));
        }
        if self.stop.is_cancelled() || desired.revision.as_deref().and_then(self_hosted).is_none() {
            return;
        }
        let (desired, receiver) = watch::channel(Arc::new(desired));
        let (shown, reported) = watch::channel(shown);
        let runtime = Arc::new(Runtime {
            status: watch::channel(None).0,
            logs: Logs::default(),
            restarts: watch::Sender::default(),
        });
        let stop = self.stop.child_token();
        let ended = CancellationToken::new();
        let supervisor = Supervisor {
            uid: uid.to_owned(),
            context: Arc::clone(&self.context),
            desired: receiver,
            runtime: Arc::clone(&runtime),
            stop: stop.clone(),
            state: Running::default(),
        };
        let reporting = report(
            self.context.registry.clone(),
            uid.to_owned(),
            runtime.status.subscribe(),
            reported,
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
                shown,
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

    /// What the registry now shows of an installation's runtime.
    pub(crate) fn show(&self, uid: &str, shown: Shown) {
        if let Some(known) = self.supervised().get(uid) {
            known.shown.send_replace(shown);
        }
    }

    /// Whether an installation has a supervisor, which then sees to everything, its cleanup included.
    pub(crate) fn supervises(&self, uid: &str) -> bool {
        self.supervised().get(uid).is_some_and(|s| !s.ended.is_cancelled())
    }

    /// Sees to the cleanup of what has no supervisor.
    pub(crate) fn clean_up(&self, deleted: Deleted) {
        self.cleanup.add(deleted);
    }

    /// The server of an installation; `None` where there is none to run, or none is known yet.
    pub(crate) fn runtime(&self, uid: &str) -> Option<Arc<Runtime>> {
        self.supervised().get(uid).map(|s| Arc::clone(&s.runtime))
    }

    /// What is protected from servers.
    pub(crate) fn protections(&self) -> Vec<Protection> {
        self.context.local.protections()
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
