//! A server that verifies the organization's tokens itself gets the caller's own token: only where the entry says so, only of the issuer and
//! audience that it names, and never a gateway token.

use contracts::registry::{self as r, entry::CredentialModel};
use integration_tests::{
    Caller, Stack, caller::reason, keycloak::claims, upstream::recording::RecordingUpstream, walk,
};
use serde_json::json;
use tonic::Code;

async fn publish(admin: &Caller, upstream: &RecordingUpstream, id: &str, issuer: &str, audience: &str) {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_gets_the_callers_token_and_no_other() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let own = claims(alice.token());
    let issuer = own["iss"].as_str().expect("a text").to_owned();
    let audience = own["aud"]
        .as_str()
        .or(own["aud"][0].as_str())
        .expect("a text")
        .to_owned();
    publish(&admin, &upstream, "own", &issuer, &audience).await;
    publish(
        &admin,
        &upstream,
        "other-issuer",
        "https://login.example.com",
        &audience,
    )
    .await;
    publish(
        &admin,
        &upstream,
        "other-audience",
        &issuer,
        "https://other.example.com",
    )
    .await;
    admin.gateway("team").await;
    for person in [&alice, &bob] {
        person.install_and_discover("own").await;
    }
    admin.assign("team", "own", "echo").await;
    for person in [&alice, &bob] {
        let client = stack.mcp("team", person).await;
        assert_eq!(client.call_text("own__echo", json!({"text": "x"})).await, "x");
        let sent = upstream.last_call().values("authorization").join(",");
        assert_eq!(sent, format!("Bearer {}", person.token()));
    }

    // A gateway token is no token of the identity provider.
    let token = alice.gateway_token().await;
    let client = stack.mcp("team", &stack.caller(Some(token))).await;
    let answer = client.call("own__echo", json!({"text": "x"})).await;
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "caller_token_required",
        "{answer}"
    );

    upstream.forget();
    for entry in ["other-issuer", "other-audience"] {
        let status = alice.install_and_be_refused(entry).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "CALLER_TOKEN_REQUIRED"),
            "{status:?}"
        );
    }
    let all = upstream.requests();
    let leaked = all
        .iter()
        .any(|request| request.values("authorization").join("").contains(alice.token()));
    assert!(!leaked, "a token for another server was passed on: {all:?}");
}
