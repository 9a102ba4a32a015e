//! The fake registry, as a test steers it and looks at it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use contracts::registry::{
    Change, ChangeBatch, Compacted, RuntimeLease, WatchResponse, access_service_server::AccessServiceServer,
    report_service_server::ReportServiceServer, watch_response::Message, watch_service_server::WatchServiceServer,
};
use tokio::sync::{mpsc, watch};
use tonic::{Status, service::Routes};

use super::{
    objects::{Objects, Watched},
    reports::Reports,
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry in memory. Clones are the same registry.
#[derive(Clone, Default)]
pub struct FakeRegistry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Poisoned by a panic of the fake, which a test must not pass over.
    state: Mutex<State>,
    /// Ticks after every change, report and acknowledgement.
    ticks: watch::Sender<()>,
    gate: watch::Sender<Gate>,
    /// Reports that have come to the gate since it was last moved.
    came: watch::Sender<usize>,
}

/// What happens to reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// They are accepted.
    #[default]
    Open,
    /// They wait.
    Closed,
    /// They fail with UNAVAILABLE.
    Broken,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) objects: Objects,
    pub(super) reports: Reports,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Result<WatchResponse, Status>>>,
    pub(super) acked: i64,
    pub(super) lease: Option<RuntimeLease>,
    pub(super) lagging: String,
}

impl State {
    /// Makes one revision of what `change` does, and sends it to all who watch.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let made = change(&mut self.objects);
        let changes: Vec<Change> = self.objects.commit();
        if !changes.is_empty() {
            let revision = self.objects.revision();
            self.tell(&Message::Changes(ChangeBatch { revision, changes }));
        }
        made
    }

    fn tell(&mut self, message: &Message) {
        self.watchers.retain(|watcher| {
            let message = Some(message.clone());
            watcher.send(Ok(WatchResponse { message })).is_ok()
        });
    }
}

impl FakeRegistry {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its services.
    pub fn routes(&self) -> Routes {
        Routes::new(WatchServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(ReportServiceServer::new(self.clone()))
    }

    /// Changes objects, which is one revision, and tells all who watch.
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let made = self.lock().change(change);
        self.tick();
        made
    }

    /// Changes objects as a restored backup does: nobody is told what has changed, and all who watch must start again.
    pub fn restore(&self, change: impl FnOnce(&mut Objects)) {
        let mut state = self.lock();
        change(&mut state.objects);
        state.objects.commit();
        state.tell(&Message::Compacted(Compacted {}));
        state.watchers.clear();
    }

    /// The object with this key.
    pub fn get<T: Watched>(&self, key: &str) -> Option<T> {
        self.look(|objects| objects.get(key).cloned())
    }

    /// Looks at all objects.
    pub fn look<T>(&self, look: impl FnOnce(&Objects) -> T) -> T {
        look(&self.lock().objects)
    }

    /// What was reported.
    pub fn reports(&self) -> Reports {
        self.lock().reports.clone()
    }

    /// Waits until `look` finds something; looks again after every change, report and acknowledgement.
    pub async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut ticks = self.0.ticks.subscribe();
        let waiting = async {
            loop {
                ticks.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                let _sender_lives = ticks.changed().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("not seen in time: {self:?}"))
    }

    /// Waits until a watcher has acknowledged everything up to now. With several watchers, the fastest counts.
    pub async fn acked(&self) {
        let revision = self.look(Objects::revision);
        self.until(|registry| (registry.lock().acked >= revision).then_some(()))
            .await;
    }

    /// Moves the gate that all reports pass.
    pub fn gate(&self, gate: Gate) {
        self.0.came.send_replace(0);
        self.0.gate.send_replace(gate);
    }

    /// Waits until a report has come to the gate since it was moved.
    pub async fn asked(&self) {
        let mut came = self.0.came.subscribe();
        let _sender_lives = came.wait_for(|came| *came > 0).await;
    }

    /// The watchers that answers to reports name as lagging from now on: `workload/instance`, separated by commas.
    pub fn lagging(&self, names: &str) {
        names.clone_into(&mut self.lock().lagging);
    }

    pub(super) async fn pass_gate(&self) -> Result<(), Status> {
        self.0.came.send_modify(|came| *came += 1);
        let mut gate = self.0.gate.subscribe();
        match gate.wait_for(|gate| *gate != Gate::Closed).await.as_deref() {
            Ok(Gate::Open) => Ok(()),
            _ => Err(Status::unavailable("the gate of the fake registry is broken")),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("the fake registry has panicked before")
    }

    pub(super) fn tick(&self) {
        self.0.ticks.send_replace(());
    }
}

/// Everything that it knows and was told.
impl fmt::Debug for FakeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}
