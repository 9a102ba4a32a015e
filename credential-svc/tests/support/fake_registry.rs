//! A FAKE registry-svc: it speaks the real watch, access and report services over a pipe, and keeps everything in memory.
//! registry-svc itself must not be a dependency of this crate; the journeys of `integration-tests` use the real one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use contracts::registry::{
    AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest, AuthorizeInstallationResponse, Change,
    ChangeBatch, Condition, ConditionType, Entry, EntryRevision, Installation, ObjectKind, Principal, Removal,
    ReportCleanupRequest, ReportCleanupResponse, ReportCredentialRequest, ReportCredentialResponse,
    ReportDiscoveryRequest, ReportDiscoveryResponse, ReportRuntimeRequest, ReportRuntimeResponse,
    ReportTokenUseRequest, ReportTokenUseResponse, SnapshotBegin, SnapshotEnd, SnapshotObjects, WatchRequest,
    WatchResponse, WatchedObject,
    access_service_server::{AccessService, AccessServiceServer},
    change, entry, entry_revision, installation,
    report_cleanup_request::Subject,
    report_credential_request,
    report_service_server::{ReportService, ReportServiceServer},
    watch_response::Message,
    watch_service_server::{WatchService, WatchServiceServer},
    watched_object::Object,
};
use service_kit::{Workload, identity::require_workload, status::not_found};
use tokio::sync::{broadcast, watch};
use tonic::{Request, Response, Status, Streaming, service::Routes};

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
        self.inner.gate.send_replace(gate);
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
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let installation = state.installations.get_mut(uid).unwrap();
        installation.values = values
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        installation.generation += 1;
        installation.foreign_values_generation = if by_owner { 0 } else { installation.generation };
        installation.registry_revision = revision;
        let object = Object::Installation(installation.clone());
        self.send(revision, vec![put(uid, object)]);
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
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let installation = state.installations.get_mut(uid).unwrap();
        installation.delete_time = Some(std::time::SystemTime::now().into());
        installation.registry_revision = revision;
        let object = Object::Installation(installation.clone());
        self.send(revision, vec![put(uid, object)]);
    }

    pub fn delete_entry(&self, uid: &str) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let entry = state.entries.get_mut(uid).unwrap();
        entry.delete_time = Some(std::time::SystemTime::now().into());
        entry.registry_revision = revision;
        let object = Object::Entry(entry.clone());
        self.send(revision, vec![put(uid, object)]);
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

    /// Every report of a condition, in order.
    pub fn reports(&self) -> Vec<ReportCredentialRequest> {
        self.inner.state.lock().unwrap().reports.clone()
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

/// Takes a report; `true` where it brings a new credential.
fn take(conditions: &mut Vec<Condition>, credential_generation: &mut i64, report: &ReportCredentialRequest) -> bool {
    *conditions = vec![Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation: report.observed_generation,
        transition_time: None,
    }];
    assert!(
        report.credential_generation >= *credential_generation,
        "generations only grow"
    );
    std::mem::replace(credential_generation, report.credential_generation) != report.credential_generation
}

fn only_credential<T>(request: &Request<T>) -> Result<(), Status> {
    require_workload(request, &[Workload::Credential]).map(drop)
}

#[tonic::async_trait]
impl WatchService for FakeRegistry {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        only_credential(&request)?;
        let mut acks = request.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = acks.message().await {} });
        let state = self.inner.state.lock().unwrap();
        let changes = self.inner.changes.subscribe();
        let revisions = state
            .revisions
            .iter()
            .map(|(key, revision)| (key, Object::EntryRevision(revision.clone())));
        let entries = state
            .entries
            .iter()
            .map(|(uid, entry)| (uid, Object::Entry(entry.clone())));
        let installations = state
            .installations
            .iter()
            .map(|(uid, one)| (uid, Object::Installation(one.clone())));
        let objects = revisions.chain(entries).chain(installations);
        let objects = objects.map(|(uid, object)| WatchedObject {
            key: uid.clone(),
            object: Some(object),
        });
        // As large as the registry sends them, and no larger than a client takes.
        let objects: Vec<WatchedObject> = objects.collect();
        let parts = objects
            .chunks(1000)
            .map(|part| Message::SnapshotObjects(SnapshotObjects { objects: part.to_vec() }));
        let parts: Vec<Message> = parts.collect();
        let begin = Message::SnapshotBegin(SnapshotBegin {
            database_epoch: "fake".to_owned(),
        });
        let end = Message::SnapshotEnd(SnapshotEnd {
            revision: state.revision,
        });
        let snapshot = std::iter::once(begin).chain(parts).chain([end]);
        let snapshot: Vec<_> = snapshot
            .map(|message| Ok(WatchResponse { message: Some(message) }))
            .collect();
        let live = futures::stream::unfold(changes, |mut changes| async move {
            changes.recv().await.ok().map(|change| (Ok(change), changes))
        });
        Ok(Response::new(Box::pin(futures::StreamExt::chain(
            futures::stream::iter(snapshot),
            live,
        ))))
    }
}

