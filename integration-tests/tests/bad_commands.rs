//! Commands that do not exist, exit immediately, write garbage, never respond, or ignore SIGTERM.
//!
//! Tools: python

use contracts::{
    orchestrator::{self as o, RuntimeState},
    registry::{self as r, InstallationState},
};
use integration_tests::{
    Caller, Stack, eventually,
    process::no_process_with,
    tools::{python_command, python_folders},
    wait::eventually_within,
    walk,
};
use serde_json::json;

async fn runtime(who: &Caller, installation: &str) -> o::Runtime {
    let request = o::GetRuntimeRequest {
        name: format!("{installation}/runtime"),
    };
    who.runtimes()
        .get_runtime(request)
        .await
        .unwrap_or_else(|status| panic!("{installation}: {status:?}"))
        .into_inner()
}

async fn working_server(stack: &Stack, admin: &Caller, alice: &Caller) -> integration_tests::McpClient {
    let time = python_command("mcp-server-time").to_string_lossy().into_owned();
    admin.publish("time", walk::stdio(&time, &[])).await;
    alice.install("time", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "time", "get_current_time").await;
    stack.mcp("team", alice).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_and_affects_no_other_server() {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let client = working_server(&stack, &admin, &alice).await;
    for (id, command, arguments, hint) in [
        (
            "missing",
            "no-such-command-anywhere",
            &[][..],
            "no-such-command-anywhere",
        ),
        ("missing-path", "/no/such/path", &[], "/no/such/path"),
        (
            "ends",
            "/bin/sh",
            &["-c", "echo the key is wrong >&2; exit 3"],
            "the key is wrong",
        ),
        (
            "garbage",
            "/bin/sh",
            &["-c", "while read line; do echo 'Welcome to the server!'; done"],
            "",
        ),
        (
            "binary",
            "/bin/sh",
            &["-c", "head -c 100000 /dev/urandom; cat >/dev/null"],
            "",
        ),
    ] {
        admin.publish(id, walk::stdio(command, arguments)).await;
        let made = alice.create_installation(id, None, &[]).await.expect("she may install");
        let failed = eventually_within(
            std::time::Duration::from_secs(60),
            &format!("{id} has failed"),
            || async {
                let runtime = runtime(&alice, &made.name).await;
                (runtime.state() == RuntimeState::Failed).then_some(runtime)
            },
        )
        .await;
        assert!(
            !failed.reason.is_empty() && failed.message.contains(hint),
            "{id}: {failed:?}"
        );
        let installation = alice.until_state(&made.name, InstallationState::Failed).await;
        let condition = installation
            .conditions
            .iter()
            .find(|condition| condition.r#type() == r::ConditionType::RuntimeReady)
            .unwrap_or_else(|| panic!("{id}: {installation:?}"));
        assert_eq!(condition.reason, failed.reason, "{id}");
        assert!(
            client
                .call_text("time__get_current_time", json!({"timezone": "UTC"}))
                .await
                .contains("UTC"),
            "{id}"
        );
    }
}

/// A server that never responds does not delay others, and one that ignores SIGTERM is killed.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_never_respond_or_ignore_sigterm() {
    let mut stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let mark = format!("chandlery-journey-{}", uuid::Uuid::new_v4());
    let script = "trap '' TERM INT HUP; while :; do sleep 1; done";
    let mut entry = walk::stdio("/bin/sh", &["-c", script]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
        server
            .environment
            .insert("CHANDLERY_JOURNEY_MARK".to_owned(), mark.clone());
    }
    admin.publish("stubborn", entry).await;
    let made = alice
        .create_installation("stubborn", None, &[])
        .await
        .expect("she may install");
    eventually("it runs", || async {
        integration_tests::process::processes()
            .iter()
            .any(|process| process.environment.contains(&mark))
            .then_some(())
    })
    .await;
    let client = working_server(&stack, &admin, &alice).await;
    assert!(
        client
            .call_text("time__get_current_time", json!({"timezone": "UTC"}))
            .await
            .contains("UTC")
    );
    let state = runtime(&alice, &made.name).await.state();
    assert!(
        matches!(state, RuntimeState::Pending | RuntimeState::Failed),
        "{state:?}"
    );
    let request = r::DeleteInstallationRequest {
        name: made.name,
        etag: String::new(),
    };
    alice.installations().delete_installation(request).await.expect("hers");
    no_process_with(&mark).await;
    // The program also stops while the server ignores SIGTERM.
    let again = alice
        .create_installation("stubborn", None, &[])
        .await
        .expect("she may install");
    eventually("it runs again", || async {
        integration_tests::process::processes()
            .iter()
            .any(|process| process.environment.contains(&mark))
            .then_some(())
    })
    .await;
    assert_ne!(again.uid, "");
    stack.stop().await;
    no_process_with(&mark).await;
}

/// The standard error of a server can be read by those who may manage the installation.
#[tokio::test(flavor = "multi_thread")]
async fn the_standard_error_of_a_server_is_kept() {
    let stack = Stack::builder().flag("--server-read", python_folders()).start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let time = python_command("mcp-server-time");
    let script = format!("echo starting up >&2; exec \"{}\"", time.display());
    admin.publish("time", walk::stdio("/bin/sh", &["-c", &script])).await;
    let made = alice.install("time", None, &[]).await;
    let request = o::StreamRuntimeLogsRequest {
        name: format!("{}/runtime", made.name),
        ..Default::default()
    };
    let mut stream = alice
        .runtimes()
        .stream_runtime_logs(request.clone())
        .await
        .expect("hers")
        .into_inner();
    let mut lines = Vec::new();
    while let Some(line) = stream.message().await.expect("the stream ends well") {
        lines.push(line.line);
    }
    assert!(lines.iter().any(|line| line == "starting up"), "{lines:?}");
    let status = bob.runtimes().stream_runtime_logs(request).await.expect_err("not his");
    assert_eq!(status.code(), tonic::Code::NotFound);
}
