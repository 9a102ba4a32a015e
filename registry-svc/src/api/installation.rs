//! InstallationService.

use std::sync::Arc;

use contracts::registry::{
    CreateInstallationRequest, DeleteInstallationRequest, GetInstallationRequest, Installation,
    ListInstallationToolsRequest, ListInstallationToolsResponse, ListInstallationsRequest, ListInstallationsResponse,
    UpdateInstallationRequest, installation_service_server::InstallationService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::operate::{Registry, installations, tools};

/// Answers for installations.
pub(crate) struct Installations(pub(crate) Arc<Registry>);

#[async_trait]
impl InstallationService for Installations {
    async fn create_installation(
        &self,
        request: Request<CreateInstallationRequest>,
    ) -> Result<Response<Installation>, Status> {
        let caller = self.0.caller(&request).await?;
        let (installation, done) = installations::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(installation))
    }

    async fn get_installation(
        &self,
        request: Request<GetInstallationRequest>,
    ) -> Result<Response<Installation>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            installations::get(&self.0, &caller, &request.into_inner().name).await?,
        ))
    }

    async fn list_installations(
        &self,
        request: Request<ListInstallationsRequest>,
    ) -> Result<Response<ListInstallationsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            installations::list(&self.0, &caller, request.into_inner()).await?,
        ))
    }

    async fn update_installation(
        &self,
        request: Request<UpdateInstallationRequest>,
    ) -> Result<Response<Installation>, Status> {
        let caller = self.0.caller(&request).await?;
        let (installation, done) = installations::update(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(installation))
    }

    async fn delete_installation(
        &self,
        request: Request<DeleteInstallationRequest>,
    ) -> Result<Response<Installation>, Status> {
        let caller = self.0.caller(&request).await?;
        let (installation, done) = installations::delete(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(installation))
    }

    async fn list_installation_tools(
        &self,
        request: Request<ListInstallationToolsRequest>,
    ) -> Result<Response<ListInstallationToolsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ListInstallationToolsRequest {
            parent,
            page_size,
            page_token,
        } = request.into_inner();
        let (tools, next_page_token) =
            tools::of_installation(&self.0, &caller, &parent, page_size, &page_token).await?;
        Ok(Response::new(ListInstallationToolsResponse { tools, next_page_token }))
    }
}
