//! A FAKE registry-svc: it speaks the real watch, access and report services over a pipe, and keeps everything in memory.
//! registry-svc itself must not be a dependency of this crate; the journeys of `integration-tests` use the real one.

mod services;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use contracts::registry::{
    Change, ChangeBatch, Condition, Entry, EntryRevision, Installation, ObjectKind, Removal, ReportCredentialRequest,
    WatchResponse, WatchedObject, access_service_server::AccessServiceServer, change, entry, entry_revision,
    installation, report_cleanup_request::Subject, report_credential_request,
    report_service_server::ReportServiceServer, watch_response::Message, watch_service_server::WatchServiceServer,
    watched_object::Object,
};
use tokio::sync::{broadcast, watch};
use tonic::{Status, service::Routes};

/// Installations of the fake registry's own. The last in order, so that they are reported last of what is queued together.
const FENCE: &str = "zz-fence-";

#[derive(Clone)]
pub struct FakeRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changes: broadcast::Sender<WatchResponse>,
    /// Sends the number of reports taken so far.
    reports: watch::Sender<usize>,
    /// Reports are answered only while this is `Open`.
    gate: watch::Sender<Gate>,
    /// Reports that have come to the gate since it was last moved.
    came: watch::Sender<usize>,
    /// What the answers to reports name as lagging.
    lagging: Mutex<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Reports wait.
    Closed,
    /// Reports fail.
    Broken,
}

#[derive(Default)]
struct State {
    revision: i64,
    entries: BTreeMap<String, Entry>,
    /// By the watch's key.
    revisions: BTreeMap<String, EntryRevision>,
    installations: BTreeMap<String, Installation>,
    reports: Vec<ReportCredentialRequest>,
    cleanups: Vec<Subject>,
}

