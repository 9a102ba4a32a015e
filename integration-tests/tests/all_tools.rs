//! An admin assigns all present and future tools of an entry to a gateway, or many tools in one call.

use contracts::{gateway as g, registry as r};
use integration_tests::{
    Caller, McpClient, Stack, caller::refused, eventually, upstream::recording::RecordingUpstream, walk,
};
use serde_json::json;
use tonic::Code;

/// Discovers the tools of an installation again.
async fn discover(who: &Caller, installation: &str) {
    let request = g::DiscoverToolsRequest {
        installation: installation.to_owned(),
    };
    who.tools().discover_tools(request).await.expect("it is theirs");
}

/// Waits until these tools are listed. The gateway receives its own report through the watch.
async fn until_listed(client: &McpClient, tools: &[&str]) {
    eventually(&format!("{tools:?} are listed"), || async {
        (client.tool_names().await == tools).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_tools_of_the_entry_appear() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    // A team installation of everybody, so that its tools are those of the entry. The other entry's tools must not
    // appear.
    let mut installation = String::new();
    for entry in ["other", "api"] {
        admin.publish(entry, walk::remote(&upstream.url())).await;
        installation = admin.install(entry, Some("teams/everyone"), &[]).await.name;
    }
    let gateway = admin.gateway("team").await;
    assert_eq!(gateway.assignment_mode(), r::AssignmentMode::Manual);
    let assignment = admin
        .create_assignment("gateways/team", walk::all_tools("api"), false)
        .await
        .expect("an admin may");
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.tool_names().await, ["api__echo", "api__headers"]);
    assert_eq!(client.call_text("api__echo", json!({"text": "x"})).await, "x");

    upstream.set_tools(&["echo", "headers", "search"]);
    discover(&admin, &installation).await;
    until_listed(&client, &["api__echo", "api__headers", "api__search"]).await;
    assert_eq!(client.call_text("api__search", json!({"text": "found"})).await, "found");
    // A tool that the server no longer has disappears.
    upstream.set_tools(&["echo"]);
    discover(&admin, &installation).await;
    until_listed(&client, &["api__echo"]).await;

    let request = r::DeleteToolAssignmentRequest {
        name: assignment.name,
        etag: String::new(),
    };
    admin
        .assignments()
        .delete_tool_assignment(request)
        .await
        .expect("an admin may");
    assert!(client.tool_names().await.is_empty());
}

/// What one person's account has does not become everybody's, but is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn later_tools_of_a_personal_installation_appear_to_its_owner() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    admin.publish("api", walk::remote(&upstream.url())).await;
    let hers = alice.install("api", None, &[]).await.name;
    admin.gateway("team").await;
    let assigned = admin.create_assignment("gateways/team", walk::all_tools("api"), false);
    assigned.await.expect("an admin may");
    let client = stack.mcp("team", &alice).await;
    until_listed(&client, &["api__echo", "api__headers"]).await;

    upstream.set_tools(&["echo", "headers", "search"]);
    discover(&alice, &hers).await;
    until_listed(&client, &["api__echo", "api__headers", "api__search"]).await;
    assert_eq!(client.call_text("api__search", json!({"text": "found"})).await, "found");
    let others = stack.mcp("team", &bob).await;
    assert_eq!(others.tool_names().await, ["api__echo", "api__headers"]);
    // Once his own server has listed it, it is his, too.
    bob.install("api", None, &[]).await;
    until_listed(&others, &["api__echo", "api__headers", "api__search"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_assigns_all_tools_or_none() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    for entry in ["api", "other"] {
        admin.publish(entry, walk::remote(&upstream.url())).await;
        alice.install(entry, None, &[]).await;
    }
    admin.gateway("team").await;
    let batch = |assignments: Vec<r::ToolAssignment>| r::BatchCreateToolAssignmentsRequest {
        parent: "gateways/team".to_owned(),
        requests: assignments
            .into_iter()
            .map(|assignment| r::CreateToolAssignmentRequest {
                tool_assignment: Some(assignment),
                ..r::CreateToolAssignmentRequest::default()
            })
            .collect(),
        request_id: walk::request_id(),
    };
    let client = stack.mcp("team", &alice).await;
    let one_unknown = batch(vec![
        walk::assignment("api", "echo"),
        walk::assignment("api", "nothing"),
    ]);
    refused(
        admin.assignments().batch_create_tool_assignments(one_unknown).await,
        Code::FailedPrecondition,
        "TOOL_UNKNOWN",
    );
    assert!(client.tool_names().await.is_empty(), "none of them was made");

    let made = admin
        .assignments()
        .batch_create_tool_assignments(batch(vec![walk::all_tools("api"), walk::assignment("other", "echo")]))
        .await
        .expect("an admin may")
        .into_inner()
        .tool_assignments;
    assert_eq!(client.tool_names().await, ["api__echo", "api__headers", "other__echo"]);
    let request = r::BatchDeleteToolAssignmentsRequest {
        parent: "gateways/team".to_owned(),
        names: made.into_iter().map(|assignment| assignment.name).collect(),
    };
    admin
        .assignments()
        .batch_delete_tool_assignments(request)
        .await
        .expect("an admin may");
    assert!(client.tool_names().await.is_empty());
}
