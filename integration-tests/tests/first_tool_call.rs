//! A person who has just typed `cargo run` makes a first tool call, with whichever client they have.
//!
//! Tools: node, python, grpcurl

use std::ffi::OsString;

use integration_tests::{
    Stack,
    script::{grpcurl, node, python},
    tools::repository,
    wait::eventually,
};
use serde_json::{Value, json};

/// The demo entry's greeting tool.
const HELLO: &str = "demo__hello";

fn greeting(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text: {result}"))
}

fn listed(tools: &Value) -> bool {
    tools
        .as_array()
        .is_some_and(|tools| tools.iter().any(|tool| tool == HELLO))
}

/// Starts with no data, and waits until the demo's tools are on the gateway `default`.
async fn first_start() -> (Stack, String) {
    let stack = Stack::start().await;
    let alice = stack.member("alice");
    let client = stack.mcp("default", &alice).await;
    eventually("the demo's tools are listed", || async {
        client.tool_names().await.iter().any(|name| name == HELLO).then_some(())
    })
    .await;
    let token = alice.token().to_owned();
    (stack, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_in_both_modes() {
    let (stack, token) = first_start().await;
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let arguments = json!({"name": mode}).to_string();
        let seen = python(
            "mcp_client.py",
            [&stack.mcp_url("default"), &token, mode, HELLO, &arguments],
        )
        .await
        .json();
        assert!(listed(&seen["tools"]), "{mode}: {seen}");
        assert!(
            greeting(&seen["result"]).contains(&format!("Hello, {mode}!")),
            "{mode}: {seen}"
        );
        assert_eq!(seen["revision"], revision, "{mode}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_sdk() {
    let (stack, token) = first_start().await;
    let arguments = json!({"name": "node"}).to_string();
    let seen = node("mcp_client.mjs", [&stack.mcp_url("default"), &token, HELLO, &arguments])
        .await
        .json();
    assert!(listed(&seen["tools"]), "{seen}");
    assert!(greeting(&seen["result"]).contains("Hello, node!"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_by_reflection() {
    let (stack, token) = first_start().await;
    let list = "chandlery.gateway.v1.ToolService/ListTools";
    let seen = grpcurl(stack.grpc(), Some(&token), list, &json!({"parent": "gateways/default"}))
        .await
        .json();
    let tools = seen["tools"].as_array().expect("tools are listed");
    let hello = tools
        .iter()
        .find(|tool| tool["exposedName"] == HELLO)
        .unwrap_or_else(|| panic!("no {HELLO}: {seen}"));
    assert_eq!(hello["connected"], true, "{hello}");
    let call = json!({
        "parent": "gateways/default", "exposed_name": HELLO, "arguments_json": json!({"name": "grpcurl"}).to_string(),
    });
    let method = "chandlery.gateway.v1.ToolService/CallTool";
    let seen = grpcurl(stack.grpc(), Some(&token), method, &call).await.json();
    let result: Value = serde_json::from_str(seen["resultJson"].as_str().expect("a result")).expect("JSON");
    assert!(greeting(&result).contains("Hello, grpcurl!"), "{seen}");
    // A caller without a token is told what to do.
    let refused = grpcurl(stack.grpc(), None, method, &call).await;
    assert!(
        !refused.success && refused.stderr.contains("Unauthenticated"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_python_client() {
    let (stack, token) = first_start().await;
    let mut arguments: Vec<OsString> = vec![repository().join("proto").into()];
    let text = json!({"name": "grpcio"}).to_string();
    arguments.extend([stack.grpc(), &token, "gateways/default", HELLO, &text].map(OsString::from));
    let seen = python("grpc_client.py", arguments).await.json();
    assert!(listed(&seen["tools"]), "{seen}");
    assert!(greeting(&seen["result"]).contains("Hello, grpcio!"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_banner_says_how() {
    let (stack, _) = first_start().await;
    let text = eventually("the banner is printed", || async {
        let text = stack.lines().all().join("\n");
        text.contains("ToolService/CallTool").then_some(text)
    })
    .await;
    for said in [
        stack.mcp_url("default").as_str(),
        stack.grpc(),
        "--user alice@example.com",
        "with the code",
    ] {
        assert!(text.contains(said), "the banner should say {said}:\n{text}");
    }
}
