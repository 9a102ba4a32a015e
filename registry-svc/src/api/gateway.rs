//! GatewayService.

use std::sync::Arc;

use contracts::registry::{
    CreateGatewayRequest, DeleteGatewayRequest, Gateway, GetGatewayRequest, ListGatewaysRequest, ListGatewaysResponse,
    UpdateGatewayRequest, gateway_service_server::GatewayService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::consumer::ConsumerKind,
    operate::{
        Registry,
        consumers::{self, Requested},
    },
};

/// Answers for MCP gateways.
pub(crate) struct Gateways(pub(crate) Arc<Registry>);

#[async_trait]
impl GatewayService for Gateways {
    async fn create_gateway(&self, request: Request<CreateGatewayRequest>) -> Result<Response<Gateway>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let requested = Requested {
            slug: request.gateway_id,
            message: request.gateway,
            request_id: request.request_id,
        };
        let (gateway, done) = consumers::create(&self.0, &caller, ConsumerKind::Gateway, requested).await?;
        Ok(done.reply(gateway))
    }

    async fn get_gateway(&self, request: Request<GetGatewayRequest>) -> Result<Response<Gateway>, Status> {
        let caller = self.0.caller(&request).await?;
        let gateway = consumers::get(&self.0, &caller, ConsumerKind::Gateway, &request.into_inner().name).await?;
        Ok(Response::new(gateway))
    }

    async fn list_gateways(
        &self,
        request: Request<ListGatewaysRequest>,
    ) -> Result<Response<ListGatewaysResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ListGatewaysRequest { page_size, page_token } = request.into_inner();
        let (gateways, next_page_token) =
            consumers::list(&self.0, &caller, ConsumerKind::Gateway, page_size, &page_token).await?;
        Ok(Response::new(ListGatewaysResponse {
            gateways,
            next_page_token,
        }))
    }

    async fn update_gateway(&self, request: Request<UpdateGatewayRequest>) -> Result<Response<Gateway>, Status> {
        let caller = self.0.caller(&request).await?;
        let UpdateGatewayRequest { gateway, update_mask } = request.into_inner();
        let (gateway, done) =
            consumers::update(&self.0, &caller, ConsumerKind::Gateway, gateway, update_mask.as_ref()).await?;
        Ok(done.reply(gateway))
    }

    async fn delete_gateway(&self, request: Request<DeleteGatewayRequest>) -> Result<Response<Gateway>, Status> {
        let caller = self.0.caller(&request).await?;
        let DeleteGatewayRequest { name, etag } = request.into_inner();
        let (gateway, done) = consumers::delete(&self.0, &caller, ConsumerKind::Gateway, &name, &etag).await?;
        Ok(done.reply(gateway))
    }
}
