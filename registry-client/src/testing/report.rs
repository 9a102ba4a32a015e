//! The fake ReportService: each workload may send the reports that registry-svc accepts from it. Reports about
//! credentials, runtimes and cleanups change the objects; reports about discoveries and uses of tokens are accepted
//! without effect.

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ReleaseRuntimeLeaseRequest, ReleaseRuntimeLeaseResponse,
    ReportCleanupRequest, ReportCleanupResponse, ReportCredentialRequest, ReportCredentialResponse,
    ReportDiscoveryRequest, ReportDiscoveryResponse, ReportRuntimeRequest, ReportRuntimeResponse,
    ReportTokenUseRequest, ReportTokenUseResponse, report_service_server::ReportService,
};
use service_kit::{
    Workload::{Credential, Gateway, Orchestrator},
    identity::require_workload,
};
use tonic::{Request, Response, Status};

use super::{FakeRegistry, effects};

#[tonic::async_trait]
impl ReportService for FakeRegistry {
    async fn report_credential(
        &self,
        request: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        require_workload(&request, &[Credential])?;
        self.pass_gate().await?;
        let report = request.into_inner();
        let mut state = self.lock();
        state.reports.credential.push(report.clone());
        state.change(|objects| effects::credential(objects, &report));
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
        if report.subject.is_none() {
            return Err(Status::invalid_argument("the report has no subject"));
        }
        state.change(|objects| effects::runtime(objects, &report));
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
        let workload = require_workload(&request, &[Credential, Orchestrator])?;
        self.pass_gate().await?;
        let request = request.into_inner();
        let Some(subject) = request.subject else {
            return Err(Status::invalid_argument("no subject"));
        };
        let mut state = self.lock();
        if workload == Orchestrator {
            state.require_lease(request.lease.as_ref())?;
        }
        state.change(|objects| effects::cleanup(objects, &subject))?;
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
