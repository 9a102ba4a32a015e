//! An approved local server is third-party code. It gets its own folder, and no access to the data of Chandlery or of
//! other servers.
//!
//! Tools: node

use std::{os::unix::process::CommandExt as _, process::Command};

use contracts::{orchestrator as o, registry as r};
use integration_tests::{
    Stack,
    process::{Program, processes},
    stack::binary,
    tools::{Tool, npm_command},
    walk,
};
use serde_json::{Value, json};

/// A server that returns any file it can read: its root folder is `/`.
fn files_of_everything() -> r::Entry {
    let script = npm_command("mcp-server-filesystem").to_string_lossy().into_owned();
    walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, "/"])
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_server_reads_no_key_and_no_other_server() {
    let stack = Stack::start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let mut victim = walk::stdio(
        &Tool::Node.path().to_string_lossy(),
        &[&npm_command("mcp-server-everything").to_string_lossy(), "stdio"],
    );
    victim
        .install_fields
        .push(walk::environment_secret("token", "VICTIM_TOKEN"));
    admin.publish("victim", victim).await;
    let hers = alice.install("victim", None, &[("token", "canary-of-alice")]).await;
    admin.publish("files", files_of_everything()).await;
    let his = bob.install("files", None, &[]).await;
    admin.gateway("team").await;
    for tool in ["read_text_file", "write_file", "list_directory", "directory_tree"] {
        admin.assign("team", "files", tool).await;
    }
    let client = stack.mcp("team", &bob).await;
    let data = stack.data_dir().canonicalize().expect("it exists");
    let data = data.to_string_lossy();

    // The key that signs tokens for any user, the stored secrets, and the registry.
    for name in [
        "dev-issuer.key",
        "session.key",
        "credentials.db",
        "registry.db",
        "addresses.json",
    ] {
        let path = format!("{data}/{name}");
        let answer = client.call("files__read_text_file", json!({"path": path})).await;
        assert_eq!(answer["result"]["isError"], json!(true), "{name}: {answer}");
        assert!(text(&answer).contains("ENOENT"), "{name}: {answer}");
    }
    let listed = client.call("files__list_directory", json!({"path": &*data})).await;
    assert_eq!(text(&listed), "[DIR] runtimes", "only the path to its own folder");
    let tree = client
        .call("files__directory_tree", json!({"path": format!("{data}/runtimes")}))
        .await;
    assert!(
        text(&tree).contains(&his.uid) && !text(&tree).contains(&hers.uid),
        "{tree}"
    );

    // Neither the secrets nor the files of other servers are accessible.
    let server = processes()
        .into_iter()
        .find(|process| process.environment.contains("VICTIM_TOKEN=canary-of-alice"))
        .expect("alice's server runs");
    for file in ["environ", "cmdline", "root/etc/passwd"] {
        let path = format!("/proc/{}/{file}", server.pid);
        let answer = client.call("files__read_text_file", json!({"path": path})).await;
        assert_eq!(answer["result"]["isError"], json!(true), "{file}: {answer}");
    }
    let beside = stack.data_dir().join("runtimes/i").join(&hers.uid).join("work/planted");
    for path in [
        beside.to_string_lossy().as_ref(),
        "/usr/planted-by-a-test",
        "/etc/planted-by-a-test",
    ] {
        let answer = client
            .call("files__write_file", json!({"path": path, "content": "x"}))
            .await;
        assert_eq!(answer["result"]["isError"], json!(true), "{path}: {answer}");
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }

    // What the server requires is accessible: the system's files, and its own folder.
    let system = client
        .call_text("files__read_text_file", json!({"path": "/etc/passwd"}))
        .await;
    assert!(system.contains("root:"), "{system}");
    let own = format!("{data}/runtimes/i/{}/work/note.txt", his.uid);
    client
        .call_text("files__write_file", json!({"path": own, "content": "his own"}))
        .await;
    assert_eq!(std::fs::read_to_string(&own).expect("it was written"), "his own");

    // Users can read how the server is confined.
    let request = o::GetRuntimeRequest {
        name: format!("{}/runtime", his.name),
    };
    let runtime = bob.runtimes().get_runtime(request).await.expect("his").into_inner();
    for subject in [
        "files",
        "metadata",
        "processes",
        "signals",
        "unix_sockets",
        "system_calls",
    ] {
        let protection = runtime.protections.iter().find(|p| p.subject == subject);
        let protection = protection.unwrap_or_else(|| panic!("{subject}: {:?}", runtime.protections));
        assert_eq!(protection.level(), o::ProtectionLevel::Enforced, "{protection:?}");
    }
}

/// A machine without user namespaces, as many containers are.
fn in_a_container(arguments: &[&str], data: &std::path::Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"")
        .arg(binary())
        .args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .args(arguments)
        .process_group(0);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_a_public_server_refuses_to_start() {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let issuers = folder.path().join("issuers.yaml");
    std::fs::write(
        &issuers,
        "issuers:\n  - issuer: https://login.example.com\n    audiences: [chandlery]\n",
    )
    .expect("it can be written");
    let issuers = issuers.to_string_lossy().into_owned();
    for arguments in [&["--sandbox", "required"][..], &["--issuers", &issuers]] {
        let output = in_a_container(arguments, &folder.path().join("data"))
            .output()
            .expect("unshare runs");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{complaint}");
        for hint in [
            "metadata: requires user namespaces",
            "--sandbox best-effort",
            "unprivileged_userns",
        ] {
            assert!(complaint.contains(hint), "{complaint}");
        }
    }
    // On a loopback address the program starts, and logs what is missing.
    let command = in_a_container(&[], &folder.path().join("data"));
    let mut program = Program::start(command.into());
    integration_tests::eventually("it serves", || async {
        program.lines().contain("Chandlery").then_some(())
    })
    .await;
    assert!(
        program.lines().contain("a part of the sandbox is missing: namespaces"),
        "{:?}",
        program.lines().all()
    );
    program.kill().await;
}
