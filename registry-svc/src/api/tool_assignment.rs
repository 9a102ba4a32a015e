//! ToolAssignmentService.

use std::sync::Arc;

use contracts::registry::{
    BatchCreateToolAssignmentsRequest, BatchCreateToolAssignmentsResponse, BatchDeleteToolAssignmentsRequest,
    BatchDeleteToolAssignmentsResponse, CreateToolAssignmentRequest, DeleteToolAssignmentRequest,
    GetToolAssignmentRequest, ListToolAssignmentsRequest, ListToolAssignmentsResponse, ToolAssignment,
    UpdateToolAssignmentRequest, tool_assignment_service_server::ToolAssignmentService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::operate::{Registry, assignments};

/// Answers for tool assignments.
pub(crate) struct ToolAssignments(pub(crate) Arc<Registry>);

#[async_trait]
impl ToolAssignmentService for ToolAssignments {
    async fn create_tool_assignment(
        &self,
        request: Request<CreateToolAssignmentRequest>,
    ) -> Result<Response<ToolAssignment>, Status> {
        let caller = self.0.caller(&request).await?;
        let (assignment, done) = assignments::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(assignment))
    }

    async fn get_tool_assignment(
        &self,
        request: Request<GetToolAssignmentRequest>,
    ) -> Result<Response<ToolAssignment>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            assignments::get(&self.0, &caller, &request.into_inner().name).await?,
        ))
    }

    async fn list_tool_assignments(
        &self,
        request: Request<ListToolAssignmentsRequest>,
    ) -> Result<Response<ListToolAssignmentsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            assignments::list(&self.0, &caller, request.into_inner()).await?,
        ))
    }

    async fn update_tool_assignment(
        &self,
        request: Request<UpdateToolAssignmentRequest>,
    ) -> Result<Response<ToolAssignment>, Status> {
        let caller = self.0.caller(&request).await?;
        let (assignment, done) = assignments::update(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(assignment))
    }

    async fn delete_tool_assignment(
        &self,
        request: Request<DeleteToolAssignmentRequest>,
    ) -> Result<Response<ToolAssignment>, Status> {
        let caller = self.0.caller(&request).await?;
        let (assignment, done) = assignments::delete(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(assignment))
    }

    async fn batch_create_tool_assignments(
        &self,
        request: Request<BatchCreateToolAssignmentsRequest>,
    ) -> Result<Response<BatchCreateToolAssignmentsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let (answer, done) = assignments::batch::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(answer))
    }

    async fn batch_delete_tool_assignments(
        &self,
        request: Request<BatchDeleteToolAssignmentsRequest>,
    ) -> Result<Response<BatchDeleteToolAssignmentsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ((), done) = assignments::batch::delete(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(BatchDeleteToolAssignmentsResponse {}))
    }
}