impl FakeRegistry {
    pub fn new() -> Self {
        let inner = Inner {
            state: Mutex::default(),
            changes: broadcast::Sender::new(1024),
            reports: watch::Sender::new(0),
            gate: watch::Sender::new(Gate::Open),
            came: watch::Sender::new(0),
            lagging: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn routes(&self) -> Routes {
        Routes::new(WatchServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(ReportServiceServer::new(self.clone()))
    }

    pub fn gate(&self, gate: Gate) {
        self.inner.came.send_replace(0);
        self.inner.gate.send_replace(gate);
    }

    /// Waits until a report has come to the gate.
    pub async fn asked(&self) {
        let mut came = self.inner.came.subscribe();
        came.wait_for(|came| *came > 0).await.unwrap();
    }

    pub fn lagging(&self, names: &str) {
        names.clone_into(&mut self.inner.lagging.lock().unwrap());
    }

    /// Saves an entry as a new revision; its installations run that from now on.
    pub fn save_entry(&self, mut entry: Entry) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let known = state.entries.get(&entry.uid).cloned().unwrap_or_default();
        entry.entry_revision = known.entry_revision + 1;
        entry.registry_revision = revision;
        entry.conditions = known.conditions;
        entry.credential_generation = known.credential_generation;
        let ran = revision_of(&entry);
        let key = format!("{}/{}", entry.uid, entry.entry_revision);
        state.entries.insert(entry.uid.clone(), entry.clone());
        state.revisions.insert(key.clone(), ran.clone());
        let mut changed = vec![
            put(&key, Object::EntryRevision(ran)),
            put(&entry.uid, Object::Entry(entry.clone())),
        ];
        for (uid, installation) in &mut state.installations {
            if installation.entry_uid == entry.uid {
                installation.registry_revision = revision;
                installation.generation += 1;
                installation.running_entry_revision = entry.entry_revision;
                changed.push(put(uid, Object::Installation(installation.clone())));
            }
        }
        let before = format!("{}/{}", entry.uid, known.entry_revision);
        if state.revisions.remove(&before).is_some() {
            changed.push(removal(ObjectKind::EntryRevision, before));
        }
        self.send(revision, changed);
    }

    /// Installs an entry for a user; the uid is also the id.
    pub fn install(&self, uid: &str, entry_uid: &str, subject: &str) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let entry = &state.entries[entry_uid];
        let installation = Installation {
            name: format!("installations/{uid}"),
            uid: uid.to_owned(),
            entry: entry.name.clone(),
            entry_uid: entry_uid.to_owned(),
            scope: Some(installation::Scope::User(subject.to_owned())),
            running_entry_revision: entry.entry_revision,
            generation: 1,
            registry_revision: state.revision,
            ..Installation::default()
        };
        state.installations.insert(uid.to_owned(), installation.clone());
        self.send(state.revision, vec![put(uid, Object::Installation(installation))]);
    }

    /// Gives an installation other values, as its owner or as somebody else does.
    pub fn set_values(&self, uid: &str, values: &[(&str, &str)], by_owner: bool) {
        let values = values.iter();
        self.edit_installation(uid, |installation| {
            installation.values = values.map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            installation.generation += 1;
            installation.foreign_values_generation = if by_owner { 0 } else { installation.generation };
        });
    }

    /// Where an installation's secrets go, as workloads name it.
    pub fn binding(&self, uid: &str) -> String {
        let state = self.inner.state.lock().unwrap();
        let installation = &state.installations[uid];
        let key = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
        registry_model::destination::of_installation(&state.revisions[&key], installation).unwrap()
    }

    /// Marks an installation as deleted: it waits for its cleanup.
    pub fn delete_installation(&self, uid: &str) {
        let now = service_kit::Clock::System.now().into();
        self.edit_installation(uid, |installation| installation.delete_time = Some(now));
    }

    /// The same of an entry.
    pub fn delete_entry(&self, uid: &str) {
        let now = service_kit::Clock::System.now().into();
        self.edit_entry(uid, |entry| entry.delete_time = Some(now));
    }

    /// Changes an installation, if it is there, and tells who watches; returns the revision.
    fn edit_installation(&self, uid: &str, edit: impl FnOnce(&mut Installation)) -> Option<i64> {
        let mut state = self.inner.state.lock().unwrap();
        let revision = state.revision + 1;
        let installation = state.installations.get_mut(uid)?;
        edit(installation);
        installation.registry_revision = revision;
        let object = Object::Installation(installation.clone());
        state.revision = revision;
        self.send(revision, vec![put(uid, object)]);
        Some(revision)
    }

    /// The same of an entry.
    fn edit_entry(&self, uid: &str, edit: impl FnOnce(&mut Entry)) -> Option<i64> {
        let mut state = self.inner.state.lock().unwrap();
        let revision = state.revision + 1;
        let entry = state.entries.get_mut(uid)?;
        edit(entry);
        entry.registry_revision = revision;
        let object = Object::Entry(entry.clone());
        state.revision = revision;
        self.send(revision, vec![put(uid, object)]);
        Some(revision)
    }

    /// CREDENTIAL_READY and the credential's generation of an installation, as accepted.
    pub fn condition(&self, uid: &str) -> Option<(Condition, i64)> {
        let state = self.inner.state.lock().unwrap();
        let installation = state.installations.get(uid)?;
        Some((
            installation.conditions.first()?.clone(),
            installation.credential_generation,
        ))
    }

    /// The same of an entry.
    pub fn entry_condition(&self, uid: &str) -> Option<(Condition, i64)> {
        let state = self.inner.state.lock().unwrap();
        let entry = state.entries.get(uid)?;
        Some((entry.conditions.first()?.clone(), entry.credential_generation))
    }

    /// Waits until the condition has this reason, for the installation's present generation.
    pub async fn reason(&self, uid: &str, reason: &str) -> (Condition, i64) {
        self.until(|registry| {
            let present = registry.inner.state.lock().unwrap().installations[uid].generation;
            registry
                .condition(uid)
                .filter(|(known, _)| known.reason == reason && known.observed_generation == present)
        })
        .await
    }

    /// The same of an entry and its present revision.
    pub async fn entry_reason(&self, uid: &str, reason: &str) -> (Condition, i64) {
        self.until(|registry| {
            let present = registry.inner.state.lock().unwrap().entries[uid].entry_revision;
            registry
                .entry_condition(uid)
                .filter(|(known, _)| known.reason == reason && known.observed_generation == present)
        })
        .await
    }

    /// Every report of a condition, in order, except those on fences.
    pub fn reports(&self) -> Vec<ReportCredentialRequest> {
        let is_fence = |report: &&ReportCredentialRequest| matches!(&report.subject, Some(report_credential_request::Subject::InstallationUid(uid)) if uid.starts_with(FENCE));
        let state = self.inner.state.lock().unwrap();
        state
            .reports
            .iter()
            .filter(|report| !is_fence(report))
            .cloned()
            .collect()
    }

    /// The uids that were reported on, once everything is reported that follows from what was told before.
    pub async fn settled(&self) -> Vec<String> {
        // Eight reports are under way at once: when the second fence is queued, all that came before the first are done.
        for _ in 0..2 {
            let (uid, entry) = {
                let state = self.inner.state.lock().unwrap();
                let uid = format!("{FENCE}{}", state.installations.len());
                (uid, state.entries.keys().next().unwrap().clone())
            };
            self.install(&uid, &entry, "nobody");
            self.until(|registry| registry.condition(&uid)).await;
        }
        self.reported()
    }

    /// The uids that were reported on, in order; an entry's after `entry:`.
    pub fn reported(&self) -> Vec<String> {
        let subject = |report: ReportCredentialRequest| match report.subject.unwrap() {
            report_credential_request::Subject::InstallationUid(uid) => uid,
            report_credential_request::Subject::EntryUid(uid) => format!("entry:{uid}"),
        };
        self.reports().into_iter().map(subject).collect()
    }

    pub fn cleanups(&self) -> Vec<Subject> {
        self.inner.state.lock().unwrap().cleanups.clone()
    }

    /// Every report and every message of the watch, as text.
    pub fn transcript(&self) -> String {
        let state = self.inner.state.lock().unwrap();
        format!("{:?} {:?} {:?}", state.reports, state.installations, state.entries)
    }

    /// Waits until `look` finds something; looks again after each report.
    pub async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut reports = self.inner.reports.subscribe();
        let waiting = async {
            loop {
                reports.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                reports.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        waited.unwrap_or_else(|_| panic!("not seen in time; {}", self.transcript()))
    }

    fn send(&self, revision: i64, changes: Vec<Change>) {
        let batch = ChangeBatch { revision, changes };
        // Nobody watches while the service is down.
        let _ = self.inner.changes.send(WatchResponse {
            message: Some(Message::Changes(batch)),
        });
    }

    async fn pass_gate(&self) -> Result<(), Status> {
        self.inner.came.send_modify(|came| *came += 1);
        let mut gate = self.inner.gate.subscribe();
        let gate = *gate.wait_for(|gate| *gate != Gate::Closed).await.unwrap();
        if gate == Gate::Broken {
            Err(Status::unavailable("the fake registry is broken"))
        } else {
            Ok(())
        }
    }
}

fn put(key: &str, object: Object) -> Change {
    Change {
        change: Some(change::Change::Put(WatchedObject {
            key: key.to_owned(),
            object: Some(object),
        })),
    }
}

fn removal(kind: ObjectKind, key: String) -> Change {
    let removal = Removal { kind: kind.into(), key };
    Change {
        change: Some(change::Change::Remove(removal)),
    }
}

fn revision_of(entry: &Entry) -> EntryRevision {
    EntryRevision {
        name: format!("{}/revisions/{}", entry.name, entry.entry_revision),
        entry_uid: entry.uid.clone(),
        number: entry.entry_revision,
        server: entry.server.clone().map(|server| match server {
            entry::Server::Remote(remote) => entry_revision::Server::Remote(remote),
            entry::Server::SelfHosted(server) => entry_revision::Server::SelfHosted(server),
        }),
        credential_model: entry.credential_model.clone().map(|model| match model {
            entry::CredentialModel::NoCredential(none) => entry_revision::CredentialModel::NoCredential(none),
            entry::CredentialModel::StaticCredential(model) => entry_revision::CredentialModel::StaticCredential(model),
        }),
        install_fields: entry.install_fields.clone(),
        ..EntryRevision::default()
    }
}
