//! ReportService.

use std::sync::Arc;

use contracts::registry::{
    ReportCleanupRequest, ReportCleanupResponse, ReportConditionRequest, ReportConditionResponse,
    ReportTokenUseRequest, ReportTokenUseResponse, ReportToolsRequest, ReportToolsResponse,
    report_service_server::ReportService,
};
use service_kit::{Workload, identity::require_workload};
use tonic::{Request, Response, Status};

use super::Registry;
use crate::operate::report;

/// The service.
#[derive(Debug)]
pub(super) struct ReportApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl ReportService for ReportApi {
    async fn report_condition(
        &self,
        request: Request<ReportConditionRequest>,
    ) -> Result<Response<ReportConditionResponse>, Status> {
        let workload = require_workload(
            &request,
            &[Workload::Credential, Workload::Orchestrator, Workload::Gateway],
        )?;
        let done = report::condition(&self.0, workload, request.into_inner()).await?;
        Ok(done.reply(ReportConditionResponse {
            revision: done.revision,
        }))
    }

    async fn report_tools(
        &self,
        request: Request<ReportToolsRequest>,
    ) -> Result<Response<ReportToolsResponse>, Status> {
        require_workload(&request, &[Workload::Gateway])?;
        let done = report::tools(&self.0, request.into_inner()).await?;
        Ok(done.reply(ReportToolsResponse {
            revision: done.revision,
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

    async fn report_token_use(
        &self,
        request: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        require_workload(&request, &[Workload::Gateway])?;
        report::token_use(&self.0, request.into_inner()).await?;
        Ok(Response::new(ReportTokenUseResponse {}))
    }
}
