//! The fake registry: how a test controls and inspects it.

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

/// The timeout of a test that waits for a condition.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An in-memory registry. Clones share it.
#[derive(Clone, Default)]
pub struct FakeRegistry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// A panic of the fake poisons this, so that the test fails.
    state: Mutex<State>,
    /// Notified of every change, report and acknowledgement.
    ticks: watch::Sender<()>,
    gate: watch::Sender<Gate>,
    /// Reports that have arrived at the gate since it was last set.
    came: watch::Sender<usize>,
}

/// What the fake does with reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Accepts them.
    #[default]
    Open,
    /// Lets them wait.
    Closed,
    /// Fails them with UNAVAILABLE.
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
    /// Applies `change` as one revision, and sends it to all watchers.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let made = change(&mut self.objects);
        let changes: Vec<Change> = self.objects.commit();
        if !changes.is_empty() {
            let revision = self.objects.revision();
            self.send(&Message::Changes(ChangeBatch { revision, changes }));
        }
        made
    }

    fn send(&mut self, message: &Message) {
        self.watchers.retain(|watcher| {
            let message = Some(message.clone());
            watcher.send(Ok(WatchResponse { message })).is_ok()
        });
    }
}

impl FakeRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gRPC services of the fake.
    pub fn routes(&self) -> Routes {
        Routes::new(WatchServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(ReportServiceServer::new(self.clone()))
    }

    /// Changes objects in one revision, and sends it to all watchers.
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let made = self.lock().change(change);
        self.tick();
        made
    }

    /// Changes objects as restoring a backup does: the changes are not sent, and all watchers must start again.
    pub fn restore(&self, change: impl FnOnce(&mut Objects)) {
        let mut state = self.lock();
        change(&mut state.objects);
        state.objects.commit();
        state.send(&Message::Compacted(Compacted {}));
        state.watchers.clear();
    }

    /// The object with this key.
    pub fn get<T: Watched>(&self, key: &str) -> Option<T> {
        self.look(|objects| objects.get(key).cloned())
    }

    /// Reads from all objects.
    pub fn look<T>(&self, look: impl FnOnce(&Objects) -> T) -> T {
        look(&self.lock().objects)
    }

    /// The reports that were accepted.
    pub fn reports(&self) -> Reports {
        self.lock().reports.clone()
    }

    /// Waits until `look` returns a value. Calls it again after every change, report and acknowledgement.
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
        let waited = tokio::time::timeout(TIMEOUT, waiting).await;
        waited.unwrap_or_else(|_| panic!("not seen in time: {self:?}"))
    }

    /// Waits until a watcher has acknowledged the latest revision. With several watchers, one is enough.
    pub async fn acked(&self) {
        let revision = self.look(Objects::revision);
        self.until(|registry| (registry.lock().acked >= revision).then_some(()))
            .await;
    }

    /// Sets what happens to reports.
    pub fn gate(&self, gate: Gate) {
        self.0.came.send_replace(0);
        self.0.gate.send_replace(gate);
    }

    /// Waits until a report has arrived since the gate was set.
    pub async fn asked(&self) {
        let mut came = self.0.came.subscribe();
        let _sender_lives = came.wait_for(|came| *came > 0).await;
    }

    /// Sets the watchers that responses to reports name as lagging: `workload/instance`, separated by commas.
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

/// All of the fake's state.
impl fmt::Debug for FakeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}
