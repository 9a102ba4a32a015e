//! Its ReportService: each workload reports what it may report to registry-svc. What is reported about credentials, runtimes and cleanups
//! changes the objects; discoveries and uses of tokens are only accepted.

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, Condition, ConditionType, Entry, Installation,
    ReleaseRuntimeLeaseRequest, ReleaseRuntimeLeaseResponse, ReportCleanupRequest, ReportCleanupResponse,
    ReportCredentialRequest, ReportCredentialResponse, ReportDiscoveryRequest, ReportDiscoveryResponse,
    ReportRuntimeRequest, ReportRuntimeResponse, ReportTokenUseRequest, ReportTokenUseResponse, Runtime,
    report_cleanup_request, report_credential_request, report_runtime_request, report_service_server::ReportService,
    runtime::Owner,
};
use service_kit::{
    Workload::{Credential, Gateway, Orchestrator},
    identity::require_workload,
};
use tonic::{Request, Response, Status};

use super::FakeRegistry;

#[tonic::async_trait]
impl ReportService for FakeRegistry {
    async fn report_credential(
        &self,
        request: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        use report_credential_request::Subject;
        require_workload(&request, &[Credential])?;
        self.pass_gate().await?;
        let report = request.into_inner();
        let mut state = self.lock();
        state.reports.credential.push(report.clone());
        // What is no longer there is no error: the report changes nothing.
        state.change(|objects| match report.subject.as_ref()? {
            Subject::InstallationUid(uid) => objects.edit(uid, |installation: &mut Installation| {
                let known = &mut installation.credential_generation;
                let is_new = report.credential_generation != *known;
                observe(&mut installation.conditions, known, &report);
                installation.generation += i64::from(is_new);
            }),
            Subject::EntryUid(uid) => objects.edit(uid, |entry: &mut Entry| {
                observe(&mut entry.conditions, &mut entry.credential_generation, &report);
            }),
        });
        let (registry_revision, lagging) = (state.objects.revision(), state.lagging.clone());
        drop(state);
        self.tick();
        let mut response = Response::new(ReportCredentialResponse { registry_revision });
        if !lagging.is_empty() {
            let lagging = lagging
                .parse()
                .map_err(|_| Status::internal("names of watchers are ASCII"))?;
            response.metadata_mut().insert("chandlery-lagging", lagging);
        }
        Ok(response)
    }

    async fn report_runtime(
        &self,
        request: Request<ReportRuntimeRequest>,
    ) -> Result<Response<ReportRuntimeResponse>, Status> {
        require_workload(&request, &[Orchestrator])?;
        self.pass_gate().await?;
        let report = request.into_inner();
        let mut state = self.lock();
        state.require_lease(report.lease.as_ref())?;
        let Some(report_runtime_request::Subject::InstallationUid(uid)) = &report.subject else {
            return Err(Status::invalid_argument("only installations have runtimes here"));
        };
        if state.objects.get::<Installation>(uid).is_some() {
            state.change(|objects| objects.put(runtime(uid, &report)));
        }
        state.reports.runtime.push(report);
        let registry_revision = state.objects.revision();
        drop(state);
        self.tick();
        Ok(Response::new(ReportRuntimeResponse { registry_revision }))
    }

    async fn report_discovery(
        &self,
        request: Request<ReportDiscoveryRequest>,
    ) -> Result<Response<ReportDiscoveryResponse>, Status> {
        require_workload(&request, &[Gateway])?;
        self.pass_gate().await?;
        let mut state = self.lock();
        state.reports.discovery.push(request.into_inner());
        let registry_revision = state.objects.revision();
        drop(state);
        self.tick();
        Ok(Response::new(ReportDiscoveryResponse { registry_revision }))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        use report_cleanup_request::Subject;
        require_workload(&request, &[Credential, Orchestrator])?;
        self.pass_gate().await?;
        let subject = request.into_inner().subject;
        let subject = subject.ok_or_else(|| Status::invalid_argument("no subject"))?;
        let mut state = self.lock();
        // registry-svc waits for both workloads; here there is only one.
        state.change(|objects| match &subject {
            Subject::InstallationUid(uid) => {
                objects.remove::<Runtime>(uid);
                objects.remove::<Installation>(uid).map(drop)
            }
            Subject::EntryUid(uid) => objects.remove::<Entry>(uid).map(drop),
        });
        state.reports.cleanup.push(subject);
        drop(state);
        self.tick();
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn acquire_runtime_lease(
        &self,
        request: Request<AcquireRuntimeLeaseRequest>,
    ) -> Result<Response<AcquireRuntimeLeaseResponse>, Status> {
        require_workload(&request, &[Orchestrator])?;
        Ok(Response::new(self.lock().acquire(request.get_ref())))
    }

    async fn release_runtime_lease(
        &self,
        request: Request<ReleaseRuntimeLeaseRequest>,
    ) -> Result<Response<ReleaseRuntimeLeaseResponse>, Status> {
        require_workload(&request, &[Orchestrator])?;
        self.lock().release(request.get_ref());
        Ok(Response::new(ReleaseRuntimeLeaseResponse {}))
    }

    async fn report_token_use(
        &self,
        request: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        require_workload(&request, &[Gateway])?;
        Ok(Response::new(ReportTokenUseResponse {}))
    }
}

/// Takes CREDENTIAL_READY and the generation of a report.
///
/// # Panics
///
/// If the generation is lower than the known one: the workload under test has lost count.
fn observe(conditions: &mut Vec<Condition>, generation: &mut i64, report: &ReportCredentialRequest) {
    assert!(report.credential_generation >= *generation, "generations only grow");
    *generation = report.credential_generation;
    conditions.retain(|condition| condition.r#type() != ConditionType::CredentialReady);
    conditions.push(Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation: report.observed_generation,
        transition_time: None,
    });
}

fn runtime(uid: &str, report: &ReportRuntimeRequest) -> Runtime {
    Runtime {
        owner_uid: uid.to_owned(),
        owner: Some(Owner::Installation(format!("installations/{uid}"))),
        state: report.state,
        reason: report.reason.clone(),
        message: report.message.clone(),
        endpoint: report.endpoint.clone(),
        spec_digest: report.spec_digest.clone(),
        replicas: report.replicas,
        ready_replicas: report.ready_replicas,
        observed_generation: report.observed_generation,
        tool_list_changes: report.tool_list_changes,
        ..Runtime::default()
    }
}
