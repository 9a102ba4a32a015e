//! Fakes of registry-svc and credential-svc, which implement the gRPC services over pipes and keep everything in memory. The journeys of
//! `integration-tests` use the real services.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use contracts::{
    credential::{
        ErrorReason, VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedField,
        vend_service_server::{VendService, VendServiceServer},
    },
    registry::{
        Entry, EntryRevision, Installation, ReportRuntimeRequest, Runtime, installation::Scope,
        report_cleanup_request::Subject,
    },
};
use registry_client::testing::{FakeRegistry, Watched as _};
use service_kit::{
    Workload,
    identity::require_workload,
    status::{Reason, StatusBuilder},
};
use tonic::{Code, Request, Response, Status, service::Routes};

/// Both services.
#[derive(Clone, Default)]
pub struct Fakes {
    registry: FakeRegistry,
    credentials: Arc<Mutex<Credentials>>,
}

/// What credential-svc has, and was asked for.
#[derive(Default)]
struct Credentials {
    secrets: HashMap<String, Vec<(String, String)>>,
    destinations: Vec<String>,
}

impl Fakes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn routes(&self) -> Routes {
        self.registry.routes().add_service(VendServiceServer::new(self.clone()))
    }

    /// An installation of alice's that runs this revision of an entry of its own.
    pub fn install(&self, (revision, mut installation): (EntryRevision, Installation)) {
        installation.scope = Some(Scope::User("alice".to_owned()));
        self.put((revision, installation));
    }

    /// An installation that runs this revision of an entry of its own.
    pub fn put(&self, (revision, installation): (EntryRevision, Installation)) {
        self.registry.change(|objects| {
            objects.put(revision);
            objects.put(installation);
        });
    }

    pub fn edit(&self, uid: &str, edit: impl FnOnce(&mut Installation)) {
        self.registry.change(|objects| objects.edit(uid, edit)).unwrap();
    }

    /// A new revision of the entry, which the installation runs from now on.
    pub fn revise(&self, uid: &str, edit: impl FnOnce(&mut EntryRevision)) {
        let (mut installation, before) = self.desired(uid);
        let mut revision = before.clone();
        revision.number += 1;
        edit(&mut revision);
        installation.running_entry_revision = revision.number;
        installation.generation += 1;
        self.registry.change(|objects| {
            objects.put(revision);
            objects.put(installation);
            objects.remove::<EntryRevision>(&before.key());
        });
    }

    pub fn edit_entry(&self, uid: &str, edit: impl FnOnce(&mut Entry)) {
        self.registry.change(|objects| {
            let mut entry = objects.get::<Entry>(uid).cloned().unwrap_or_else(|| Entry {
                uid: uid.to_owned(),
                name: format!("entries/{uid}"),
                ..Entry::default()
            });
            edit(&mut entry);
            objects.put(entry);
        });
    }

    /// Another orchestrator holds the lease from now on.
    pub fn take_lease(&self, holder: &str) {
        self.registry.take_lease(holder);
    }

    /// No process holds the lease from now on.
    pub fn free_lease(&self) {
        self.registry.free_lease();
    }

    /// Loses reports, as a restored database does, and sends a new snapshot.
    pub fn lose_runtimes(&self) {
        self.registry.restore(|objects| {
            let uids: Vec<String> = objects.all::<Runtime>().map(Runtime::key).collect();
            for uid in uids {
                objects.remove::<Runtime>(&uid);
            }
        });
    }

    pub fn secret(&self, uid: &str, values: &[(&str, &str)]) {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut credentials = self.credentials.lock().unwrap();
        credentials.secrets.insert(uid.to_owned(), values);
    }

    pub fn runtime(&self, uid: &str) -> Option<Runtime> {
        self.registry.get(uid)
    }

    pub fn generation(&self, uid: &str) -> i64 {
        self.registry.get::<Installation>(uid).unwrap().generation
    }

    pub fn desired(&self, uid: &str) -> (Installation, EntryRevision) {
        self.registry.look(|objects| {
            let installation = objects.get::<Installation>(uid).unwrap();
            (installation.clone(), objects.running(installation).unwrap().clone())
        })
    }

    pub fn reports(&self) -> Vec<ReportRuntimeRequest> {
        self.registry.reports().runtime
    }

    pub fn cleanups(&self) -> Vec<Subject> {
        self.registry.reports().cleanup
    }

    pub fn destinations(&self) -> Vec<String> {
        self.credentials.lock().unwrap().destinations.clone()
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
        let mut credentials = self.credentials.lock().unwrap();
        credentials.destinations.push(request.destination);
        let Some(secrets) = credentials.secrets.get(&request.installation_uid) else {
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
