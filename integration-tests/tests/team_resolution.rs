//! Which installation serves a call: the caller's own, otherwise a team's; deterministic, and explained step by step.

use contracts::{gateway as g, registry as r};
use integration_tests::{Caller, Stack, caller::refused, upstream::recording::RecordingUpstream, walk};
use serde_json::json;
use tonic::Code;

/// The `iss` of the development issuer.
const ISSUER: &str = "http://chandlery.localhost/dev";

async fn explain(who: &Caller, user: &str) -> g::ExplainResolutionResponse {
    let request = g::ExplainResolutionRequest {
        parent: "gateways/team".to_owned(),
        exposed_name: "api__echo".to_owned(),
        user: user.to_owned(),
    };
    who.tools()
        .explain_resolution(request)
        .await
        .expect("they may ask")
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn own_then_shared_team_then_oldest_team_then_nobody() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let admin = stack.admin();
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    for team in ["red", "green", "blue"] {
        admin.team(team, vec![walk::group(ISSUER, team)]).await;
    }
    let alice = stack.member_of("alice", &["red", "green", "blue"]);
    let bob = stack.member("bob");
    assert_eq!(
        alice
            .me()
            .await
            .teams
            .into_iter()
            .filter(|team| team != "teams/everyone")
            .collect::<std::collections::BTreeSet<_>>(),
        ["teams/red", "teams/green", "teams/blue"].map(str::to_owned).into()
    );
    admin.gateway_of_all("team").await;
    let mut made = std::collections::HashMap::new();
    for team in ["red", "green"] {
        let installation = alice
            .install(
                "api",
                Some(&format!("teams/{team}")),
                &[("key", &format!("key-of-{team}"))],
            )
            .await;
        made.insert(team, installation.name);
    }
    admin.assign("team", "api", "echo").await;
    let call = async |who: &Caller| {
        stack
            .mcp("team", who)
            .await
            .call_text("api__echo", json!({"text": "x"}))
            .await;
        upstream.last_call().values("authorization").join(",")
    };
    // The installation of the oldest team.
    assert_eq!(call(&alice).await, "Bearer key-of-red");
    let why = explain(&alice, "").await;
    assert_eq!(why.installation, made["red"]);
    assert_eq!(
        why.steps.first().map(g::ResolutionStep::rule),
        Some(g::ResolutionRule::Personal),
        "{why:?}"
    );
    assert_eq!(
        why.steps.first().map(g::ResolutionStep::outcome),
        Some(g::ResolutionOutcome::None),
        "{why:?}"
    );
    assert!(
        why.steps
            .iter()
            .any(|step| step.outcome() == g::ResolutionOutcome::NotReached && step.owner == "teams/green"),
        "{why:?}"
    );
    // The installation of the team with which the gateway is shared.
    let teams = r::visibility::Audience::Teams(r::TeamsAudience {
        teams: vec!["teams/green".to_owned()],
    });
    let shared = r::Gateway {
        name: "gateways/team".to_owned(),
        visibility: Some(r::Visibility { audience: Some(teams) }),
        ..r::Gateway::default()
    };
    let request = r::UpdateGatewayRequest {
        gateway: Some(shared),
        update_mask: Some(walk::mask(&["visibility"])),
    };
    admin.gateways().update_gateway(request).await.expect("an admin may");
    assert_eq!(call(&alice).await, "Bearer key-of-green");
    // Her own installation comes first, unless it was never ready.
    let own = alice.create_installation("api", None, &[]).await.expect("hers");
    assert_eq!(call(&alice).await, "Bearer key-of-green");
    let why = explain(&alice, "").await;
    assert_eq!(
        why.steps[0].outcome(),
        g::ResolutionOutcome::SkippedNeverReady,
        "{why:?}"
    );
    alice
        .put_secrets(&own.name, &[("key", "key-of-alice")])
        .await
        .expect("hers");
    alice.until_ready(&own.name).await;
    assert_eq!(call(&alice).await, "Bearer key-of-alice");
    // If her own installation is broken, it is still selected: a call never switches to another account.
    upstream.require("authorization", &["Bearer key-of-red", "Bearer key-of-green"]);
    let answer = stack
        .mcp("team", &alice)
        .await
        .call("api__echo", json!({"text": "x"}))
        .await;
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "credential_expired",
        "{answer}"
    );
    assert_eq!(explain(&alice, "").await.installation, own.name);
    // Users in none of the teams do not see this gateway.
    let request = g::ListToolsRequest {
        parent: "gateways/team".to_owned(),
        ..Default::default()
    };
    refused(
        bob.tools().list_tools(request).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    let asked = g::ExplainResolutionRequest {
        parent: "gateways/team".to_owned(),
        exposed_name: "api__echo".to_owned(),
        user: alice.me().await.name,
    };
    let answer = bob
        .tools()
        .explain_resolution(asked)
        .await
        .expect_err("only admins ask for others");
    assert!(
        [Code::NotFound, Code::PermissionDenied].contains(&answer.code()),
        "{answer:?}"
    );
    // An admin who asks does not know the groups in another user's token, but does know individual memberships.
    let request = r::AddTeamMemberRequest {
        team: "teams/green".to_owned(),
        member: Some(r::add_team_member_request::Member::User(alice.me().await.name)),
    };
    admin.teams().add_team_member(request).await.expect("an admin may");
    let why = explain(&admin, &alice.me().await.name).await;
    assert_eq!(why.installation, own.name, "{why:?}");
}

