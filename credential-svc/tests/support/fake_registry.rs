//! A FAKE registry-svc: it speaks the real watch, access and report services over a pipe, and keeps everything in memory.
//! registry-svc itself must not be a dependency of this crate; the journeys of `integration-tests` use the real one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use contracts::registry::{
    AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest, AuthorizeInstallationResponse, Change,
    ChangeBatch, Condition, ConditionType, Entry, Installation, ObjectKind, Principal, Removal, ReportCleanupRequest,
    ReportCleanupResponse, ReportConditionRequest, ReportConditionResponse, ReportTokenUseRequest,
    ReportTokenUseResponse, ReportToolsRequest, ReportToolsResponse, SnapshotBegin, SnapshotEnd, SnapshotObjects,
    WatchRequest, WatchResponse, WatchedInstallation, WatchedObject,
    access_service_server::{AccessService, AccessServiceServer},
    change, installation,
    report_cleanup_request::Subject,
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
    installations: BTreeMap<String, WatchedInstallation>,
    reports: Vec<ReportConditionRequest>,
    cleanups: Vec<Subject>,
}

impl FakeRegistry {
    pub fn new() -> Self {
        let inner = Inner {
            state: Mutex::default(),
            changes: broadcast::Sender::new(1024),
            reports: watch::Sender::new(0),
            gate: watch::Sender::new(Gate::Open),
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

    /// Saves an entry; its installations run it from now on.
    pub fn save_entry(&self, entry: Entry) {
        let mut state = self.inner.state.lock().unwrap();
        state.entries.insert(entry.uid.clone(), entry.clone());
        let mut changed = vec![put(&entry.uid, Object::Entry(entry.clone()))];
        state.revision += 1;
        let revision = state.revision;
        for (uid, watched) in &mut state.installations {
            let installation = watched.installation.as_mut().unwrap();
            if installation.entry_uid == entry.uid {
                installation.revision = revision;
                installation.generation += 1;
                watched.running_entry = Some(entry.clone());
                changed.push(put(uid, Object::Installation(watched.clone())));
            }
        }
        self.send(revision, changed);
    }

    /// Installs an entry for a user; the uid is also the id.
    pub fn install(&self, uid: &str, entry_uid: &str, subject: &str) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let running_entry = state.entries[entry_uid].clone();
        let installation = Installation {
            name: format!("installations/{uid}"),
            uid: uid.to_owned(),
            entry: running_entry.name.clone(),
            entry_uid: entry_uid.to_owned(),
            scope: Some(installation::Scope::User(subject.to_owned())),
            generation: 1,
            revision: state.revision,
            ..Installation::default()
        };
        let watched = WatchedInstallation {
            installation: Some(installation),
            running_entry: Some(running_entry),
            runtime_endpoint: String::new(),
        };
        state.installations.insert(uid.to_owned(), watched.clone());
        self.send(state.revision, vec![put(uid, Object::Installation(watched))]);
    }

    /// Marks an installation as deleted: it waits for its cleanup.
    pub fn delete_installation(&self, uid: &str) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let watched = state.installations.get_mut(uid).unwrap();
        let installation = watched.installation.as_mut().unwrap();
        installation.delete_time = Some(std::time::SystemTime::now().into());
        installation.revision = revision;
        let object = Object::Installation(watched.clone());
        self.send(revision, vec![put(uid, object)]);
    }

    pub fn delete_entry(&self, uid: &str) {
        let mut state = self.inner.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let entry = state.entries.get_mut(uid).unwrap();
        entry.delete_time = Some(std::time::SystemTime::now().into());
        let object = Object::Entry(entry.clone());
        self.send(revision, vec![put(uid, object)]);
    }

    /// CREDENTIAL_READY and the credential's generation of an installation, as accepted.
    pub fn condition(&self, uid: &str) -> Option<(Condition, i64)> {
        let state = self.inner.state.lock().unwrap();
        let installation = state.installations.get(uid)?.installation.as_ref()?;
        Some((
            installation.conditions.first()?.clone(),
            installation.credential_generation,
        ))
    }

