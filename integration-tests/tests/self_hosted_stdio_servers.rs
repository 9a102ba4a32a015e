//! Stdio servers from npm and PyPI, run by the orchestrator.
//!
//! Tools: node, python

use contracts::{orchestrator as o, registry as r};
use integration_tests::{
    Stack,
    caller::Caller,
    process::{ProcessInfo, descendants, no_process_with},
    tools::{Tool, npm_command, own, python_command, python_folders},
    wait::eventually,
    walk,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

fn npm(command: &str, arguments: &[&str]) -> r::Entry {
    let script = npm_command(command).to_string_lossy().into_owned();
    let mut all = vec![script.as_str()];
    all.extend(arguments);
    walk::stdio(&Tool::Node.path().to_string_lossy(), &all)
}

#[tokio::test(flavor = "multi_thread")]
async fn filesystem_reads_a_real_file() {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let root = folder.path().canonicalize().expect("it exists");
    // A server can see files outside its own folder only if the operator allows it.
    let shared = root.to_string_lossy().into_owned();
    let stack = Stack::builder().flag("--server-read", shared).start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    std::fs::write(root.join("note.txt"), "written by nobody here").expect("it can be written");
    // The root is an install field, after the fixed arguments.
    let mut entry = npm("mcp-server-filesystem", &[]);
    entry.install_fields.push(r::InstallField {
        key: "root".to_owned(),
        r#type: r::InstallFieldType::String.into(),
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        target: Some(r::install_field::Target::Argument(r::ArgumentTarget::default())),
        ..r::InstallField::default()
    });
    admin.publish("files", entry).await;
    let root = root.to_string_lossy().into_owned();
    let installation = alice
        .create_installation("files", None, &[("root", &root)])
        .await
        .expect("she may install");
    alice.until_ready(&installation.name).await;
    admin.gateway("team").await;
    admin.assign("team", "files", "read_text_file").await;
    let client = stack.mcp("team", &alice).await;
    let text = client
        .call_text("files__read_text_file", json!({"path": format!("{root}/note.txt")}))
        .await;
    assert!(text.contains("written by nobody here"), "{text}");
    // The server's own limits apply: it reads nothing outside its root.
    let outside = client
        .call("files__read_text_file", json!({"path": "/etc/passwd"}))
        .await;
    assert_eq!(outside["result"]["isError"], json!(true), "{outside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_notes_per_installation() {
    let stack = Stack::start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let mut entry = npm("mcp-server-memory", &[]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
        server
            .environment
            .insert("MEMORY_FILE_PATH".to_owned(), "notes.json".to_owned());
    }
    // Each installation sets the file for its notes.
    entry.install_fields.push(r::InstallField {
        key: "file".to_owned(),
        r#type: r::InstallFieldType::String.into(),
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        target: Some(r::install_field::Target::EnvironmentVariable(
            r::EnvironmentVariableTarget {
                name: "MEMORY_FILE_PATH".to_owned(),
            },
        )),
        ..r::InstallField::default()
    });
    if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
        server.environment.clear();
    }
    admin.publish("memory", entry).await;
    admin.gateway("team").await;
    for who in [&alice, &bob] {
        // Both use the same path, but each sees its own file.
        let installation = who
            .create_installation("memory", None, &[("file", "/tmp/notes.jsonl")])
            .await
            .expect("they may install");
        who.until_ready(&installation.name).await;
    }
    for tool in ["create_entities", "read_graph"] {
        admin.assign("team", "memory", tool).await;
    }
    let note = json!({"entities": [{"name": "Saturn", "entityType": "planet", "observations": ["has rings"]}]});
    let hers = stack.mcp("team", &alice).await;
    hers.call_text("memory__create_entities", note).await;
    assert!(hers.call_text("memory__read_graph", json!({})).await.contains("Saturn"));
    let his = stack.mcp("team", &bob).await;
    assert!(!his.call_text("memory__read_graph", json!({})).await.contains("Saturn"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_called_restarted_and_deleted() {
    let mut stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let command = python_command("mcp-server-time").to_string_lossy().into_owned();
    admin
        .publish("time", walk::stdio(&command, &["--local-timezone", "Europe/Lisbon"]))
        .await;
    let installation = alice.install("time", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "time", "get_current_time").await;
    let client = stack.mcp("team", &alice).await;
    let ask = json!({"timezone": "Europe/Lisbon"});
    assert!(
        client
            .call_text("time__get_current_time", ask.clone())
            .await
            .contains("Europe/Lisbon")
    );

    let runtime = format!("{}/runtime", installation.name);
    let before = alice
        .runtimes()
        .get_runtime(o::GetRuntimeRequest { name: runtime.clone() })
        .await
        .expect("hers");
    assert_eq!(before.get_ref().state(), o::RuntimeState::Running);
    let request = o::RestartRuntimeRequest {
        name: runtime.clone(),
        ..Default::default()
    };
    alice.runtimes().restart_runtime(request).await.expect("hers");
    let after = eventually("the restart has an outcome", async || {
        let request = o::GetRuntimeRequest { name: runtime.clone() };
        let runtime = alice.runtimes().get_runtime(request).await.expect("hers").into_inner();
        (runtime.observed_restart_id == runtime.restart_id).then_some(runtime)
    })
    .await;
    assert_eq!(after.state(), o::RuntimeState::Running);
    assert_ne!(before.into_inner().start_time, after.start_time);
    // The client's session continues.
    assert!(
        client
            .call_text("time__get_current_time", ask)
            .await
            .contains("Europe/Lisbon")
    );

    let servers = |pid| {
        descendants(pid)
            .into_iter()
            .filter(|process| process.arguments.contains("mcp-server-time"))
            .count()
    };
    assert!(servers(stack.pid()) > 0);
    let request = r::DeleteInstallationRequest {
        name: installation.name,
        etag: String::new(),
    };
    alice.installations().delete_installation(request).await.expect("hers");
    let pid = stack.pid();
    integration_tests::eventually("the deleted server ends", || async {
        (servers(pid) == 0).then_some(())
    })
    .await;
    assert!(stack.stop().await.success());
}

/// A gateway `team` with a server of `growing_server.mjs`, and an admin's installation of it.
async fn growing() -> (Stack, Caller, r::Installation) {
    let modules = Tool::NodeModules.path();
    let shared = format!("{},{}", modules.display(), own("node").display());
    let stack = Stack::builder().flag("--server-read", shared).start().await;
    let admin = stack.admin();
    let script = own("node/growing_server.mjs").to_string_lossy().into_owned();
    let sdk = modules.join("@modelcontextprotocol/sdk").to_string_lossy().into_owned();
    admin
        .publish(
            "growing",
            walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, &sdk]),
        )
        .await;
    let installation = admin.install("growing", None, &[]).await;
    admin.gateway("team").await;
    admin
        .create_assignment("gateways/team", walk::all_tools("growing"), false)
        .await
        .expect("an admin may");
    (stack, admin, installation)
}

/// Calls in progress complete, and calls during the restart go to the new server.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_call() {
    let (stack, admin, installation) = growing().await;
    let restart = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let request = o::RestartRuntimeRequest {
            name: format!("{}/runtime", installation.name),
            ..Default::default()
        };
        admin.runtimes().restart_runtime(request).await.expect("hers")
    };
    let calls = (0..30_u64).map(|number| {
        let (stack, admin) = (&stack, &admin);
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(50 * number)).await;
            let client = stack.mcp("team", admin).await;
            client.call_text("growing__wait", json!({})).await
        }
    });
    let (answers, _) = tokio::join!(futures::future::join_all(calls), restart);
    assert_eq!(answers, vec!["waited"; 30]);
}

