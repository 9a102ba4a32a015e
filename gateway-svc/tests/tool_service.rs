//! `ToolService` as its clients meet it, around a registry, a credential-svc and an upstream that the test decides about.

mod support;

use contracts::{
    gateway::{
        CallToolRequest, CallToolResponse, ListToolsRequest, ResolutionOutcome, ResolutionRule, SearchToolsRequest,
    },
    registry::{EntryRevision, Installation, RemoteServer, entry_revision, installation::Scope},
};
use futures::{FutureExt as _, future::BoxFuture};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use support::{
    World,
    requests::{call, discover, explain, list, search},
};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

fn echo(message: &Value) -> Value {
    json!({"result": {"content": [{"type": "text", "text": message["params"]["arguments"].to_string()}], "new": 1}})
}

fn fails(_: &Value) -> Value {
    json!({"error": {"code": -32042, "message": "not today"}})
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

#[tokio::test]
async fn a_call_goes_to_the_callers_installation_with_its_credential() {
    let world = World::new(echo).await;
    let answer = world
        .tools()
        .call_tool(world.by("alice", call(r#"{"n":12345678901234567890}"#)))
        .await;
    let answer = answer.unwrap().into_inner();
    assert!(
        answer.result_json.contains("12345678901234567890") && answer.result_json.contains("\"new\":1"),
        "{}",
        answer.result_json
    );
    assert!(!answer.is_error);
    let seen = world.seen.lock().unwrap();
    let (message, authorization) = seen
        .iter()
        .find(|(message, _)| message["method"] == "tools/call")
        .unwrap();
    assert_eq!(
        (message["params"]["name"].as_str(), authorization.as_str()),
        (Some("send"), "Bearer secret-of-i-alice")
    );
}

#[tokio::test]
async fn a_caller_without_installation_gets_a_link() {
    let world = World::new(echo).await;
    let refused = world.tools().call_tool(world.by("bob", call(""))).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "CREDENTIAL_REQUIRED")
    );
    let link = "http://127.0.0.1:8080/install/mail?gateway=default";
    assert_eq!(refused.get_details_help().unwrap().links[0].url, link);
    assert_eq!(
        refused.get_details_error_info().unwrap().metadata["entry"],
        "entries/mail"
    );

    let listed = world
        .tools()
        .list_tools(world.by("bob", list()))
        .await
        .unwrap()
        .into_inner();
    let tool = &listed.tools[0];
    assert_eq!(
        (tool.exposed_name.as_str(), tool.connected, tool.install_url.as_str()),
        ("mail__send", false, link)
    );
    assert_eq!(tool.definition_json, r#"{"name":"mail__send","x":1}"#);
    let hers = world
        .tools()
        .list_tools(world.by("alice", list()))
        .await
        .unwrap()
        .into_inner();
    assert!(hers.tools[0].connected && hers.tools[0].install_url.is_empty());
}

#[tokio::test]
async fn a_search_finds_the_tools_that_are_listed() {
    let world = World::new(echo).await;
    let ask = async |who: &str, request| world.tools().search_tools(world.by(who, request)).await;
    for who in ["alice", "bob"] {
        let listed = world
            .tools()
            .list_tools(world.by(who, list()))
            .await
            .unwrap()
            .into_inner();
        for query in ["send mail", "", " "] {
            let found = ask(who, search(query)).await.unwrap().into_inner();
            assert_eq!(found.tools, listed.tools, "{who}: {query}");
            assert_eq!((found.total_size, found.next_page_token.as_str()), (1, ""));
        }
        let found = ask(who, search("weather")).await.unwrap().into_inner();
        assert_eq!((found.tools.len(), found.total_size), (0, 0));
    }
    let long = SearchToolsRequest {
        parent: "x".to_owned(),
        page_size: -1,
        ..search(&"x".repeat(1025))
    };
    let refused = ask("alice", long).await.unwrap_err();
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["parent", "query", "page_size"]);
    let made_up = SearchToolsRequest {
        page_token: "made-up".to_owned(),
        ..search("")
    };
    assert_eq!(reason(&ask("alice", made_up).await.unwrap_err()), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn a_bad_request_is_answered_with_all_violations() {
    let world = World::new(echo).await;
    let bad = CallToolRequest {
        parent: "teams/x".to_owned(),
        exposed_name: "a b".to_owned(),
        arguments_json: "[1]".to_owned(),
    };
    let refused = world.tools().call_tool(world.by("alice", bad)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
    let fields: Vec<_> = refused
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|one| one.field)
        .collect();
    assert_eq!(fields, ["parent", "exposed_name", "arguments_json"]);

    let anonymous = world.tools().list_tools(world.by("", list())).await.unwrap_err();
    assert_eq!(
        (anonymous.code(), reason(&anonymous).as_str()),
        (Code::Unauthenticated, "UNAUTHENTICATED")
    );
    let mut forged = world.by("", list());
    forged
        .metadata_mut()
        .insert("authorization", "Bearer e30.e30.e30".parse().unwrap());
    assert_eq!(
        reason(&world.tools().list_tools(forged).await.unwrap_err()),
        "TOKEN_INVALID"
    );
    let negative = ListToolsRequest {
        page_size: -1,
        ..list()
    };
    let negative = world.tools().list_tools(world.by("alice", negative)).await.unwrap_err();
    assert_eq!(reason(&negative), "INVALID_FIELDS");
    let made_up = ListToolsRequest {
        page_token: "made-up".to_owned(),
        ..list()
    };
    let made_up = world.tools().list_tools(world.by("alice", made_up)).await.unwrap_err();
    assert_eq!(reason(&made_up), "PAGE_TOKEN_INVALID");
    let unknown = CallToolRequest {
        exposed_name: "mail__none".to_owned(),
        ..call("")
    };
    let unknown = world.tools().call_tool(world.by("alice", unknown)).await.unwrap_err();
    assert_eq!(
        (unknown.code(), reason(&unknown).as_str()),
        (Code::NotFound, "RESOURCE_NOT_FOUND")
    );
    let nowhere = ListToolsRequest {
        parent: "agents/nobody".to_owned(),
        ..list()
    };
    assert_eq!(
        world
            .tools()
            .list_tools(world.by("alice", nowhere))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn an_upstreams_error_is_its_own() {
    let world = World::new(fails).await;
    let failed = world
        .tools()
        .call_tool(world.by("alice", call("{}")))
        .await
        .unwrap_err();
    assert_eq!(
        (failed.code(), reason(&failed).as_str()),
        (Code::FailedPrecondition, "UPSTREAM_ERROR")
    );
    let metadata = failed.get_details_error_info().unwrap().metadata;
    assert_eq!(
        (metadata["code"].as_str(), metadata["message"].as_str()),
        ("-32042", "not today")
    );
}

#[tokio::test]
async fn explains_every_step_also_to_admins_only_for_others() {
    let world = World::new(echo).await;
    let hers = world
        .tools()
        .explain_resolution(world.by("alice", explain("")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (hers.installation.as_str(), hers.reason.as_str()),
        ("installations/i-alice", "")
    );
    let first = &hers.steps[0];
    assert_eq!(
        (first.rule(), first.outcome()),
        (ResolutionRule::Personal, ResolutionOutcome::Chosen)
    );
    assert_eq!(first.owner, world.user("alice"));
    let credential = hers.credential.unwrap();
    assert_eq!(
        (credential.model.as_str(), credential.per_caller, credential.ready),
        ("static_credential", false, true)
    );
    let himself = world
        .tools()
        .explain_resolution(world.by("bob", explain(&world.user("bob"))))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (himself.installation.as_str(), himself.reason.as_str()),
        ("", "CREDENTIAL_REQUIRED")
    );
    assert!(!himself.install_url.is_empty());
    let curious = world
        .tools()
        .explain_resolution(world.by("bob", explain(&world.user("alice"))))
        .await
        .unwrap_err();
    assert_eq!(curious.code(), Code::PermissionDenied);
}

/// Until it answers, calls fail at once, and say when to try again.
#[tokio::test]
async fn a_server_that_is_away_is_explained() {
    let world = World::new(echo).await;
    let explained = async || {
        let explained = world.tools().explain_resolution(world.by("alice", explain(""))).await;
        explained.unwrap().into_inner()
    };
    assert_eq!(explained().await.pause, None);
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = entry_revision::Server::Remote(RemoteServer {
        url: format!("http://{address}/mcp"),
        ..RemoteServer::default()
    });
    let moved = EntryRevision {
        number: 2,
        server: Some(server),
        ..world.revision()
    };
    let mut installation = world.installation("i-alice", "alice", true);
    installation.running_entry_revision = 2;
    world
        .change(|objects| {
            objects.put(moved);
            objects.put(installation);
        })
        .await;
    let refused = loop {
        let refused = world.tools().call_tool(world.by("alice", call(""))).await.unwrap_err();
        assert_eq!(reason(&refused), "UPSTREAM_UNREACHABLE");
        if refused.message().contains("in a row") {
            break refused;
        }
        assert!(refused.get_details_retry_info().is_none());
    };
    let wait = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(wait.is_some_and(|wait| (1..=5).contains(&wait.as_secs())), "{wait:?}");
    let explained = explained().await;
    assert_eq!(explained.reason, "UPSTREAM_UNREACHABLE");
    let pause = explained.pause.unwrap();
    let (since, until) = (pause.since_time.unwrap(), pause.retry_time.unwrap());
    assert!(
        pause.failures >= 5 && (since.seconds, since.nanos) < (until.seconds, until.nanos),
        "{pause:?}"
    );
    assert_eq!(pause.detail, "it cannot be reached");
}

/// The list is complete over all pages.
#[tokio::test]
async fn an_installation_that_becomes_usable_is_discovered_and_on_demand() {
    let world = World::new(echo).await;
    let team = Installation {
        scope: Some(Scope::Team("teams/ops".to_owned())),
        ..world.installation("i-ops", "nobody", true)
    };
    world
        .change(|objects| {
            objects.put(world.installation("i-bob", "bob", false));
            objects.put(team);
        })
        .await;
    let reported = |uid: &str| world.reported().contains(&format!("{uid} send,read"));
    world.registry.until(|_| reported("i-bob").then_some(())).await;

    let found = world
        .tools()
        .discover_tools(world.by("alice", discover("installations/i-alice")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.tools, ["read", "send"]);
    assert!(reported("i-alice"));
    let forbidden = world
        .tools()
        .discover_tools(world.by("bob", discover("installations/i-ops")))
        .await
        .unwrap_err();
    assert_eq!(
        (forbidden.code(), reason(&forbidden).as_str()),
        (Code::PermissionDenied, "PERMISSION_DENIED")
    );
    for invisible in ["installations/i-alice", "installations/none"] {
        let nothing = world
            .tools()
            .discover_tools(world.by("bob", discover(invisible)))
            .await
            .unwrap_err();
        assert_eq!(nothing.code(), Code::NotFound, "{invisible}");
    }
    let malformed = world
        .tools()
        .discover_tools(world.by("bob", discover("none")))
        .await
        .unwrap_err();
    assert_eq!(reason(&malformed), "INVALID_FIELDS");
}

/// A call to a server that has ended, while the registry still names its address: for a moment after each restart. Returns once others were
/// answered meanwhile.
async fn waiting(world: &World) -> BoxFuture<'static, Result<Response<CallToolResponse>, Status>> {
    world.self_host("http://127.0.0.1:1/mcp").await;
    let (mut tools, request) = (world.tools(), world.by("alice", call(r#"{"n":1}"#)));
    let mut answer = async move { tools.call_tool(request).await }.boxed();
    let others = async {
        for _ in 0..20 {
            world.tools().list_tools(world.by("alice", list())).await.unwrap();
        }
    };
    tokio::select! {
        early = answer.as_mut() => panic!("the call did not wait: {early:?}"),
        () = others => {}
    }
    answer
}

#[tokio::test]
async fn a_call_waits_for_the_successor_of_a_self_hosted_server() {
    let world = World::new(echo).await;
    let answer = waiting(&world).await;
    world.self_host(&world.url).await;
    assert!(answer.await.unwrap().into_inner().result_json.contains(r#"{\"n\":1}"#));
}

#[tokio::test]
async fn a_call_that_waits_is_told_when_the_gateway_stops() {
    let world = World::new(echo).await;
    let answer = waiting(&world).await;
    world.served.stop();
    let stopping = answer.await.unwrap_err();
    assert_eq!(
        (stopping.code(), reason(&stopping).as_str()),
        (Code::Unavailable, "GATEWAY_STOPPING")
    );
    assert!(stopping.get_details_retry_info().is_some());
}

/// Who shows no good token is refused without a message being read: here none ever comes.
#[tokio::test]
async fn a_stranger_is_refused_before_their_message_is_read() {
    let world = World::new(echo).await;
    for token in ["", "Bearer nonsense", "Bearer cht_nonsense"] {
        let mut request = tonic::Request::new(futures::stream::pending::<CallToolRequest>());
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        let mut client = tonic::client::Grpc::new(world.channel());
        client.ready().await.unwrap();
        let path = "/chandlery.gateway.v1.ToolService/CallTool".parse().unwrap();
        let codec = tonic_prost::ProstCodec::<CallToolRequest, contracts::gateway::CallToolResponse>::default();
        let answer = client.client_streaming(request, path, codec);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(20), answer).await;
        let status = answer.expect("nobody waits for the message").unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token}");
    }
}
