//! TeamService.

use std::sync::Arc;

use contracts::registry::{
    AddTeamMemberRequest, CreateTeamRequest, DeleteTeamRequest, GetTeamRequest, ListTeamMembersRequest,
    ListTeamMembersResponse, ListTeamsRequest, ListTeamsResponse, RemoveTeamMemberRequest, RemoveTeamMemberResponse,
    Team, TeamMember, UpdateTeamRequest, team_service_server::TeamService,
};
use tonic::{Request, Response, Status};

use crate::operate::{Registry, teams};

/// The service.
#[derive(Debug)]
pub(super) struct TeamApi(pub(super) Arc<Registry>);

#[tonic::async_trait]
impl TeamService for TeamApi {
    async fn create_team(&self, request: Request<CreateTeamRequest>) -> Result<Response<Team>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = teams::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn get_team(&self, request: Request<GetTeamRequest>) -> Result<Response<Team>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = teams::get(&self.0, &caller, &request.into_inner().name).await?;
        Ok(Response::new(answer))
    }

    async fn list_teams(&self, request: Request<ListTeamsRequest>) -> Result<Response<ListTeamsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = teams::list(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn update_team(&self, request: Request<UpdateTeamRequest>) -> Result<Response<Team>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = teams::update(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn delete_team(&self, request: Request<DeleteTeamRequest>) -> Result<Response<Team>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = teams::delete(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn add_team_member(&self, request: Request<AddTeamMemberRequest>) -> Result<Response<TeamMember>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = teams::add_member(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn remove_team_member(
        &self,
        request: Request<RemoveTeamMemberRequest>,
    ) -> Result<Response<RemoveTeamMemberResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ((), done) = teams::remove_member(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(RemoveTeamMemberResponse {}))
    }

    async fn list_team_members(
        &self,
        request: Request<ListTeamMembersRequest>,
    ) -> Result<Response<ListTeamMembersResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let answer = teams::list_members(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
