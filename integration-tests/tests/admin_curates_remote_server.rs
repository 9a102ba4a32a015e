//! An admin adds npm's server-everything to the catalog. Alice installs it, and its tools are discovered, assigned and
//! called.
//!
//! Tools: node

use integration_tests::{Stack, caller::refused, eventually, upstream::everything::Everything, walk};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn entry_approve_install_discover_assign_call() {
    let (stack, upstream) = tokio::join!(Stack::start(), Everything::start());
    let (admin, alice) = (stack.admin(), stack.member("alice"));

    let draft = admin
        .create_entry("everything", walk::remote(&upstream.url()))
        .await
        .expect("an admin may");
    assert_eq!(draft.lifecycle(), contracts::registry::EntryLifecycle::Draft);
    // A draft cannot be installed, and an entry that was never installed has no tools.
    refused(
        alice.create_installation("everything", None, &[]).await,
        Code::FailedPrecondition,
        "ENTRY_NOT_APPROVED",
    );
    let request = contracts::registry::ApproveEntryRequest {
        name: draft.name,
        etag: draft.etag,
    };
    admin.entries().approve_entry(request).await.expect("an admin approves");
    assert!(alice.entry_tools("everything").await.is_empty());

    let installation = alice.install("everything", None, &[]).await;
    assert!(installation.first_ready_time.is_some());
    let tools = alice.entry_tools("everything").await;
    for tool in ["echo", "get-sum"] {
        assert!(tools.iter().any(|name| name == tool), "{tool} is not among {tools:?}");
    }

    admin.gateway("team").await;
    admin.assign("team", "everything", "echo").await;
    admin.assign("team", "everything", "get-sum").await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.tool_names().await, ["everything__echo", "everything__get-sum"]);
    assert!(
        client
            .call_text("everything__echo", json!({"message": "through the gateway"}))
            .await
            .contains("through the gateway")
    );
    assert!(
        client
            .call_text("everything__get-sum", json!({"a": 40, "b": 2}))
            .await
            .contains("42")
    );
}

/// The definition and the result arrive with all their fields.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_results_arrive_unchanged() {
    let (stack, upstream) = tokio::join!(Stack::start(), Everything::start());
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.publish("everything", walk::remote(&upstream.url())).await;
    alice.install("everything", None, &[]).await;
    admin.gateway("team").await;
    let direct = integration_tests::McpClient::connect(&upstream.url(), None, Default::default())
        .await
        .expect("it is up");
    let mut originals = direct.list_tools().await;
    for tool in &originals {
        admin
            .assign("team", "everything", tool["name"].as_str().expect("a name"))
            .await;
    }
    let client = stack.mcp("team", &alice).await;
    let shown = eventually("all are listed", || async {
        let tools = client.list_tools().await;
        (tools.len() == originals.len()).then_some(tools)
    })
    .await;
    for original in &mut originals {
        let name = format!("everything__{}", original["name"].as_str().expect("a name"));
        original["name"] = json!(name);
        let same = shown
            .iter()
            .find(|tool| tool["name"] == name)
            .unwrap_or_else(|| panic!("{name} is listed"));
        assert_eq!(same, original, "{name}");
    }
    for (tool, arguments) in [
        ("get-structured-content", json!({"location": "Chicago"})),
        (
            "get-annotated-message",
            json!({"messageType": "success", "includeImage": true}),
        ),
        ("get-tiny-image", json!({})),
        ("get-resource-links", json!({"count": 3})),
    ] {
        let through = client.call(&format!("everything__{tool}"), arguments.clone()).await;
        let straight = direct.call(tool, arguments).await;
        assert_eq!(through["result"], straight["result"], "{tool}");
    }
}
