//! A team generates a client from the contracts, with the template for its language and the commands of the README, and
//! lists entries.
//!
//! Tools: node, python, go, protoc-gen-go

use std::{fs, os::unix::fs::symlink};

use integration_tests::{
    generated::{Client, has_listed_the_entry, registry_with_an_entry},
    tools::{Tool, own, repository},
};

#[tokio::test(flavor = "multi_thread")]
async fn go() {
    let plugins = Tool::ProtocGenGo.path();
    let client = Client::generate("go", &[plugins.parent().expect("it is in a folder").to_owned()]).await;
    let (stack, token) = registry_with_an_entry().await;
    let outcome = client.run(Tool::Go.path(), &["run", ".", stack.grpc(), &token]).await;
    has_listed_the_entry(&outcome.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript() {
    let modules = Tool::NodeModules.path();
    let client = Client::generate("typescript", &[modules.join(".bin")]).await;
    symlink(&modules, client.folder().join("node_modules")).expect("it is a new folder");
    let compiled = client.run(modules.join(".bin/tsc"), &[]).await;
    assert!(compiled.success, "{}", compiled.stdout);
    let (stack, token) = registry_with_an_entry().await;
    let arguments = ["out/list_entries.js", stack.grpc(), &token];
    has_listed_the_entry(&client.run(Tool::Node.path(), &arguments).await.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn python() {
    let python = Tool::Python.path();
    let client = Client::generate("python", &[python.parent().expect("it is in a folder").to_owned()]).await;
    let (stack, token) = registry_with_an_entry().await;
    let arguments = ["list_entries.py", stack.grpc(), &token];
    has_listed_the_entry(&client.run(python, &arguments).await.json());
}

/// The README names the versions of the plugins that are tested above.
#[test]
fn the_readme_names_the_tested_versions() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("it is there");
    let tools = fs::read_to_string(own("tools")).expect("it is there");
    let packages = fs::read_to_string(own("node/package.json")).expect("it is there");
    let requirements = fs::read_to_string(own("python/requirements.txt")).expect("it is there");
    let package = |name: &str| {
        let line = packages
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("\"{name}\": \"")));
        let version = line.and_then(|rest| rest.split('"').next()).expect("it is pinned");
        format!("{name}@{version}")
    };
    let variable = |name: &str| {
        tools
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
            .expect("it is pinned")
    };
    let grpcio_tools = requirements
        .lines()
        .find(|line| line.starts_with("grpcio-tools=="))
        .expect("it is pinned");
    for command in [
        format!("protoc-gen-go@{}", variable("PROTOC_GEN_GO_VERSION")),
        format!("protoc-gen-go-grpc@{}", variable("PROTOC_GEN_GO_GRPC_VERSION")),
        format!("grpcurl@{}", variable("GRPCURL_VERSION")),
        package("@bufbuild/buf"),
        package("@bufbuild/protoc-gen-es"),
        package("@connectrpc/connect-node"),
        grpcio_tools.to_owned(),
    ] {
        assert!(readme.contains(&command), "README.md does not name {command}");
    }
    let client = fs::read_to_string(own("clients/typescript/package.json")).expect("it is there");
    let pinned = |line: &&str| line.trim().starts_with("\"@") || line.contains("\"typescript\"");
    for line in client.lines().filter(pinned) {
        let dependency = line.trim().trim_end_matches(',');
        assert!(
            packages.contains(dependency),
            "node/package.json does not pin {dependency}"
        );
    }
}
