//! MCP gateways and agents over gRPC, on both engines.

mod support;

use std::time::Duration;

use contracts::registry::*;
use service_kit::Workload;
use support::{
    watcher::{Watcher, removals},
    *,
};
use tonic::Code;

on_both_engines!(
    are_curated_by_admins,
    name_all_that_is_wrong,
    keep_agents_apart_from_gateways,
    replay_their_first_answer,
    change_by_mask,
    say_since_when_their_labels_select,
    are_listed_to_those_who_see_them,
    go_at_once_and_their_assignments_after_them,
);

fn visible_to(audience: visibility::Audience) -> Option<Visibility> {
    Some(Visibility {
        audience: Some(audience),
    })
}

fn for_author() -> Option<Visibility> {
    visible_to(visibility::Audience::Author(AuthorAudience {}))
}

fn for_teams(teams: &[&str]) -> Option<Visibility> {
    let teams = teams.iter().map(|&team| team.to_owned()).collect();
    visible_to(visibility::Audience::Teams(TeamsAudience { teams }))
}

fn since(labels: &[(&str, i64)]) -> std::collections::HashMap<String, i64> {
    labels.iter().map(|&(key, since)| (key.to_owned(), since)).collect()
}

/// Also an agent; and that is kept with it.
async fn say_since_when_their_labels_select(stack: Stack) {
    let admin = stack.admin();
    let made = CreateAgentRequest {
        agent_id: "helper".to_owned(),
        agent: Some(Agent {
            labels: map(&[("team", "ops"), ("area", "web")]),
            label_revisions: since(&[("team", 1)]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.agents().create_agent(made).await.unwrap().into_inner();
    let first = made.registry_revision;
    assert_eq!(made.label_revisions, since(&[("team", first), ("area", first)]));
    let update = async |agent: Agent, path: &str| {
        let agent = Agent {
            name: "agents/helper".to_owned(),
            ..agent
        };
        let request = update_agent(agent, &[path]);
        admin.agents().update_agent(request).await.unwrap().into_inner()
    };
    let relabelled = Agent {
        labels: map(&[("team", "ops"), ("area", "core")]),
        ..Default::default()
    };
    let relabelled = update(relabelled, "labels").await;
    let second = relabelled.registry_revision;
    assert_eq!(relabelled.label_revisions, since(&[("team", first), ("area", second)]));
    let automatic = Agent {
        assignment_mode: AssignmentMode::Automatic.into(),
        ..Default::default()
    };
    let automatic = update(automatic, "assignment_mode").await;
    let third = automatic.registry_revision;
    assert_eq!(automatic.label_revisions, since(&[("team", third), ("area", third)]));
    let described = Agent {
        description: "d".to_owned(),
        ..Default::default()
    };
    let described = update(described, "description").await;
    assert_eq!(described.label_revisions, automatic.label_revisions);
    let kept = admin.agents().get_agent(get_agent("agents/helper")).await.unwrap();
    assert_eq!(kept.into_inner(), described);
}

async fn are_curated_by_admins(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let request = CreateGatewayRequest {
        gateway_id: "default".to_owned(),
        gateway: Some(Gateway {
            labels: map(&[("team", "ops")]),
            ..Default::default()
        }),
        request_id: service_kit::random::uuid().to_string(),
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
    let request = update_gateway(change, &["assignment_mode"]);
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

    let hidden = Gateway {
        visibility: for_author(),
        ..Default::default()
    };
    admin.gateway("hidden", hidden).await.unwrap();
    let request = get_gateway("gateways/hidden");
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
    let request = get_gateway("gateways/default");
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
    let request = create_agent("same", agent);
    let agent = admin.agents().create_agent(request).await.unwrap().into_inner();
    assert_eq!(
        (agent.name.as_str(), agent.display_name.as_str()),
        ("agents/same", "An agent")
    );
    let change = Agent {
        description: "d".to_owned(),
        ..agent.clone()
    };
    let request = update_agent(change, &["description"]);
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
    admin.agents().delete_agent(delete_agent(&agent.name)).await.unwrap();
    let listed = admin
        .gateways()
        .list_gateways(ListGatewaysRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.gateways.len(), 1);
    let wrong = get_agent("gateways/same");
    assert_eq!(fields(&admin.agents().get_agent(wrong).await.unwrap_err()), ["name"]);
}

async fn replay_their_first_answer(stack: Stack) {
    let admin = stack.admin();
    let create = |id: &str| CreateGatewayRequest {
        gateway_id: "main".to_owned(),
        gateway: Some(Gateway::default()),
        request_id: id.to_owned(),
    };
    let (first_id, second_id) = (
        service_kit::random::uuid().to_string(),
        service_kit::random::uuid().to_string(),
    );
    let first = admin
        .gateways()
        .create_gateway(create(&first_id))
        .await
        .unwrap()
        .into_inner();
    let change = Gateway {
        description: "changed since".to_owned(),
        ..first.clone()
    };
    let request = UpdateGatewayRequest {
        gateway: Some(change),
        update_mask: None,
    };
    admin.gateways().update_gateway(request).await.unwrap();
    let again = admin
        .gateways()
        .create_gateway(create(&first_id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first, "a replay returns the first answer");
    let delete = delete_gateway(&first.name);
    admin.gateways().delete_gateway(delete).await.unwrap();
    admin.gateways().create_gateway(create(&second_id)).await.unwrap();
    let gone = admin.gateways().create_gateway(create(&first_id)).await.unwrap_err();
    assert_eq!(reason(&gone), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));

    let create = CreateAgentRequest {
        agent_id: "helper".to_owned(),
        agent: Some(Agent {
            labels: map(&[("a", "b"), ("c", "d")]),
            ..Default::default()
        }),
        request_id: first_id,
    };
    let first = admin.agents().create_agent(create.clone()).await.unwrap().into_inner();
    let again = admin.agents().create_agent(create).await.unwrap().into_inner();
    assert_eq!((again.name.as_str(), &again), ("agents/helper", &first));
}

async fn change_by_mask(stack: Stack) {
    let admin = stack.admin();
    let made = Gateway {
        description: "kept".to_owned(),
        labels: map(&[("team", "ops")]),
        omit_entry_prefix: Some(true),
        tokens_only: Some(true),
        tool_listing: ToolListing::Search.into(),
        ..Default::default()
    };
    let made = admin.gateway("main", made).await.unwrap();
    let update = |gateway: Gateway, update_mask| {
        let mut client = admin.gateways();
        async move {
            let request = UpdateGatewayRequest {
                gateway: Some(gateway),
                update_mask,
            };
            client.update_gateway(request).await.map(tonic::Response::into_inner)
        }
    };
    let change = Gateway {
        name: made.name.clone(),
        display_name: "Main".to_owned(),
        ..Default::default()
    };
    let set = update(change.clone(), None).await.unwrap();
    assert_eq!(set.display_name, "Main");
    assert_eq!(
        (
            set.description.as_str(),
            &set.labels,
            set.omit_entry_prefix(),
            set.tokens_only(),
            set.tool_listing()
        ),
        ("kept", &made.labels, true, true, ToolListing::Search),
        "without a mask, what is not set stays"
    );
    assert!(set.registry_revision > made.registry_revision);
    let same = update(change.clone(), None).await.unwrap();
    assert_eq!(same, set, "what changes nothing writes nothing");
    let all = update(change.clone(), mask(&["*"])).await.unwrap();
    assert_eq!(
        (
            all.description.as_str(),
            all.omit_entry_prefix(),
            all.tokens_only(),
            all.tool_listing()
        ),
        ("", false, false, ToolListing::All)
    );
    assert!(all.labels.is_empty());
    let only = Gateway {
        tokens_only: Some(true),
        ..change.clone()
    };
    assert!(update(only, mask(&["tokens_only"])).await.unwrap().tokens_only());
    let only = Gateway {
        tool_listing: ToolListing::Search.into(),
        ..change.clone()
    };
    let searched = update(only, mask(&["tool_listing"])).await.unwrap();
    assert_eq!(searched.tool_listing(), ToolListing::Search);
    let refused = update(change, mask(&["display_name", "uid"])).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask.paths[1]"]);
}

/// The names of all pages of gateways.
async fn gateways(person: &Person, page_size: i32) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListGatewaysRequest { page_size, page_token };
        let page = person.gateways().list_gateways(request).await.unwrap().into_inner();
        assert!(page.gateways.len() <= usize::try_from(page_size).unwrap());
        assert!(page.next_page_token.is_empty() || !page.gateways.is_empty());
        names.extend(page.gateways.into_iter().map(|gateway| gateway.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

async fn are_listed_to_those_who_see_them(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    admin.team("ops", false, &[&alice]).await;
    admin.team("dev", false, &[&alice]).await;
    let (mut all, mut hers, mut his) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..12 {
        stack.clock.advance(Duration::from_millis(1));
        let visibility = match index % 4 {
            0 => None,
            1 => for_author(),
            2 => for_teams(&["teams/dev", "teams/ops"]),
            _ => for_teams(&["teams/ops"]),
        };
        let gateway = Gateway {
            visibility,
            ..Default::default()
        };
        let name = admin.gateway(&format!("g{index}"), gateway).await.unwrap().name;
        all.push(name.clone());
        if index % 4 != 1 {
            hers.push(name.clone());
        }
        if index % 4 == 0 {
            his.push(name);
        }
    }
    for size in [1, 2, 5, 50] {
        assert_eq!(gateways(&admin, size).await, all);
        assert_eq!(gateways(&alice, size).await, hers);
        assert_eq!(gateways(&bob, size).await, his);
    }
    // Who sees them changes with their visibility.
    let narrowed = Gateway {
        name: "gateways/g0".to_owned(),
        visibility: for_teams(&["teams/dev"]),
        ..Default::default()
    };
    let request = update_gateway(narrowed, &["visibility"]);
    admin.gateways().update_gateway(request).await.unwrap();
    assert_eq!(gateways(&bob, 50).await, his[1..]);
    assert_eq!(gateways(&alice, 50).await, hers);
    let unknown = Gateway {
        visibility: for_teams(&["teams/dev", "teams/none"]),
        ..Default::default()
    };
    let refused = admin.gateway("x", unknown).await.unwrap_err();
    assert_eq!(fields(&refused), ["gateway.visibility.teams.teams[1]"]);
}

async fn go_at_once_and_their_assignments_after_them(stack: Stack) {
    let admin = stack.admin();
    admin.approved("time", remote()).await;
    let installation = admin.install("entries/time", None, &[]).await.unwrap();
    let tools: Vec<String> = (0..5).map(|number| format!("t{number}")).collect();
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    stack.discover(&installation, &tools).await;
    let old = admin.gateway("default", Gateway::default()).await.unwrap();
    let requests = tools.iter().map(|&tool| CreateToolAssignmentRequest {
        tool_assignment: Some(ToolAssignment {
            entry: "entries/time".to_owned(),
            selection: Some(tool_assignment::Selection::Tool(tool.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    });
    let request = BatchCreateToolAssignmentsRequest {
        parent: old.name.clone(),
        requests: requests.collect(),
        ..Default::default()
    };
    let made = admin
        .assignments()
        .batch_create_tool_assignments(request)
        .await
        .unwrap()
        .into_inner();
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    let request = delete_gateway(&old.name);
    admin.gateways().delete_gateway(request).await.unwrap();
    let get = get_tool_assignment(&made.tool_assignments[0].name);
    let new = admin.gateway("default", Gateway::default()).await.unwrap();
    assert_ne!(new.uid, old.uid, "the slug is free at once");
    let refused = admin.assignments().get_tool_assignment(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "the new one inherits nothing");
    let request = ListToolAssignmentsRequest {
        parent: new.name,
        ..Default::default()
    };
    let listed = admin
        .assignments()
        .list_tool_assignments(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.tool_assignments, []);
    let mut left: Vec<String> = made.tool_assignments.into_iter().map(|one| one.uid).collect();
    let removed = async {
        while !left.is_empty() {
            let (_, changes) = watcher.acked_changes().await;
            let gone = removals(&changes);
            left.retain(|uid| !gone.contains(&(ObjectKind::ToolAssignment, uid)));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), removed)
        .await
        .expect("the assignments of a deleted gateway are deleted after it");
}