/// A bridge that is killed ends its server during a call. The caller is told of that, and later calls go to the server that is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runtime_is_reported_as_such() {
    let (stack, admin, installation) = growing().await;
    let client = stack.mcp("team", &admin).await;
    let end = async {
        let request = o::StreamRuntimeLogsRequest {
            name: format!("{}/runtime", installation.name),
            follow: true,
            ..Default::default()
        };
        let lines = admin.runtimes().stream_runtime_logs(request).await;
        let mut lines = lines.expect("hers").into_inner();
        while lines
            .message()
            .await
            .expect("it follows")
            .expect("the call arrives")
            .line
            != "hanging"
        {}
        let serves = |process: &ProcessInfo| process.arguments.contains("growing_server.mjs");
        let bridge = descendants(stack.pid())
            .into_iter()
            .find(|process| process.parent == stack.pid() && descendants(process.pid).iter().any(serves));
        let bridge = bridge.expect("a bridge runs the server");
        kill(Pid::from_raw(bridge.pid), Signal::SIGKILL).expect("the bridge runs");
    };
    let (answer, ()) = tokio::join!(client.call("growing__hang", json!({})), end);
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("ended during the call, and is started again"), "{answer}");
    assert_eq!(result["structuredContent"]["error"], "upstream_unreachable", "{answer}");
    eventually("the server is started again", || async {
        let answer = client.call("growing__wait", json!({})).await;
        (answer["result"]["content"][0]["text"] == "waited").then_some(())
    })
    .await;
}

