//! A server that verifies the organization's tokens itself gets the caller's own token: only where the entry says so, only of the issuer and
//! audience that it names, and never a gateway token.

use contracts::registry::{self as r, entry::CredentialModel};
use integration_tests::{Stack, caller::refused, keycloak::claims, upstream::recording::RecordingUpstream, walk};
use serde_json::json;
use tonic::Code;

async fn publish(stack: &Stack, upstream: &RecordingUpstream, id: &str, issuer: &str, audience: &str) {
    let admin = stack.admin();
    let model = r::JwtPassthroughCredential {
        issuer: issuer.to_owned(),
        audiences: vec![audience.to_owned()],
        ..r::JwtPassthroughCredential::default()
    };
    let entry = r::Entry {
        credential_model: Some(CredentialModel::JwtPassthrough(model)),
        ..walk::remote(&upstream.url())
    };
    admin.publish(id, entry).await;
    admin
        .create_assignment("team", walk::assignment(id, "echo"))
        .await
        .expect("an admin may");
}

fn call(tool: &str) -> contracts::gateway::CallToolRequest {
    contracts::gateway::CallToolRequest {
        parent: "gateways/team".to_owned(),
        exposed_name: tool.to_owned(),
        arguments_json: r#"{"text":"x"}"#.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_gets_the_callers_token_and_no_other() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (alice, bob) = (stack.member("alice"), stack.member("bob"));
    let own = claims(alice.token());
    let issuer = own["iss"].as_str().expect("a text").to_owned();
    let audience = own["aud"]
        .as_str()
        .or(own["aud"][0].as_str())
        .expect("a text")
        .to_owned();
    stack.admin().gateway("team").await;
    publish(&stack, &upstream, "own", &issuer, &audience).await;
    publish(
        &stack,
        &upstream,
        "other-issuer",
        "https://login.example.com",
        &audience,
    )
    .await;
    publish(
        &stack,
        &upstream,
        "other-audience",
        &issuer,
        "https://other.example.com",
    )
    .await;
    for person in [&alice, &bob] {
        for entry in ["own", "other-issuer", "other-audience"] {
            person
                .create_installation(entry, None, &[])
                .await
                .expect("a member may");
        }
    }
    for person in [&alice, &bob] {
        let client = stack.mcp("team", person).await;
        assert_eq!(client.call_text("own__echo", json!({"text": "x"})).await, "x");
        let sent = upstream.last_call().values("authorization").join(",");
        assert_eq!(sent, format!("Bearer {}", person.token()));
    }

    upstream.forget();
    for tool in ["other-issuer__echo", "other-audience__echo"] {
        let answer = alice.tools().call_tool(call(tool)).await;
        refused(answer, Code::FailedPrecondition, "CALLER_TOKEN_REQUIRED");
    }
    let all = upstream.requests();
    let leaked = all
        .iter()
        .any(|request| request.values("authorization").join("").contains(alice.token()));
    assert!(!leaked, "a token for another server was passed on: {all:?}");
}
