//! Requests of GatewayService, AgentService and ToolAssignmentService.

use contracts::registry as r;
use integration_tests::walk::request_id;

use super::request::{Request, seen};
use crate::world::{Seen, Who, World, all_tools};

/// An assignment that is hidden because its entry is.
const OF_HIDDEN_ENTRY: &str = "at everybody's, of the teams' entry";

pub(super) async fn gateways(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateGateway", "new") {
        return Some(Request::new(r::CreateGatewayRequest {
            gateway_id: world.fresh("g"),
            gateway: Some(r::Gateway::default()),
            request_id: request_id(),
        }));
    }
    let name = world.gateway(seen(about)?).await;
    let etag = String::new();
    Some(match method {
        "GetGateway" => Request::on(&name, r::GetGatewayRequest { name: name.clone() }),
        "ListGateways" => Request::new(r::ListGatewaysRequest {
            page_size: 500,
            ..r::ListGatewaysRequest::default()
        })
        .lists(&name),
        "UpdateGateway" => Request::on(
            &name,
            r::UpdateGatewayRequest {
                gateway: Some(r::Gateway {
                    name: name.clone(),
                    description: "changed".to_owned(),
                    ..r::Gateway::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteGateway" => Request::on(
            &name,
            r::DeleteGatewayRequest {
                name: name.clone(),
                etag,
            },
        ),
        _ => return None,
    })
}

pub(super) async fn agents(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("CreateAgent", "new") {
        return Some(Request::new(r::CreateAgentRequest {
            agent_id: world.fresh("a"),
            agent: Some(r::Agent::default()),
            request_id: request_id(),
        }));
    }
    let name = world.agent(seen(about)?).await;
    let etag = String::new();
    Some(match method {
        "GetAgent" => Request::on(&name, r::GetAgentRequest { name: name.clone() }),
        "ListAgents" => Request::new(r::ListAgentsRequest {
            page_size: 500,
            ..r::ListAgentsRequest::default()
        })
        .lists(&name),
        "UpdateAgent" => Request::on(
            &name,
            r::UpdateAgentRequest {
                agent: Some(r::Agent {
                    name: name.clone(),
                    description: "changed".to_owned(),
                    ..r::Agent::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteAgent" => Request::on(
            &name,
            r::DeleteAgentRequest {
                name: name.clone(),
                etag,
            },
        ),
        _ => return None,
    })
}

pub(super) async fn assignments(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let request = assignment(world, method, about).await?;
    let invisible = who == Who::Stranger && about == OF_HIDDEN_ENTRY;
    Some(if invisible { request.invisible() } else { request })
}

async fn assignment(world: &World, method: &str, about: &str) -> Option<Request> {
    let (parent, of) = match about {
        "at everybody's" => (world.gateway(Seen::ByAll).await, Seen::ByAll),
        "at the teams'" => (world.gateway(Seen::ByTeams).await, Seen::ByAll),
        OF_HIDDEN_ENTRY => (world.agent(Seen::ByAll).await, Seen::ByTeams),
        _ => return None,
    };
    let entry = world.open_entry(of).await;
    let hides = if of == Seen::ByAll { &parent } else { &entry };
    let create = || r::CreateToolAssignmentRequest {
        parent: parent.clone(),
        tool_assignment: Some(all_tools(&entry)),
        ..r::CreateToolAssignmentRequest::default()
    };
    match method {
        "CreateToolAssignment" => return Some(Request::on(hides, create())),
        "BatchCreateToolAssignments" => {
            return Some(Request::on(
                hides,
                r::BatchCreateToolAssignmentsRequest {
                    parent: parent.clone(),
                    requests: vec![create()],
                    request_id: request_id(),
                },
            ));
        }
        _ => {}
    }
    let name = world.assignment(&parent, &entry).await;
    let uid = name.rsplit('/').next().map(str::to_owned);
    let on_it = |message| Request {
        about: uid.clone(),
        ..message
    };
    Some(match method {
        "GetToolAssignment" => on_it(Request::new(r::GetToolAssignmentRequest { name })),
        "ListToolAssignments" => Request::on(
            &parent,
            r::ListToolAssignmentsRequest {
                parent: parent.clone(),
                ..r::ListToolAssignmentsRequest::default()
            },
        )
        .lists(&name),
        "UpdateToolAssignment" => on_it(Request::new(r::UpdateToolAssignmentRequest {
            tool_assignment: Some(r::ToolAssignment {
                name,
                binding: Some(r::tool_assignment::Binding::ResolveAtCallTime(r::ResolveAtCallTime {})),
                ..r::ToolAssignment::default()
            }),
            ..r::UpdateToolAssignmentRequest::default()
        })),
        "DeleteToolAssignment" => on_it(Request::new(r::DeleteToolAssignmentRequest {
            name,
            etag: String::new(),
        })),
        "BatchDeleteToolAssignments" => on_it(Request::new(r::BatchDeleteToolAssignmentsRequest {
            parent,
            names: vec![name],
        })),
        _ => return None,
    })
}
