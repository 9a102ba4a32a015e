//! ReportService.

use std::sync::Arc;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ReleaseRuntimeLeaseRequest, ReleaseRuntimeLeaseResponse,
    ReportCleanupRequest, ReportCleanupResponse, ReportCredentialRequest, ReportCredentialResponse,
    ReportDiscoveryRequest, ReportDiscoveryResponse, ReportRuntimeRequest, ReportRuntimeResponse,
    ReportTokenUseRequest, ReportTokenUseResponse, report_service_server::ReportService,
};
use service_kit::{Workload, identity::require_workload};
use tonic::{Request, Response, Status};

use crate::operate::{Registry, report, runtime_lease};

/// The service.
#[derive(Debug)]
pub(super) struct ReportApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl ReportService for ReportApi {
    async fn report_credential(
        &self,
        request: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        require_workload(&request, &[Workload::Credential])?;
        let done = report::credential(&self.0, request.into_inner()).await?;
        Ok(done.reply(ReportCredentialResponse {
            registry_revision: done.revision,
        }))
    }

    async fn report_runtime(
        &self,
        request: Request<ReportRuntimeRequest>,
    ) -> Result<Response<ReportRuntimeResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let done = report::runtime(&self.0, request.into_inner()).await?;
        Ok(done.reply(ReportRuntimeResponse {
            registry_revision: done.revision,
        }))
    }

    async fn report_discovery(
        &self,
        request: Request<ReportDiscoveryRequest>,
    ) -> Result<Response<ReportDiscoveryResponse>, Status> {
        require_workload(&request, &[Workload::Gateway])?;
        let done = report::discovery(&self.0, request.into_inner()).await?;
        Ok(done.reply(ReportDiscoveryResponse {
            registry_revision: done.revision,
        }))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        let workload = require_workload(&request, &[Workload::Credential, Workload::Orchestrator])?;
        report::cleaned_up(&self.0, workload, request.into_inner()).await?;
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn acquire_runtime_lease(
        &self,
        request: Request<AcquireRuntimeLeaseRequest>,
    ) -> Result<Response<AcquireRuntimeLeaseResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let answer = runtime_lease::acquire(&self.0, request.get_ref()).await?;
        Ok(Response::new(answer))
    }

    async fn release_runtime_lease(
        &self,
        request: Request<ReleaseRuntimeLeaseRequest>,
    ) -> Result<Response<ReleaseRuntimeLeaseResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        runtime_lease::release(&self.0, request.get_ref()).await?;
        Ok(Response::new(ReleaseRuntimeLeaseResponse {}))
    }

    async fn report_token_use(
        &self,
        request: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        require_workload(&request, &[Workload::Gateway])?;
        report::token_use(&self.0, request.into_inner()).await?;
        Ok(Response::new(ReportTokenUseResponse {}))
    }
}
