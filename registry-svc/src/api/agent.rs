//! AgentService.

use std::sync::Arc;

use contracts::registry::{
    Agent, CreateAgentRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, ListAgentsResponse,
    UpdateAgentRequest, agent_service_server::AgentService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::consumer::{ConsumerKind, from_agent, into_agent},
    operate::{
        Registry,
        consumers::{self, Requested},
    },
};

/// Answers for agents.
pub(crate) struct Agents(pub(crate) Arc<Registry>);

#[async_trait]
impl AgentService for Agents {
    async fn create_agent(&self, request: Request<CreateAgentRequest>) -> Result<Response<Agent>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let requested = Requested {
            slug: request.agent_id,
            message: request.agent.map(from_agent),
            request_id: request.request_id,
        };
        let (agent, done) = consumers::create(&self.0, &caller, ConsumerKind::Agent, requested).await?;
        Ok(done.reply(into_agent(agent)))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<Agent>, Status> {
        let caller = self.0.caller(&request).await?;
        let agent = consumers::get(&self.0, &caller, ConsumerKind::Agent, &request.into_inner().name).await?;
        Ok(Response::new(into_agent(agent)))
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ListAgentsRequest { page_size, page_token } = request.into_inner();
        let (agents, next_page_token) =
            consumers::list(&self.0, &caller, ConsumerKind::Agent, page_size, &page_token).await?;
        Ok(Response::new(ListAgentsResponse {
            agents: agents.into_iter().map(into_agent).collect(),
            next_page_token,
        }))
    }

    async fn update_agent(&self, request: Request<UpdateAgentRequest>) -> Result<Response<Agent>, Status> {
        let caller = self.0.caller(&request).await?;
        let UpdateAgentRequest { agent, update_mask } = request.into_inner();
        let (agent, done) = consumers::update(
            &self.0,
            &caller,
            ConsumerKind::Agent,
            agent.map(from_agent),
            update_mask.as_ref(),
        )
        .await?;
        Ok(done.reply(into_agent(agent)))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<Agent>, Status> {
        let caller = self.0.caller(&request).await?;
        let DeleteAgentRequest { name, etag } = request.into_inner();
        let (agent, done) = consumers::delete(&self.0, &caller, ConsumerKind::Agent, &name, &etag).await?;
        Ok(done.reply(into_agent(agent)))
    }
}
