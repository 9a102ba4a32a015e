//! The program is stopped and restarted without losing anything. A second process on the same data is refused.
//!
//! Tools: node, python

use contracts::{gateway::CallToolRequest, registry as r};
use integration_tests::{
    Stack,
    caller::refused,
    eventually,
    relayed::Relayed,
    tools::python_command,
    upstream::{recording::RecordingUpstream, sessions::SessionServer},
    walk,
};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart() {
    let (mut stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let remote = alice.install("api", None, &[("key", "alice-key")]).await;
    admin
        .publish(
            "time",
            walk::stdio(&python_command("mcp-server-time").to_string_lossy(), &[]),
        )
        .await;
    let hosted = alice.install("time", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    admin.assign("team", "time", "get_current_time").await;
    let entries = admin
        .entries()
        .list_entries(r::ListEntriesRequest::default())
        .await
        .expect("an admin may")
        .into_inner();

    assert!(stack.stop().await.success(), "it ends well when asked to");
    stack.start_again().await;
    let (admin, alice) = (
        stack.caller(Some(admin.token().to_owned())),
        stack.caller(Some(alice.token().to_owned())),
    );
    let again = admin
        .entries()
        .list_entries(r::ListEntriesRequest::default())
        .await
        .expect("an admin may")
        .into_inner();
    assert_eq!(entries.entries, again.entries);
    for name in [&remote.name, &hosted.name] {
        alice.until_ready(name).await;
    }
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.tool_names().await, ["api__echo", "time__get_current_time"]);
    assert_eq!(client.call_text("api__echo", json!({"text": "x"})).await, "x");
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alice-key"]);
    client
        .call_text("time__get_current_time", json!({"timezone": "UTC"}))
        .await;
    // The first start's objects were created only once.
    assert_eq!(
        again
            .entries
            .iter()
            .filter(|entry| entry.name == "entries/demo")
            .count(),
        1
    );
}

/// After a kill during its first start, the program does not know that the demo exists; and somebody may have changed
/// the demo since.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_first_start_is_completed() {
    let mut stack = Stack::start().await;
    for demo_is_gone in [false, true] {
        if demo_is_gone {
            let request = r::DeleteEntryRequest {
                name: "entries/demo".to_owned(),
                force: true,
                ..r::DeleteEntryRequest::default()
            };
            stack
                .admin()
                .entries()
                .delete_entry(request)
                .await
                .expect("an admin may");
        }
        assert!(stack.stop().await.success());
        std::fs::remove_file(stack.data_dir().join("seeded")).expect("the first start left a mark");
        stack.start_again().await;
        assert!(stack.data_dir().join("seeded").exists());
        let request = r::GetEntryRequest {
            name: "entries/demo".to_owned(),
        };
        let found = stack.admin().entries().get_entry(request).await;
        assert_eq!(found.is_err(), demo_is_gone);
    }
}

/// Another orchestrator of the registry does not wait until the lease expires.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_releases_the_lease_after_the_servers_have_ended() {
    let mut stack = Stack::start().await;
    let client = stack.mcp("default", &stack.member("alice")).await;
    client.call_text("demo__hello", json!({"name": "Alice"})).await;
    assert!(stack.stop().await.success());
    eventually("the lease is released", || async {
        stack
            .lines()
            .contain("the lease for running servers is released")
            .then_some(())
    })
    .await;
}

/// Whoever waits for an answer gets one, whether the server answers with a stream or not, and the server learns that nobody waits any more.
#[tokio::test(flavor = "multi_thread")]
async fn calls_in_progress_are_answered_when_the_program_stops() {
    let server = SessionServer::start().await;
    let stack = Stack::builder().flag("--drain", "2").start().await;
    let mut gateway = Relayed::with(stack, &server.url).await;
    let client = gateway.stack.mcp("all", &gateway.alice).await;
    let mut standing = client.open_stream().await;
    let mut tools = gateway.alice.tools();
    let over_grpc = tools.call_tool(CallToolRequest {
        parent: "gateways/all".to_owned(),
        exposed_name: "work".to_owned(),
        arguments_json: json!({"how": "hang_stream"}).to_string(),
    });
    let stopped = async {
        eventually("the calls are carried out", || async {
            ((server.carried_out("hang"), server.carried_out("hang_stream")) == (1, 2)).then_some(())
        })
        .await;
        gateway.stack.stop().await
    };
    let (plain, streamed, over_grpc, stopped) = tokio::join!(
        client.call("work", json!({"how": "hang"})),
        client.call("work", json!({"how": "hang_stream"})),
        over_grpc,
        stopped
    );
    assert!(stopped.success(), "it ends well");
    for answer in [plain, streamed] {
        let error = &answer["result"]["structuredContent"]["error"];
        assert_eq!(error, "call_interrupted", "{answer}");
    }
    refused(over_grpc, Code::Aborted, "CALL_INTERRUPTED");
    while standing.chunk().await.expect("it ends well, too").is_some() {}
    eventually("the server is told", || async {
        (server.got("notifications/cancelled").len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() {
    let stack = Stack::start().await;
    let said = stack.second_process().await;
    let expected = format!(
        "chandlery: another chandlery (process {}) serves from {}: stop it, or choose another folder with --data-dir",
        stack.pid(),
        stack.data_dir().display()
    );
    assert_eq!(said, expected);
    // The first process is not affected.
    let client = stack.mcp("default", &stack.member("alice")).await;
    assert!(
        client
            .call_text("demo__hello", json!({"name": "Alice"}))
            .await
            .contains("Hello, Alice")
    );
}

/// Files with secrets are readable only by their owner.
#[tokio::test(flavor = "multi_thread")]
async fn the_data_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let stack = Stack::start().await;
    let mode = std::fs::metadata(stack.data_dir())
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "the data directory is {mode:o}");
}
