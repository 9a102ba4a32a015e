//! A gateway in automatic mode immediately has every tool of every entry that shares a label with it.

use contracts::registry as r;
use integration_tests::{Stack, upstream::recording::RecordingUpstream, walk};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn label_changes_take_effect_immediately() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let finance = [("department", "finance")];
    let gateway = r::Gateway {
        labels: walk::labels(&[("department", "finance"), ("tier", "gold")]),
        assignment_mode: r::AssignmentMode::Automatic.into(),
        ..r::Gateway::default()
    };
    admin.create_gateway("finance", gateway).await.expect("an admin may");
    for entry in ["ledger", "payroll"] {
        admin.publish(entry, walk::remote(&upstream.url())).await;
        alice.install(entry, None, &[]).await;
    }
    let client = stack.mcp("finance", &alice).await;
    assert!(client.tool_names().await.is_empty());
    let relabel = |entry: &str, pairs: &[(&str, &str)]| r::Entry {
        name: format!("entries/{entry}"),
        labels: walk::labels(pairs),
        ..r::Entry::default()
    };
    // The test never waits: a label change is in force when its call returns.
    admin
        .update_entry(relabel("ledger", &finance), &["labels"])
        .await
        .expect("an admin may");
    assert_eq!(client.tool_names().await, ["ledger__echo", "ledger__headers"]);
    assert_eq!(client.call_text("ledger__echo", json!({"text": "x"})).await, "x");
    admin
        .update_entry(
            relabel("payroll", &[("tier", "gold"), ("department", "people")]),
            &["labels"],
        )
        .await
        .expect("an admin may");
    assert_eq!(client.tool_names().await.len(), 4, "one shared pair is enough");
    // The same key with another value, or the same value under another key, does not match.
    admin
        .update_entry(
            relabel("payroll", &[("tier", "finance"), ("department", "gold")]),
            &["labels"],
        )
        .await
        .expect("an admin may");
    assert_eq!(client.tool_names().await, ["ledger__echo", "ledger__headers"]);
    admin
        .update_entry(relabel("ledger", &[]), &["labels"])
        .await
        .expect("an admin may");
    assert!(client.tool_names().await.is_empty());
    let answer = client.call("ledger__echo", json!({"text": "x"})).await;
    assert!(
        answer["error"].is_object() || answer["result"]["isError"] == true,
        "{answer}"
    );

    // The gateway's own labels select tools, too. Assignments that an admin creates are added.
    admin
        .update_entry(relabel("ledger", &[("department", "people")]), &["labels"])
        .await
        .expect("an admin may");
    let change = r::Gateway {
        name: "gateways/finance".to_owned(),
        labels: walk::labels(&[("department", "people")]),
        ..r::Gateway::default()
    };
    let request = r::UpdateGatewayRequest {
        gateway: Some(change),
        update_mask: Some(walk::mask(&["labels"])),
    };
    admin.gateways().update_gateway(request).await.expect("an admin may");
    assert_eq!(client.tool_names().await, ["ledger__echo", "ledger__headers"]);
    admin.assign("finance", "payroll", "echo").await;
    assert_eq!(
        client.tool_names().await,
        ["ledger__echo", "ledger__headers", "payroll__echo"]
    );
}

/// A client with an open stream is notified when the list changes.
#[tokio::test(flavor = "multi_thread")]
async fn list_changed_is_sent() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.publish("api", walk::remote(&upstream.url())).await;
    alice.install("api", None, &[]).await;
    admin.gateway("team").await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(
        client.initialized["capabilities"]["tools"]["listChanged"], true,
        "{}",
        client.initialized
    );
    let mut stream = client.open_stream().await;
    assert!(stream.status().is_success(), "{}", stream.status());
    admin.assign("team", "api", "echo").await;
    let told = async {
        let mut text = String::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            if text.contains("notifications/tools/list_changed") {
                return true;
            }
        }
        false
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), told).await;
    assert!(told.unwrap_or_default(), "the client is notified within ten seconds");
    assert_eq!(client.tool_names().await, ["api__echo"]);
}
