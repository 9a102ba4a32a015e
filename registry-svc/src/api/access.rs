//! AccessService.

use std::sync::Arc;

use contracts::registry::{
    AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest, AuthorizeInstallationResponse,
    access_service_server::AccessService,
};
use service_kit::{Workload, identity::require_workload};
use tonic::{Request, Response, Status};

use crate::operate::{Registry, access};

const WORKLOADS: [Workload; 3] = [Workload::Credential, Workload::Orchestrator, Workload::Gateway];

/// The service.
#[derive(Debug)]
pub(super) struct AccessApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl AccessService for AccessApi {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        require_workload(&request, &WORKLOADS)?;
        Ok(Response::new(
            access::installation(&self.0, request.into_inner()).await?,
        ))
    }

    async fn authorize_entry(
        &self,
        request: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        require_workload(&request, &WORKLOADS)?;
        Ok(Response::new(access::entry(&self.0, request.into_inner()).await?))
    }
}