    /// Waits until the condition has this reason, for the installation's present generation.
    pub async fn reason(&self, uid: &str, reason: &str) -> (Condition, i64) {
        self.until(|registry| {
            let present = registry.generation(uid);
            registry
                .condition(uid)
                .filter(|(known, _)| known.reason == reason && known.observed_generation == present)
        })
        .await
    }

    fn generation(&self, uid: &str) -> i64 {
        let state = self.inner.state.lock().unwrap();
        state.installations[uid].installation.as_ref().unwrap().generation
    }

    pub fn cleanups(&self) -> Vec<Subject> {
        self.inner.state.lock().unwrap().cleanups.clone()
    }

    /// Every report and every message of the watch, as text.
    pub fn transcript(&self) -> String {
        let state = self.inner.state.lock().unwrap();
        format!("{:?} {:?}", state.reports, state.installations)
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
        let entries = state
            .entries
            .iter()
            .map(|(uid, entry)| (uid, Object::Entry(entry.clone())));
        let installations = state
            .installations
            .iter()
            .map(|(uid, one)| (uid, Object::Installation(one.clone())));
        let objects = entries
            .chain(installations)
            .map(|(uid, object)| WatchedObject {
                key: uid.clone(),
                object: Some(object),
            })
            .collect();
        let snapshot = [
            Message::SnapshotBegin(SnapshotBegin {
                database_epoch: "fake".to_owned(),
            }),
            Message::SnapshotObjects(SnapshotObjects { objects }),
            Message::SnapshotEnd(SnapshotEnd {
                revision: state.revision,
            }),
        ];
        let snapshot = snapshot.map(|message| Ok(WatchResponse { message: Some(message) }));
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
        let owner = |watched: &WatchedInstallation| {
            let installation = watched.installation.as_ref().unwrap();
            installation.scope == Some(installation::Scope::User(subject.clone())) && installation.delete_time.is_none()
        };
        match state.installations.get(uid) {
            Some(watched) if owner(watched) || admin => Ok(Response::new(AuthorizeInstallationResponse {
                installation: Some(watched.clone()),
            })),
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
            entry: Some(entry.clone()),
        }))
    }
}

#[tonic::async_trait]
impl ReportService for FakeRegistry {
    async fn report_condition(
        &self,
        request: Request<ReportConditionRequest>,
    ) -> Result<Response<ReportConditionResponse>, Status> {
        only_credential(&request)?;
        let report = request.into_inner();
        self.pass_gate().await?;
        let revision = {
            let mut state = self.inner.state.lock().unwrap();
            state.reports.push(report.clone());
            state.revision += 1;
            let revision = state.revision;
            let Some(watched) = state.installations.get_mut(&report.installation_uid) else {
                return Err(not_found("the installation"));
            };
            let installation = watched.installation.as_mut().unwrap();
            if installation.credential_generation != report.credential_generation {
                assert!(
                    report.credential_generation > installation.credential_generation,
                    "generations only grow"
                );
                installation.credential_generation = report.credential_generation;
                installation.generation += 1;
            }
            installation.revision = revision;
            installation.conditions = vec![Condition {
                r#type: ConditionType::CredentialReady.into(),
                status: report.status,
                reason: report.reason,
                message: report.message,
                observed_generation: report.observed_generation,
                transition_time: None,
            }];
            let object = Object::Installation(watched.clone());
            self.send(revision, vec![put(&report.installation_uid, object)]);
            revision
        };
        self.inner.reports.send_modify(|count| *count += 1);
        Ok(Response::new(ReportConditionResponse { revision }))
    }

    async fn report_tools(&self, _: Request<ReportToolsRequest>) -> Result<Response<ReportToolsResponse>, Status> {
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
        let removal = Removal { kind: kind.into(), key };
        self.send(
            state.revision,
            vec![Change {
                change: Some(change::Change::Remove(removal)),
            }],
        );
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