/// If a server's list of tools changes while nobody calls it, clients with an open stream are notified.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_of_tools_reaches_clients() {
    let (stack, admin, _) = growing().await;
    let client = stack.mcp("team", &admin).await;
    let names = ["growing__grow", "growing__hang", "growing__wait"];
    assert_eq!(client.tool_names().await, names);
    let mut stream = client.open_stream().await;
    client.call_text("growing__grow", json!({})).await;
    let told = async {
        let mut text = String::new();
        while !text.contains("notifications/tools/list_changed") {
            let chunk = stream
                .chunk()
                .await
                .expect("the stream stays open")
                .expect("the stream stays open");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told)
        .await
        .expect("the client is notified of the change");
    assert_eq!(
        client.tool_names().await,
        ["growing__grow", "growing__grown", "growing__hang", "growing__wait"]
    );
    assert_eq!(client.call_text("growing__grown", json!({})).await, "here");
}

/// Everything that a server has started ends with Chandlery, however Chandlery ends.
#[tokio::test(flavor = "multi_thread")]
async fn grandchildren_do_not_outlive_a_kill() {
    let time = python_command("mcp-server-time").to_string_lossy().into_owned();
    let mut stack = Stack::builder().flag("--server-read", python_folders()).start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let mark = format!("chandlery-journey-{}", uuid::Uuid::new_v4());
    // The shell starts a grandchild in its own session, as npx and uvx may, and then serves.
    let script = format!("setsid sleep 600 & exec \"{time}\"");
    let mut entry = walk::stdio("/bin/sh", &["-c", &script]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
        server
            .environment
            .insert("CHANDLERY_JOURNEY_MARK".to_owned(), mark.clone());
    }
    admin.publish("time", entry).await;
    alice.install("time", None, &[]).await;
    stack.kill().await;
    no_process_with(&mark).await;
}

/// If servers reach the network only through a proxy, an operator can configure it once for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sets_a_variable_for_all_servers() {
    let stack = Stack::builder()
        .flag("--server-environment", "HTTPS_PROXY")
        .variable("HTTPS_PROXY", "http://proxy.example:3128")
        .variable("NO_PROXY", "internal.example")
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.publish("tools", npm("mcp-server-everything", &["stdio"])).await;
    alice.install("tools", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "tools", "get-env").await;
    let client = stack.mcp("team", &alice).await;
    let environment = client.call_text("tools__get-env", json!({})).await;
    assert!(environment.contains("http://proxy.example:3128"), "{environment}");
    assert!(!environment.contains("internal.example"), "{environment}");
}
