//! UserService.

use std::sync::Arc;

use contracts::registry::{
    DeactivateUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse, ReactivateUserRequest, User,
    user_service_server::UserService,
};
use tonic::{Request, Response, Status};

use crate::operate::{Registry, users};

/// The service.
#[derive(Debug)]
pub(super) struct UserApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl UserService for UserApi {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = users::get(&self.0, &caller, &request.into_inner().name).await?;
        Ok(Response::new(answer))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = users::list(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn deactivate_user(&self, request: Request<DeactivateUserRequest>) -> Result<Response<User>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = users::deactivate(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn reactivate_user(&self, request: Request<ReactivateUserRequest>) -> Result<Response<User>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = users::reactivate(&self.0, &caller, &request.into_inner().name).await?;
        Ok(done.reply(answer))
    }
}