#[tonic::async_trait]
impl AccessService for FakeRegistry {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        only_credential(&request)?;
        let request = request.into_inner();
        let Principal { subject, admin, .. } = request.principal.unwrap();
        let state = self.inner.state.lock().unwrap();
        let uid = request.installation.trim_start_matches("installations/");
        let owner = |installation: &Installation| {
            installation.scope == Some(installation::Scope::User(subject.clone())) && installation.delete_time.is_none()
        };
        match state.installations.get(uid) {
            Some(installation) if owner(installation) || admin => {
                let key = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
                Ok(Response::new(AuthorizeInstallationResponse {
                    installation: Some(installation.clone()),
                    running_entry_revision: state.revisions.get(&key).cloned(),
                    runtime: None,
                }))
            }
            _ => Err(not_found(&request.installation)),
        }
    }

    async fn authorize_entry(
        &self,
        request: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        only_credential(&request)?;
        let request = request.into_inner();
        let state = self.inner.state.lock().unwrap();
        let Some(entry) = state.entries.values().find(|entry| entry.name == request.entry) else {
            return Err(not_found(&request.entry));
        };
        if !request.principal.unwrap().admin {
            return Err(Status::permission_denied("only admins may"));
        }
        Ok(Response::new(AuthorizeEntryResponse {
            current_entry_revision: Some(revision_of(entry)),
            entry: Some(entry.clone()),
        }))
    }
}

#[tonic::async_trait]
impl ReportService for FakeRegistry {
    async fn report_credential(
        &self,
        request: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        only_credential(&request)?;
        let report = request.into_inner();
        self.pass_gate().await?;
        let revision = {
            let mut state = self.inner.state.lock().unwrap();
            state.reports.push(report.clone());
            state.revision += 1;
            let revision = state.revision;
            let changed = match report.subject.as_ref().unwrap() {
                report_credential_request::Subject::InstallationUid(uid) => {
                    let Some(installation) = state.installations.get_mut(uid) else {
                        return Err(not_found("the installation"));
                    };
                    let generation = &mut installation.credential_generation;
                    if take(&mut installation.conditions, generation, &report) {
                        installation.generation += 1;
                    }
                    installation.registry_revision = revision;
                    put(uid, Object::Installation(installation.clone()))
                }
                report_credential_request::Subject::EntryUid(uid) => {
                    let Some(entry) = state.entries.get_mut(uid) else {
                        return Err(not_found("the entry"));
                    };
                    take(&mut entry.conditions, &mut entry.credential_generation, &report);
                    entry.registry_revision = revision;
                    put(uid, Object::Entry(entry.clone()))
                }
            };
            self.send(revision, vec![changed]);
            revision
        };
        self.inner.reports.send_modify(|count| *count += 1);
        let mut response = Response::new(ReportCredentialResponse {
            registry_revision: revision,
        });
        let lagging = self.inner.lagging.lock().unwrap().clone();
        if !lagging.is_empty() {
            response
                .metadata_mut()
                .insert("chandlery-lagging", lagging.parse().unwrap());
        }
        Ok(response)
    }

    async fn report_runtime(
        &self,
        _: Request<ReportRuntimeRequest>,
    ) -> Result<Response<ReportRuntimeResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }

    async fn report_discovery(
        &self,
        _: Request<ReportDiscoveryRequest>,
    ) -> Result<Response<ReportDiscoveryResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        only_credential(&request)?;
        let subject = request.into_inner().subject.unwrap();
        self.pass_gate().await?;
        let mut state = self.inner.state.lock().unwrap();
        state.cleanups.push(subject.clone());
        state.revision += 1;
        let (kind, key) = match subject {
            Subject::InstallationUid(uid) => (ObjectKind::Installation, uid),
            Subject::EntryUid(uid) => (ObjectKind::Entry, uid),
        };
        state.installations.remove(&key);
        state.entries.remove(&key);
        self.send(state.revision, vec![removal(kind, key)]);
        drop(state);
        self.inner.reports.send_modify(|count| *count += 1);
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn report_token_use(
        &self,
        _: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }
}
