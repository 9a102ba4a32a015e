//! MCP gateways, agents and tool assignments over gRPC, on both engines.

mod support;

use contracts::registry::{tool_assignment::Binding, *};
use support::*;
use tonic::{Code, Status};

on_both_engines!(
    are_curated_by_admins,
    name_all_that_is_wrong,
    keep_agents_apart_from_gateways,
    take_tools_that_are_known,
    pin_only_what_is_ones_own,
    change_their_assignments_by_mask,
    go_with_their_assignments,
);

async fn are_curated_by_admins(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let request = CreateGatewayRequest {
        gateway_id: "default".to_owned(),
        gateway: Some(Gateway {
            labels: map(&[("team", "ops")]),
            ..Default::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let made = admin
        .gateways()
        .create_gateway(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (made.name.as_str(), made.assignment_mode()),
        ("gateways/default", AssignmentMode::Manual)
    );
    assert_eq!(
        admin
            .gateways()
            .create_gateway(request.clone())
            .await
            .unwrap()
            .into_inner(),
        made
    );
    assert_eq!(
        alice.gateways().create_gateway(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        admin.gateway("default", Gateway::default()).await.unwrap_err().code(),
        Code::AlreadyExists
    );

    let change = Gateway {
        assignment_mode: AssignmentMode::Automatic.into(),
        ..made.clone()
    };
    let request = UpdateGatewayRequest {
        gateway: Some(change),
        update_mask: mask(&["assignment_mode"]),
    };
    assert_eq!(
        alice
            .gateways()
            .update_gateway(request.clone())
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let changed = admin
        .gateways()
        .update_gateway(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (changed.assignment_mode(), changed.labels),
        (AssignmentMode::Automatic, made.labels)
    );
    let late = admin.gateways().update_gateway(request).await.unwrap_err();
    assert_eq!(reason(&late), (Code::Aborted, "ETAG_MISMATCH".to_owned()));

    let audience = visibility::Audience::Author(AuthorAudience {});
    admin
        .gateway(
            "hidden",
            Gateway {
                visibility: Some(Visibility {
                    audience: Some(audience),
                }),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let request = GetGatewayRequest {
        name: "gateways/hidden".to_owned(),
    };
    assert_eq!(
        alice.gateways().get_gateway(request).await.unwrap_err().code(),
        Code::NotFound
    );
    let listed = alice
        .gateways()
        .list_gateways(ListGatewaysRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.gateways.len(), 1);
    let delete = DeleteGatewayRequest {
        name: "gateways/default".to_owned(),
        etag: made.etag,
    };
    assert_eq!(
        admin
            .gateways()
            .delete_gateway(delete.clone())
            .await
            .unwrap_err()
            .code(),
        Code::Aborted
    );
    let delete = DeleteGatewayRequest {
        etag: String::new(),
        ..delete
    };
    admin.gateways().delete_gateway(delete).await.unwrap();
    let request = GetGatewayRequest {
        name: "gateways/default".to_owned(),
    };
    assert_eq!(
        admin.gateways().get_gateway(request).await.unwrap_err().code(),
        Code::NotFound
    );
}

async fn name_all_that_is_wrong(stack: Stack) {
    let admin = stack.admin();
    let gateway = Gateway {
        labels: map(&[("a b", "x")]),
        passthrough_headers: ["x-ok", "Authorization", "Mcp-Session-Id", "a\r\nb"]
            .map(String::from)
            .into(),
        ..Default::default()
    };
    let refused = admin.gateway("Bad", gateway).await.unwrap_err();
    let expected = [
        "gateway_id",
        "gateway.labels[a b]",
        "gateway.passthrough_headers[1]",
        "gateway.passthrough_headers[2]",
        "gateway.passthrough_headers[3]",
    ];
    assert_eq!(fields(&refused), expected);
}

async fn keep_agents_apart_from_gateways(stack: Stack) {
    let admin = stack.admin();
    admin.gateway("same", Gateway::default()).await.unwrap();
    let agent = Agent {
        display_name: "An agent".to_owned(),
        ..Default::default()
    };
    let request = CreateAgentRequest {
        agent_id: "same".to_owned(),
        agent: Some(agent),
        request_id: String::new(),
    };
    let agent = admin.agents().create_agent(request).await.unwrap().into_inner();
    assert_eq!(
        (agent.name.as_str(), agent.display_name.as_str()),
        ("agents/same", "An agent")
    );
    let change = Agent {
        description: "d".to_owned(),
        ..agent.clone()
    };
    let request = UpdateAgentRequest {
        agent: Some(change),
        update_mask: mask(&["description"]),
    };
    assert_eq!(
        admin
            .agents()
            .update_agent(request)
            .await
            .unwrap()
            .into_inner()
            .display_name,
        "An agent"
    );
    assert_eq!(
        admin
            .agents()
            .list_agents(ListAgentsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .agents
            .len(),
        1
    );
    admin
        .agents()
        .delete_agent(DeleteAgentRequest {
            name: agent.name,
            etag: String::new(),
        })
        .await
        .unwrap();
    let listed = admin
        .gateways()
        .list_gateways(ListGatewaysRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.gateways.len(), 1);
    let wrong = GetAgentRequest {
        name: "gateways/same".to_owned(),
    };
    assert_eq!(fields(&admin.agents().get_agent(wrong).await.unwrap_err()), ["name"]);
}

async fn assign(
    person: &Person,
    assignment: ToolAssignment,
    confirm_shared_account: bool,
) -> Result<ToolAssignment, Status> {
    let request = CreateToolAssignmentRequest {
        parent: "gateways/default".to_owned(),
        tool_assignment: Some(assignment),
        confirm_shared_account,
        ..Default::default()
    };
    person
        .assignments()
        .create_tool_assignment(request)
        .await
        .map(tonic::Response::into_inner)
}

fn tool(tool: &str) -> ToolAssignment {
    ToolAssignment {
        entry: "entries/time".to_owned(),
        tool: tool.to_owned(),
        ..Default::default()
    }
}

fn pinned(name: &str, installation: &Installation) -> ToolAssignment {
    ToolAssignment {
        binding: Some(Binding::PinnedInstallation(installation.name.clone())),
        ..tool(name)
    }
}

/// An entry `time` with two tools that alice has installed, and a gateway.
async fn prepare(stack: &Stack) -> (Person, Person, Installation) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.approved("time", remote()).await;
    let installation = alice.install("entries/time", None, &[]).await.unwrap();
    stack.discover(&installation, &["convert", "now"]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    (admin, alice, installation)
}

async fn take_tools_that_are_known(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    let made = assign(&admin, tool("now"), false).await.unwrap();
    assert!(
        made.name.starts_with("gateways/default/toolAssignments/"),
        "{}",
        made.name
    );
    assert!(matches!(made.binding, Some(Binding::ResolveAtCallTime(_))));
    let unknown = assign(&admin, tool("later"), false).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::FailedPrecondition, "TOOL_UNKNOWN".to_owned()));
    let twice = assign(&admin, tool("now"), false).await.unwrap_err();
    assert_eq!(reason(&twice), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert!(twice.message().contains(&made.uid));
    assert_eq!(
        assign(&alice, tool("convert"), false).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let named = ToolAssignment {
        exposed_name: "clock".to_owned(),
        ..tool("convert")
    };
    assign(&admin, named.clone(), false).await.unwrap();
    let installation = admin.install("entries/time", None, &[]).await.unwrap();
    let taken = ToolAssignment {
        exposed_name: "clock".to_owned(),
        ..pinned("now", &installation)
    };
    assert_eq!(
        assign(&admin, taken, true).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let bad = ToolAssignment {
        exposed_name: "a b".to_owned(),
        entry: "x".to_owned(),
        ..tool("")
    };
    let bad = assign(&admin, bad, false).await.unwrap_err();
    assert_eq!(
        fields(&bad),
        [
            "tool_assignment.entry",
            "tool_assignment.tool",
            "tool_assignment.exposed_name"
        ]
    );
    let request = ListToolAssignmentsRequest {
        parent: "gateways/default".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = alice
        .assignments()
        .list_tool_assignments(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.tool_assignments.len(), 1);
    let request = ListToolAssignmentsRequest {
        page_token: page.next_page_token,
        ..request
    };
    let page = alice
        .assignments()
        .list_tool_assignments(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((page.tool_assignments.len(), page.next_page_token.as_str()), (1, ""));
}

async fn pin_only_what_is_ones_own(stack: Stack) {
    let (admin, alice, hers) = prepare(&stack).await;
    admin.team("ops", true, &[&alice]).await;
    let teams = alice.install("entries/time", Some("teams/ops"), &[]).await.unwrap();
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let refused = assign(&admin, pinned("now", &hers), true).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let refused = assign(&admin, pinned("now", &his), false).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "SHARED_ACCOUNT_NOT_CONFIRMED".to_owned())
    );
    let made = assign(&admin, pinned("now", &his), true).await.unwrap();
    assert_eq!(made.binding, Some(Binding::PinnedInstallation(his.name)));
    assign(&admin, pinned("now", &teams), false).await.unwrap();
    admin.approved("other", remote()).await;
    let other = admin.install("entries/other", None, &[]).await.unwrap();
    let refused = assign(&admin, pinned("now", &other), true).await.unwrap_err();
    assert_eq!(fields(&refused), ["tool_assignment.pinned_installation"]);
    let absent = Installation {
        name: format!("installations/{}", uuid::Uuid::new_v4()),
        ..Default::default()
    };
    assert_eq!(
        assign(&admin, pinned("now", &absent), true).await.unwrap_err().code(),
        Code::NotFound
    );
}

async fn change_their_assignments_by_mask(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    let made = assign(&admin, tool("now"), false).await.unwrap();
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let update = |assignment: ToolAssignment, paths: &[&str], confirm_shared_account| {
        let update_mask = mask(paths);
        let mut client = admin.assignments();
        async move {
            let request = UpdateToolAssignmentRequest {
                tool_assignment: Some(assignment),
                update_mask,
                confirm_shared_account,
            };
            client
                .update_tool_assignment(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let change = ToolAssignment {
        exposed_name: "clock".to_owned(),
        binding: Some(Binding::PinnedInstallation(his.name.clone())),
        etag: String::new(),
        ..made.clone()
    };
    let changed = update(change.clone(), &["exposed_name"], false).await.unwrap();
    assert_eq!(
        (changed.exposed_name.as_str(), changed.binding),
        ("clock", made.binding.clone())
    );
    let refused = update(change.clone(), &["pinned_installation"], false)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused).1, "SHARED_ACCOUNT_NOT_CONFIRMED");
    let changed = update(change.clone(), &["pinned_installation"], true).await.unwrap();
    assert_eq!(changed.binding, Some(Binding::PinnedInstallation(his.name)));
    let resolve = ToolAssignment {
        binding: Some(Binding::ResolveAtCallTime(ResolveAtCallTime {})),
        ..change.clone()
    };
    let changed = update(resolve, &["resolve_at_call_time"], false).await.unwrap();
    assert!(matches!(changed.binding, Some(Binding::ResolveAtCallTime(_))));
    let late = ToolAssignment {
        etag: made.etag,
        ..change.clone()
    };
    assert_eq!(
        update(late, &["exposed_name"], false).await.unwrap_err().code(),
        Code::Aborted
    );
    assert_eq!(
        fields(&update(change, &["tool"], false).await.unwrap_err()),
        ["update_mask.paths[0]"]
    );
    let request = DeleteToolAssignmentRequest {
        name: made.name.clone(),
        etag: String::new(),
    };
    assert_eq!(
        alice
            .assignments()
            .delete_tool_assignment(request.clone())
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    admin.assignments().delete_tool_assignment(request).await.unwrap();
    let request = GetToolAssignmentRequest { name: made.name };
    assert_eq!(
        admin
            .assignments()
            .get_tool_assignment(request)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let request = GetToolAssignmentRequest {
        name: "gateways/default/toolAssignments/x".to_owned(),
    };
    assert_eq!(
        fields(&admin.assignments().get_tool_assignment(request).await.unwrap_err()),
        ["name"]
    );
}

async fn go_with_their_assignments(stack: Stack) {
    let (admin, _, _) = prepare(&stack).await;
    let made = assign(&admin, tool("now"), false).await.unwrap();
    let request = DeleteGatewayRequest {
        name: "gateways/default".to_owned(),
        etag: String::new(),
    };
    admin.gateways().delete_gateway(request).await.unwrap();
    admin.gateway("default", Gateway::default()).await.unwrap();
    let request = GetToolAssignmentRequest { name: made.name };
    assert_eq!(
        admin
            .assignments()
            .get_tool_assignment(request)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}
