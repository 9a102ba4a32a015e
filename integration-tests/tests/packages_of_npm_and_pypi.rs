//! Entries that say `npx PACKAGE` and `uvx PACKAGE`: fetched once, then run from where they were fetched to.

use contracts::{orchestrator as o, registry as r};
use integration_tests::{Caller, Stack, process::processes, tools::python_command, walk};
use serde_json::json;

async fn runtime(who: &Caller, installation: &r::Installation) -> o::Runtime {
    let request = o::GetRuntimeRequest {
        name: format!("{}/runtime", installation.name),
    };
    who.runtimes().get_runtime(request).await.expect("hers").into_inner()
}

async fn call(stack: &Stack, who: &Caller) {
    let client = stack.mcp("team", who).await;
    let zone = json!({"timezone": "Europe/Lisbon"});
    let time = client.call_text("time__get_current_time", zone).await;
    assert!(time.contains("Europe/Lisbon"), "{time}");
    let graph = client.call_text("memory__read_graph", json!({})).await;
    assert!(graph.contains("entities"), "{graph}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_the_same_versions_without_a_registry() {
    let mut stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let uvx = python_command("uvx").to_string_lossy().into_owned();
    admin.gateway("team").await;
    let mut installed = Vec::new();
    for (id, command, arguments, tool) in [
        (
            "memory",
            "npx",
            &["-y", "@modelcontextprotocol/server-memory"][..],
            "read_graph",
        ),
        (
            "time",
            &uvx,
            &["mcp-server-time", "--local-timezone", "Europe/Lisbon"],
            "get_current_time",
        ),
    ] {
        admin.publish(id, walk::stdio(command, arguments)).await;
        installed.push(alice.install(id, None, &[]).await);
        admin.assign("team", id, tool).await;
    }
    call(&stack, &alice).await;
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
    assert!(
        launchers.is_empty(),
        "nothing stands between us and the servers: {launchers:?}"
    );

    // No registry answers any more, and nothing needs one.
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
    call(&again, &alice).await;
}
