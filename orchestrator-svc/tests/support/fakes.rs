//! FAKES of registry-svc and credential-svc: they speak the real services over pipes and keep everything in memory. The journeys of
//! `integration-tests` use the real ones.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
};

use contracts::{
    credential::{
        ErrorReason, VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedField,
        vend_service_server::{VendService, VendServiceServer},
    },
    registry::{
        AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, AuthorizeEntryRequest, AuthorizeEntryResponse,
        AuthorizeInstallationRequest, AuthorizeInstallationResponse, Change, ChangeBatch, Compacted, Entry,
        EntryRevision, Installation, ObjectKind, ReleaseRuntimeLeaseRequest, ReleaseRuntimeLeaseResponse, Removal,
        ReportCleanupRequest, ReportCleanupResponse, ReportCredentialRequest, ReportCredentialResponse,
        ReportDiscoveryRequest, ReportDiscoveryResponse, ReportRuntimeRequest, ReportRuntimeResponse,
        ReportTokenUseRequest, ReportTokenUseResponse, Runtime, RuntimeLease, SnapshotBegin, SnapshotEnd,
        SnapshotObjects, WatchRequest, WatchResponse, WatchedObject,
        access_service_server::{AccessService, AccessServiceServer},
        change,
        report_cleanup_request::Subject,
        report_runtime_request,
        report_service_server::{ReportService, ReportServiceServer},
        runtime::Owner,
        watch_response::Message,
        watch_service_server::{WatchService, WatchServiceServer},
        watched_object::Object,
    },
};
use futures::StreamExt as _;
use service_kit::{
    Workload,
    identity::require_workload,
    status::{Reason, StatusBuilder, not_found},
};
use tokio::sync::broadcast;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};

#[derive(Clone)]
pub struct Fakes(Arc<Mutex<State>>, broadcast::Sender<WatchResponse>);

#[derive(Default)]
struct State {
    revision: i64,
    entries: BTreeMap<String, Entry>,
    /// By the watch's key.
    revisions: BTreeMap<String, EntryRevision>,
    installations: BTreeMap<String, Installation>,
    runtimes: BTreeMap<String, Runtime>,
    reports: Vec<ReportRuntimeRequest>,
    cleanups: Vec<Subject>,
    secrets: HashMap<String, Vec<(String, String)>>,
    destinations: Vec<String>,
    /// Never ends by itself here.
    lease: Option<RuntimeLease>,
}

impl Fakes {
    pub fn new() -> Self {
        Self(Arc::default(), broadcast::Sender::new(1024))
    }

