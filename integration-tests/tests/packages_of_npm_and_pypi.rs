//! Entries with `npx PACKAGE` and `uvx PACKAGE`: the package is fetched once, and then run from the local copy.
//!
//! Tools: node, python

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use contracts::{orchestrator as o, registry as r};
use integration_tests::{
    Caller, Stack, eventually,
    process::processes,
    tools::{Tool, own, python_command},
    walk,
};
use serde_json::json;

async fn runtime(who: &Caller, installation: &r::Installation) -> o::Runtime {
    let request = o::GetRuntimeRequest {
        name: format!("{}/runtime", installation.name),
    };
    who.runtimes().get_runtime(request).await.expect("hers").into_inner()
}

async fn call(stack: &Stack, who: &Caller, remembered: &str) {
    let client = stack.mcp("team", who).await;
    let zone = json!({"timezone": "Europe/Lisbon"});
    let time = client.call_text("time__get_current_time", zone).await;
    assert!(time.contains("Europe/Lisbon"), "{time}");
    let graph = client.call_text("memory__read_graph", json!({})).await;
    assert!(graph.contains(remembered), "{graph}");
}

/// An entry whose server stores data.
fn memory() -> r::Entry {
    let mut entry = walk::stdio("npx", &["-y", "@modelcontextprotocol/server-memory"]);
    let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server else {
        panic!("it is self-hosted")
    };
    let file = "{working_folder}/memory.jsonl".to_owned();
    server.environment.insert("MEMORY_FILE_PATH".to_owned(), file);
    entry
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_versions_run_without_a_registry() {
    let mut stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let uvx = python_command("uvx").to_string_lossy().into_owned();
    admin.gateway("team").await;
    let mut installed = Vec::new();
    let time = walk::stdio(&uvx, &["mcp-server-time", "--local-timezone", "Europe/Lisbon"]);
    for (id, entry, tools) in [
        ("memory", memory(), &["read_graph", "create_entities"][..]),
        ("time", time, &["get_current_time"]),
    ] {
        admin.publish(id, entry).await;
        installed.push(alice.install(id, None, &[]).await);
        for tool in tools {
            admin.assign("team", id, tool).await;
        }
    }
    let ada = json!({"entities": [{"name": "Ada", "entityType": "person", "observations": ["counts"]}]});
    let client = stack.mcp("team", &alice).await;
    client.call_text("memory__create_entities", ada).await;
    drop(client);
    call(&stack, &alice, "Ada").await;
    let mut packages = Vec::new();
    for (installation, ecosystem, name) in [
        (&installed[0], "npm", "@modelcontextprotocol/server-memory"),
        (&installed[1], "pypi", "mcp-server-time"),
    ] {
        let package = runtime(&alice, installation)
            .await
            .package
            .expect("its command names one");
        assert_eq!((package.ecosystem.as_str(), package.name.as_str()), (ecosystem, name));
        assert!(package.version.starts_with("20"), "{package:?}");
        assert_eq!(package.lock_digest.len(), "sha256:".len() + 64);
        packages.push(package);
    }
    let launchers = processes()
        .into_iter()
        .filter(|process| process.environment.contains("CHANDLERY_RUNTIME"));
    let launchers: Vec<_> = launchers
        .filter(|p| p.arguments.contains("npx") || p.arguments.contains("uvx"))
        .collect();
    assert!(launchers.is_empty(), "no launcher runs: {launchers:?}");

    // After this, no registry responds, and none is required.
    stack.stop().await;
    let nowhere = "http://127.0.0.1:1/";
    let again = Stack::builder()
        .on_data_of(&stack)
        .variable("npm_config_registry", nowhere)
        .variable("UV_DEFAULT_INDEX", nowhere)
        .start()
        .await;
    let alice = again.member("alice");
    for (installation, package) in installed.iter().zip(&packages) {
        alice.until_ready(&installation.name).await;
        assert_eq!(runtime(&alice, installation).await.package.as_ref(), Some(package));
    }
    call(&again, &alice, "Ada").await;
}

/// `hostile_registry.py`. It stops when dropped.
struct Registry {
    process: Child,
    url: String,
}

impl Registry {
    fn start() -> Self {
        let mut process = Command::new(Tool::Python.path())
            .arg(own("python/hostile_registry.py"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a Python");
        let mut port = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut port).expect("it writes its port");
        let url = format!("http://127.0.0.1:{}", port.trim());
        Self { process, url }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_runs_no_code_of_a_package() {
    let registry = Registry::start();
    let stack = Stack::builder()
        .variable("npm_config_registry", &registry.url)
        .variable("UV_DEFAULT_INDEX", format!("{}/simple/", registry.url))
        .variable("NO_PROXY", "127.0.0.1")
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));

    let uvx = python_command("uvx").to_string_lossy().into_owned();
    admin.publish("wheel", walk::stdio(&uvx, &["hostile-wheel"])).await;
    alice.install("wheel", None, &[]).await;
    let all = files(&stack.data_dir());
    let (fetched, others): (Vec<_>, Vec<_>) = all.iter().partition(|path| path.iter().any(|part| part == "packages"));
    let ran = |path: &&PathBuf| path.ends_with("pth-ran");
    assert!(
        others.into_iter().any(|path| ran(&path)),
        "in its server, it runs: {all:?}"
    );
    assert!(!fetched.iter().any(ran), "{fetched:?}");
    let is_compiled = |path: &&PathBuf| path.to_string_lossy().contains("__pycache__/hostile_wheel.");
    assert!(fetched.iter().any(is_compiled), "{fetched:?}");

    for package in ["hostile-package", "hostile-locked"] {
        admin.publish(package, walk::stdio("npx", &["-y", package])).await;
        let installation = alice.create_installation(package, None, &[]).await.expect("she may");
        let message = eventually("it is refused", || async {
            let runtime = runtime(&alice, &installation).await;
            (runtime.reason == "PACKAGE_NOT_FETCHED").then_some(runtime.message)
        })
        .await;
        assert!(message.contains(package), "{message}");
    }
    let asked = reqwest::get(format!("{}/asked", registry.url))
        .await
        .expect("it answers");
    let asked: Vec<String> = asked.json().await.expect("it is JSON");
    for package in ["/hostile-package", "/hostile-locked.tgz"] {
        assert!(asked.iter().any(|path| path == package), "{asked:?}");
    }
    assert!(
        !asked.iter().any(|path| path.contains("dependency.git")),
        "git ran: {asked:?}"
    );
}
