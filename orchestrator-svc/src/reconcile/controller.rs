//! Starts and ends the reconcilers: one for each installation with a server of its own, and one for each entry whose installations share one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cleanup::{Cleanups, Deleted},
    context::Context,
    desired::Desired,
    reconciler::Reconciler,
    report::{Readers, Shown, report},
};
use crate::domain::status::Status;

/// Starts and ends reconcilers.
pub(crate) struct Controller {
    context: Arc<Context>,
    pub(super) cleanups: Cleanups,
    reconciled: Arc<Mutex<HashMap<String, Reconciled>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// An owner that has a reconciler.
struct Reconciled {
    desired: watch::Sender<Arc<Desired>>,
    shown: watch::Sender<Shown>,
    /// The status in the runtime.
    status: watch::Sender<Option<Status>>,
    life: Arc<Life>,
}

/// The end of a reconciler.
#[derive(Default)]
struct Life {
    /// The owner is no longer in the registry: the reconciler must end.
    gone: CancellationToken,
    ended: CancellationToken,
}

impl Controller {
    /// Also starts to observe the runtime, in the background.
    pub(crate) fn new(context: Context) -> Self {
        let controller = Self {
            context: Arc::new(context),
            cleanups: Cleanups::default(),
            reconciled: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let reconciled = Arc::clone(&controller.reconciled);
        let mut observed = controller.context.runtime.observe();
        controller.spawn(async move {
            while let Some(observed) = observed.next().await {
                if let Some(known) = lock(&reconciled).get(&observed.owner) {
                    known.status.send_replace(observed.status);
                }
            }
        });
        controller
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Sets the desired state of an owner, and what the registry shows of its runtime. Starts a reconciler if a server should run for it.
    pub(crate) fn put(&self, uid: &str, desired: Desired, shown: Shown) {
        let mut reconciled = self.reconciled();
        let known = reconciled.get(uid);
        if let Some(known) = known.filter(|known| !known.life.gone.is_cancelled()) {
            known.shown.send_replace(shown);
            known.desired.send_replace(Arc::new(desired));
            return;
        }
        if desired.is_deleted() {
            return self.clean_up(desired.deleted());
        }
        if self.stop.is_cancelled() || desired.server().is_none() {
            return;
        }
        // A previous reconciler of the owner must end first.
        let before = known.map(|known| known.life.ended.clone());
        let readers = Readers::of(&desired.owner);
        let (desired, receiver) = watch::channel(Arc::new(desired));
        let (shown, reported) = watch::channel(shown);
        // No change is missed: the task that observes the runtime waits for the lock that is held here.
        let (status, observed) = watch::channel(self.context.runtime.status(uid));
        let life = Arc::new(Life::default());
        let reconciler = Reconciler {
            uid: uid.to_owned(),
            context: Arc::clone(&self.context),
            desired: receiver,
            gone: life.gone.clone(),
            stop: self.stop.clone(),
            applied: false,
        };
        let reporting = report(Arc::clone(&self.context), uid.to_owned(), readers, observed, reported);
        let (all, own, name) = (Arc::clone(&self.reconciled), Arc::clone(&life), uid.to_owned());
        self.tasks.spawn(async move {
            let _ended = own.ended.clone().drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
            // Reporting ends with the reconciler.
            tokio::select! {
                () = reconciler.run() => {}
                () = async { reporting.await; std::future::pending().await } => {}
            }
            let mut all = lock(&all);
            if all.get(&name).is_some_and(|known| Arc::ptr_eq(&known.life, &own)) {
                all.remove(&name);
            }
        });
        let known = Reconciled {
            desired,
            shown,
            status,
            life,
        };
        reconciled.insert(uid.to_owned(), known);
    }

    /// Ends the reconciler of an owner that is no longer in the registry. The server's files are kept; only a deletion removes them.
    pub(crate) fn remove(&self, uid: &str) {
        if let Some(known) = self.reconciled().get(uid) {
            known.life.gone.cancel();
        }
    }

    /// Ends the reconcilers of all other owners.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        for (uid, known) in &*self.reconciled() {
            if !keep(uid) {
                known.life.gone.cancel();
            }
        }
    }

    /// Sets what the registry shows of an owner's runtime.
    pub(crate) fn show(&self, uid: &str, shown: Shown) {
        if let Some(known) = self.reconciled().get(uid) {
            known.shown.send_replace(shown);
        }
    }

    /// Whether an owner has a reconciler, which then also does its cleanup.
    pub(crate) fn reconciles(&self, uid: &str) -> bool {
        let reconciled = self.reconciled();
        reconciled.get(uid).is_some_and(|known| !known.life.gone.is_cancelled())
    }

    /// Cleans up, in the background, after an object without a reconciler.
    pub(crate) fn clean_up(&self, deleted: Deleted) {
        if let Some(work) = self.cleanups.add(Arc::clone(&self.context), deleted) {
            self.spawn(work);
        }
    }

    /// Cancels all other cleanups. Once this returns, none of them removes anything.
    pub(crate) async fn retain_cleanups(&self, due: &BTreeSet<Deleted>) {
        self.cleanups.retain(due).await;
    }

    /// Ends all reconcilers, and releases the runtime.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.context.runtime.release().await;
    }

    fn reconciled(&self) -> MutexGuard<'_, HashMap<String, Reconciled>> {
        lock(&self.reconciled)
    }
}

fn lock(reconciled: &Mutex<HashMap<String, Reconciled>>) -> MutexGuard<'_, HashMap<String, Reconciled>> {
    reconciled.lock().unwrap_or_else(PoisonError::into_inner)
}