    pub fn routes(&self) -> Routes {
        Routes::new(WatchServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(ReportServiceServer::new(self.clone()))
            .add_service(VendServiceServer::new(self.clone()))
    }

    /// An installation that runs this revision of an entry of its own.
    pub fn install(&self, (revision, installation): (EntryRevision, Installation)) {
        self.change(|state| {
            let key = key(&revision);
            let changes = vec![
                put(&key, Object::EntryRevision(revision.clone())),
                put(&installation.uid, Object::Installation(installation.clone())),
            ];
            state.revisions.insert(key, revision);
            state.installations.insert(installation.uid.clone(), installation);
            changes
        });
    }

    pub fn edit(&self, uid: &str, edit: impl FnOnce(&mut Installation)) {
        self.change(|state| {
            let installation = state.installations.get_mut(uid).unwrap();
            edit(installation);
            vec![put(uid, Object::Installation(installation.clone()))]
        });
    }

    /// A new revision of the entry, which the installation runs from now on.
    pub fn revise(&self, uid: &str, edit: impl FnOnce(&mut EntryRevision)) {
        self.change(|state| {
            let installation = state.installations.get_mut(uid).unwrap();
            let before = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
            let mut revision = state.revisions.remove(&before).unwrap();
            revision.number += 1;
            edit(&mut revision);
            installation.running_entry_revision = revision.number;
            installation.generation += 1;
            let key = key(&revision);
            let removal = Removal {
                kind: ObjectKind::EntryRevision.into(),
                key: before,
            };
            let changes = vec![
                put(&key, Object::EntryRevision(revision.clone())),
                put(uid, Object::Installation(installation.clone())),
                Change {
                    change: Some(change::Change::Remove(removal)),
                },
            ];
            state.revisions.insert(key, revision);
            changes
        });
    }

    pub fn edit_entry(&self, uid: &str, edit: impl FnOnce(&mut Entry)) {
        self.change(|state| {
            let entry = state.entries.entry(uid.to_owned()).or_insert_with(|| Entry {
                uid: uid.to_owned(),
                name: format!("entries/{uid}"),
                ..Entry::default()
            });
            edit(entry);
            vec![put(uid, Object::Entry(entry.clone()))]
        });
    }

    /// Another orchestrator holds the lease from now on.
    pub fn take_lease(&self, holder: &str) {
        let mut state = self.0.lock().unwrap();
        let epoch = state.lease.as_ref().map_or(0, |lease| lease.epoch) + 1;
        state.lease = Some(RuntimeLease {
            holder: holder.to_owned(),
            epoch,
        });
    }

    /// Nobody holds it any more.
    pub fn free_lease(&self) {
        if let Some(lease) = &mut self.0.lock().unwrap().lease {
            lease.holder.clear();
        }
    }

    /// Forgets what was reported, as a restored database does, and begins with a snapshot again.
    pub fn lose_runtimes(&self) {
        self.0.lock().unwrap().runtimes.clear();
        // A client that gets this starts again.
        let _ = self.1.send(WatchResponse {
            message: Some(Message::Compacted(Compacted {})),
        });
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Vec<Change>) -> i64 {
        let mut state = self.0.lock().unwrap();
        let changes = change(&mut state);
        state.revision += 1;
        let revision = state.revision;
        let _ = self.1.send(WatchResponse {
            message: Some(Message::Changes(ChangeBatch { revision, changes })),
        });
        revision
    }

    pub fn secret(&self, uid: &str, values: &[(&str, &str)]) {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.0.lock().unwrap().secrets.insert(uid.to_owned(), values);
    }

    pub fn runtime(&self, uid: &str) -> Option<Runtime> {
        self.0.lock().unwrap().runtimes.get(uid).cloned()
    }

    pub fn generation(&self, uid: &str) -> i64 {
        self.0.lock().unwrap().installations[uid].generation
    }

    pub fn desired(&self, uid: &str) -> (Installation, EntryRevision) {
        let state = self.0.lock().unwrap();
        let installation = state.installations[uid].clone();
        let key = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
        (installation, state.revisions[&key].clone())
    }

    pub fn reports(&self) -> Vec<ReportRuntimeRequest> {
        self.0.lock().unwrap().reports.clone()
    }

    pub fn cleanups(&self) -> Vec<Subject> {
        self.0.lock().unwrap().cleanups.clone()
    }

    pub fn destinations(&self) -> Vec<String> {
        self.0.lock().unwrap().destinations.clone()
    }
}

fn key(revision: &EntryRevision) -> String {
    format!("{}/{}", revision.entry_uid, revision.number)
}

fn object(key: &str, object: Object) -> WatchedObject {
    WatchedObject {
        key: key.to_owned(),
        object: Some(object),
    }
}

fn put(key: &str, put: Object) -> Change {
    Change {
        change: Some(change::Change::Put(object(key, put))),
    }
}

#[tonic::async_trait]
impl WatchService for Fakes {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let (objects, revision, live) = {
            let state = self.0.lock().unwrap();
            let runtimes = state.runtimes.iter();
            let revisions = state.revisions.iter();
            let installations = state.installations.iter();
            let entries = state.entries.iter();
            // In the least convenient order that the contract allows.
            let objects: Vec<WatchedObject> = runtimes
                .map(|(key, one)| object(key, Object::Runtime(one.clone())))
                .chain(revisions.map(|(key, one)| object(key, Object::EntryRevision(one.clone()))))
                .chain(installations.map(|(key, one)| object(key, Object::Installation(one.clone()))))
                .chain(entries.map(|(key, one)| object(key, Object::Entry(one.clone()))))
                .collect();
            (objects, state.revision, self.1.subscribe())
        };
        let parts = objects
            .chunks(500)
            .map(|part| Message::SnapshotObjects(SnapshotObjects { objects: part.to_vec() }));
        let begin = Message::SnapshotBegin(SnapshotBegin {
            database_epoch: "e".to_owned(),
        });
        let end = Message::SnapshotEnd(SnapshotEnd { revision });
        let start: Vec<Message> = std::iter::once(begin).chain(parts).chain([end]).collect();
        let start = futures::stream::iter(start).map(|m| Ok(WatchResponse { message: Some(m) }));
        let live = futures::stream::unfold(
            live,
            |mut live| async move { live.recv().await.ok().map(|m| (Ok(m), live)) },
        );
        Ok(Response::new(Box::pin(start.chain(live))))
    }
}

#[tonic::async_trait]
impl ReportService for Fakes {
    async fn report_credential(
        &self,
        _: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        Err(Status::permission_denied("not the orchestrator's"))
    }

