//! A secret is rotated: after the call that stores it returns, no gateway uses the old one.
//!
//! Tools: node

use contracts::credential as c;
use integration_tests::{
    Stack, eventually,
    tools::{Tool, npm_command},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_call_uses_the_new_secret() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let made = alice.install("api", None, &[("key", "key-0")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    for number in 1..=20 {
        let stored = alice
            .put_secrets(&made.name, &[("key", &format!("key-{number}"))])
            .await
            .expect("hers");
        assert_eq!(stored.credential_generation, number + 1);
        client.call_text("api__echo", json!({"text": "x"})).await;
        assert_eq!(
            upstream.last_call().values("authorization"),
            [format!("Bearer key-{number}")]
        );
    }
}

/// The upstream revokes the secret. A call fails and says where to repair it; afterwards, the same session works.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_secret_is_repaired() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    upstream.require("authorization", &["Bearer old"]);
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let made = alice.install("api", None, &[("key", "old")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    upstream.require("authorization", &["Bearer new"]);
    let answer = client.call("api__echo", json!({"text": "x"})).await;
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "credential_expired",
        "{answer}"
    );
    let url = answer["result"]["structuredContent"]["install_url"]
        .as_str()
        .unwrap_or_default();
    assert!(url.starts_with(&stack.url("/install/api")), "{answer}");
    alice.put_secrets(&made.name, &[("key", "new")]).await.expect("hers");
    assert_eq!(client.call_text("api__echo", json!({"text": "back"})).await, "back");
}

/// A self-hosted server gets the new secret through a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_hosted_server_gets_it_too() {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let (node, script) = (Tool::Node.path(), npm_command("mcp-server-everything"));
    let mut entry = walk::stdio(&node.to_string_lossy(), &[&script.to_string_lossy(), "stdio"]);
    entry
        .install_fields
        .push(walk::environment_secret("key", "JOURNEY_KEY"));
    admin.publish("hosted", entry).await;
    let made = alice.install("hosted", None, &[("key", "first-value")]).await;
    admin.gateway("team").await;
    admin.assign("team", "hosted", "get-env").await;
    let client = stack.mcp("team", &alice).await;
    assert!(
        client
            .call_text("hosted__get-env", json!({}))
            .await
            .contains("first-value")
    );
    alice
        .put_secrets(&made.name, &[("key", "second-value")])
        .await
        .expect("hers");
    eventually("the server runs with the new value", || async {
        let answer = client.call("hosted__get-env", json!({})).await;
        answer["result"]["content"][0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("second-value"))
            .then_some(())
    })
    .await;
    alice.until_ready(&made.name).await;
}

/// After secrets are deleted, the next call returns the install link.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_not_used() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let made = alice.install("api", None, &[("key", "old")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    let request = c::DeleteInstallationCredentialRequest {
        installation: made.name,
    };
    alice
        .credentials()
        .delete_installation_credential(request)
        .await
        .expect("hers");
    upstream.forget();
    let answer = client.call("api__echo", json!({"text": "x"})).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(upstream.calls().is_empty());
}