/// Pinning an assignment to one's own account shares it, so only its owner may do so, and must confirm.
#[tokio::test(flavor = "multi_thread")]
async fn pinning_requires_the_owners_confirmation() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, bob) = (stack.admin(), stack.member("bob"));
    let alice = stack.caller(Some(stack.token("alice@example.com", &[], true)));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let hers = alice.install("api", None, &[("key", "alice-key")]).await;
    admin.gateway("team").await;
    let pinned = r::ToolAssignment {
        binding: Some(r::tool_assignment::Binding::PinnedInstallation(hers.name)),
        ..walk::assignment("api", "echo")
    };
    let others = admin
        .create_assignment("gateways/team", pinned.clone(), true)
        .await
        .expect_err("it is not the admin's");
    assert!(
        [Code::PermissionDenied, Code::NotFound].contains(&others.code()),
        "{others:?}"
    );
    let unconfirmed = alice.create_assignment("gateways/team", pinned.clone(), false).await;
    refused(unconfirmed, Code::FailedPrecondition, "SHARED_ACCOUNT_NOT_CONFIRMED");
    alice
        .create_assignment("gateways/team", pinned, true)
        .await
        .expect("she confirms");
    stack
        .mcp("team", &bob)
        .await
        .call_text("api__echo", json!({"text": "x"}))
        .await;
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alice-key"]);
    let why = explain(&bob, "").await;
    assert_eq!(why.steps[0].rule(), g::ResolutionRule::Pinned, "{why:?}");
}

/// An agent is a consumer like a gateway, with its own endpoint. A team's token uses the team's installation.
#[tokio::test(flavor = "multi_thread")]
async fn agents_and_team_tokens() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member_of("alice", &["red"]));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    admin.team("red", vec![walk::group(ISSUER, "red")]).await;
    alice.install("api", Some("teams/red"), &[("key", "key-of-red")]).await;
    alice.install("api", None, &[("key", "key-of-alice")]).await;
    let request = r::CreateAgentRequest {
        agent_id: "bot".to_owned(),
        agent: Some(r::Agent::default()),
        request_id: walk::request_id(),
    };
    admin.agents().create_agent(request).await.expect("an admin may");
    admin
        .create_assignment("agents/bot", walk::assignment("api", "echo"), false)
        .await
        .expect("an admin may");
    let token = r::GatewayToken {
        display_name: "build server".to_owned(),
        subject: Some(r::gateway_token::Subject::Team("teams/red".to_owned())),
        ..r::GatewayToken::default()
    };
    let request = r::CreateGatewayTokenRequest {
        gateway_token: Some(token),
        request_id: walk::request_id(),
    };
    let made = alice
        .gateway_tokens()
        .create_gateway_token(request)
        .await
        .expect("her team")
        .into_inner();
    for (token, expected) in [
        (made.token.as_str(), "Bearer key-of-red"),
        (alice.token(), "Bearer key-of-alice"),
    ] {
        let client =
            integration_tests::McpClient::connect(&stack.url("/agents/bot/mcp"), Some(token), Default::default())
                .await
                .expect("the endpoint of the agent accepts it");
        assert_eq!(client.tool_names().await, ["api__echo"]);
        client.call_text("api__echo", json!({"text": "x"})).await;
        assert_eq!(upstream.last_call().values("authorization"), [expected]);
    }
}