    async fn report_runtime(
        &self,
        request: Request<ReportRuntimeRequest>,
    ) -> Result<Response<ReportRuntimeResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let report = request.into_inner();
        if report.lease != self.0.lock().unwrap().lease {
            return Err(Status::failed_precondition("another orchestrator holds the lease"));
        }
        let Some(report_runtime_request::Subject::InstallationUid(uid)) = report.subject.clone() else {
            return Err(Status::invalid_argument("only installations have runtimes yet"));
        };
        if !self.0.lock().unwrap().installations.contains_key(&uid) {
            return Err(not_found(&uid));
        }
        let revision = self.change(|state| {
            let runtime = Runtime {
                owner_uid: uid.clone(),
                owner: Some(Owner::Installation(format!("installations/{uid}"))),
                state: report.state,
                reason: report.reason.clone(),
                message: report.message.clone(),
                endpoint: report.endpoint.clone(),
                spec_digest: report.spec_digest.clone(),
                replicas: report.replicas,
                ready_replicas: report.ready_replicas,
                observed_generation: report.observed_generation,
                transition_time: None,
                registry_revision: state.revision + 1,
                tool_list_changes: report.tool_list_changes,
            };
            state.runtimes.insert(uid.clone(), runtime.clone());
            state.reports.push(report);
            vec![put(&uid, Object::Runtime(runtime))]
        });
        Ok(Response::new(ReportRuntimeResponse {
            registry_revision: revision,
        }))
    }

    async fn report_discovery(
        &self,
        _: Request<ReportDiscoveryRequest>,
    ) -> Result<Response<ReportDiscoveryResponse>, Status> {
        Err(Status::permission_denied("not the orchestrator's"))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        self.0
            .lock()
            .unwrap()
            .cleanups
            .push(request.into_inner().subject.unwrap());
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn acquire_runtime_lease(
        &self,
        request: Request<AcquireRuntimeLeaseRequest>,
    ) -> Result<Response<AcquireRuntimeLeaseResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let epoch = state.lease.as_ref().map_or(0, |lease| lease.epoch);
        let renews = request.epoch == epoch && request.epoch > 0;
        let is_free = state
            .lease
            .as_ref()
            .is_none_or(|lease| lease.holder.is_empty() || (lease.holder == request.holder && request.replaces));
        if is_free && !renews {
            state.lease = Some(RuntimeLease {
                holder: request.holder.clone(),
                epoch: epoch + 1,
            });
        }
        Ok(Response::new(AcquireRuntimeLeaseResponse {
            held: is_free || renews,
            lease: state.lease.clone(),
            remaining: Some(prost_types::Duration {
                seconds: 0,
                nanos: 300_000_000,
            }),
        }))
    }

    async fn release_runtime_lease(
        &self,
        request: Request<ReleaseRuntimeLeaseRequest>,
    ) -> Result<Response<ReleaseRuntimeLeaseResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        if let Some(lease) = state
            .lease
            .as_mut()
            .filter(|lease| request.get_ref().lease.as_ref() == Some(*lease))
        {
            lease.holder.clear();
        }
        Ok(Response::new(ReleaseRuntimeLeaseResponse {}))
    }

    async fn report_token_use(
        &self,
        _: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        Err(Status::permission_denied("not the orchestrator's"))
    }
}

#[tonic::async_trait]
impl AccessService for Fakes {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        let request = request.into_inner();
        let name = &request.installation;
        let state = self.0.lock().unwrap();
        let found = name
            .strip_prefix("installations/")
            .and_then(|uid| state.installations.get(uid));
        match found.filter(|_| request.principal.is_some_and(|p| p.subject == "alice")) {
            Some(installation) => {
                let key = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
                Ok(Response::new(AuthorizeInstallationResponse {
                    installation: Some(installation.clone()),
                    running_entry_revision: state.revisions.get(&key).cloned(),
                    runtime: state.runtimes.get(&installation.uid).cloned(),
                }))
            }
            None => Err(not_found(name)),
        }
    }

    async fn authorize_entry(
        &self,
        _: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        Err(not_found("entries/any"))
    }
}

#[tonic::async_trait]
impl VendService for Fakes {
    async fn vend_headers(&self, _: Request<VendHeadersRequest>) -> Result<Response<VendHeadersResponse>, Status> {
        Err(Status::permission_denied("the gateway's"))
    }

    async fn vend_runtime(
        &self,
        request: Request<VendRuntimeRequest>,
    ) -> Result<Response<VendRuntimeResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state.destinations.push(request.destination);
        let Some(secrets) = state.secrets.get(&request.installation_uid) else {
            let reason = Reason::of(ErrorReason::CredentialRequired, ErrorReason::as_str_name);
            let status = StatusBuilder::new(Code::FailedPrecondition, reason, "enter the token first");
            return Err(status.build());
        };
        let fields = secrets
            .iter()
            .map(|(key, value)| VendedField {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        Ok(Response::new(VendRuntimeResponse {
            fields,
            credential_generation: 1,
            entry_credential_generation: 1,
            expire_time: None,
        }))
    }
}
