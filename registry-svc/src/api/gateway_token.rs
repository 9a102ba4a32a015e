//! GatewayTokenService.

use std::sync::Arc;

use contracts::registry::{
    CreateGatewayTokenRequest, CreateGatewayTokenResponse, GatewayToken, GetGatewayTokenRequest,
    ListGatewayTokensRequest, ListGatewayTokensResponse, RevokeGatewayTokenRequest,
    gateway_token_service_server::GatewayTokenService,
};
use tonic::{Request, Response, Status};

use crate::operate::{Registry, gateway_tokens};

/// The service.
#[derive(Debug)]
pub(super) struct GatewayTokenApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl GatewayTokenService for GatewayTokenApi {
    async fn create_gateway_token(
        &self,
        request: Request<CreateGatewayTokenRequest>,
    ) -> Result<Response<CreateGatewayTokenResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = gateway_tokens::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn get_gateway_token(
        &self,
        request: Request<GetGatewayTokenRequest>,
    ) -> Result<Response<GatewayToken>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = gateway_tokens::get(&self.0, &caller, &request.into_inner().name).await?;
        Ok(Response::new(answer))
    }

    async fn list_gateway_tokens(
        &self,
        request: Request<ListGatewayTokensRequest>,
    ) -> Result<Response<ListGatewayTokensResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = gateway_tokens::list(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn revoke_gateway_token(
        &self,
        request: Request<RevokeGatewayTokenRequest>,
    ) -> Result<Response<GatewayToken>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = gateway_tokens::revoke(&self.0, &caller, &request.into_inner().name).await?;
        Ok(done.reply(answer))
    }
}
