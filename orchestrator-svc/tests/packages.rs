//! Packages are fetched once, without secrets, and stay what they are until somebody asks for others. With a FAKE of npm; the journeys have
//! the real one, and uv.

mod support;

use std::{fs, path::Path};

use contracts::{
    orchestrator::{GetRuntimeRequest, RestartRuntimeRequest, Runtime},
    registry::{ConditionStatus, InstallFieldType, entry_revision::Server},
};
use pretty_assertions::assert_eq;
use support::{Stack, call, credential, eventually, fakes::Fakes, installation, variable};

const SECRET: &str = "canary-7d1f";

/// A folder with npm and npx in it.
fn tools() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    for name in ["npm", "server.py"] {
        fs::copy(programs.join(name), folder.path().join(name)).unwrap();
    }
    fs::copy(programs.join("npm"), folder.path().join("npx")).unwrap();
    fs::write(folder.path().join("version"), "1.0.0").unwrap();
    folder
}

/// Installs an entry whose command is `npx -y server --x`.
fn install(fakes: &Fakes, uid: &str, tools: &Path) {
    let token = variable("token", InstallFieldType::Secret, "TOKEN");
    let (mut revision, wanted) = installation(uid, "npx", &["-y", "server", "--x"], vec![token]);
    if let Some(Server::SelfHosted(server)) = &mut revision.server {
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        server.environment.insert("PATH".to_owned(), path);
        server.environment.insert("OTHER".to_owned(), SECRET.to_owned());
    }
    fakes.secret(uid, &[("token", SECRET)]);
    fakes.install((revision, wanted));
    fakes.edit(uid, |i| credential(i, ConditionStatus::True, 1));
}

async fn shown(stack: &Stack, uid: &str) -> Runtime {
    let name = format!("installations/{uid}/runtime");
    let request = stack.of("alice", GetRuntimeRequest { name });
    stack.people.clone().get_runtime(request).await.unwrap().into_inner()
}

async fn restart(stack: &Stack, uid: &str, update_package: bool) -> Runtime {
    let name = format!("installations/{uid}/runtime");
    let request = stack.of("alice", RestartRuntimeRequest { name, update_package });
    stack
        .people
        .clone()
        .restart_runtime(request)
        .await
        .unwrap()
        .into_inner()
}

fn version(runtime: &Runtime) -> &str {
    &runtime.package.as_ref().unwrap().version
}

fn trees(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("packages")).unwrap().flatten();
    entries
        .map(|e| e.path())
        .filter(|path| !path.ends_with("home"))
        .collect()
}

#[tokio::test]
async fn what_was_fetched_stays_until_somebody_asks_for_an_update() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let seen = call(&endpoint).await;
    assert_eq!(
        seen["arguments"],
        serde_json::json!(["--x"]),
        "without the launcher's own"
    );
    assert_eq!(seen["environment"]["TOKEN"], SECRET);
    let first = shown(&stack, "one").await;
    let package = first.package.clone().unwrap();
    assert_eq!((package.ecosystem.as_str(), package.name.as_str()), ("npm", "server"));
    assert_eq!(
        (package.requested.as_str(), package.version.as_str()),
        ("server", "1.0.0")
    );
    assert!(package.lock_digest.starts_with("sha256:"));
    let [tree] = &trees(&stack.folder)[..] else {
        panic!("one tree")
    };
    let environment = fs::read_to_string(tree.join("environment")).unwrap();
    assert!(
        environment.contains("PATH=") && !environment.contains(SECRET),
        "{environment}"
    );

    // Versions that come later are for those who come later, and for those who ask.
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    install(&fakes, "two", tools.path());
    stack.running("two").await;
    assert_eq!(version(&shown(&stack, "two").await), "2.0.0");
    assert_eq!(version(&restart(&stack, "one", false).await), "1.0.0");
    assert_eq!(version(&restart(&stack, "one", true).await), "2.0.0");
    assert_eq!(
        trees(&stack.folder).len(),
        2,
        "one of each version, however many share it"
    );
    stack.stop().await;

    // What nobody runs any more goes when the service starts; what was cut off, too.
    fs::create_dir(folder.path().join("packages/new-cut-off")).unwrap();
    fs::write(tools.path().join("version"), "3.0.0").unwrap();
    let stack = Stack::start(folder.path(), &fakes).await;
    for uid in ["one", "two"] {
        stack.running(uid).await;
        assert_eq!(
            version(&shown(&stack, uid).await),
            "2.0.0",
            "after a restart of the service"
        );
    }
    assert_eq!(trees(&stack.folder).len(), 1);
    stack.stop().await;

    // A tree that is lost is made again, with the same versions.
    fs::remove_dir_all(&trees(folder.path())[0]).unwrap();
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    let again = shown(&stack, "one").await;
    assert_eq!(version(&again), "2.0.0");
    stack.stop().await;
}

#[tokio::test]
async fn a_server_cannot_change_what_others_run() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let [tree] = &trees(&stack.folder)[..] else {
        panic!("one tree")
    };
    let file = tree.join("node_modules/server/server.py");
    let attempt = support::write(&endpoint, &file).await;
    assert!(attempt.contains("Read-only") || attempt.contains("denied"), "{attempt}");
    stack.stop().await;
}

#[tokio::test]
async fn an_update_that_fails_leaves_what_there_was() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    fs::write(tools.path().join("broken"), "").unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let failed = stack.reason("one", "PACKAGE_NOT_FETCHED").await;
    for hint in ["server", "the registry does not answer"] {
        assert!(failed.message.contains(hint), "{}", failed.message);
    }
    eventually(|| trees(&stack.folder).len() <= 1).await;
    fs::remove_file(tools.path().join("broken")).unwrap();
    stack.running("one").await;
    fs::write(tools.path().join("broken"), "").unwrap();
    restart(&stack, "one", true).await;
    stack.running("one").await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    stack.stop().await;
}

#[tokio::test]
async fn scripts_of_packages_run_in_a_tree_that_nobody_shares() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    fs::write(tools.path().join("scripts"), "").unwrap();
    install(&fakes, "one", tools.path());
    install(&fakes, "two", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    for uid in ["one", "two"] {
        stack.running(uid).await;
    }
    let trees = trees(&stack.folder);
    assert_eq!(trees.len(), 2, "{trees:?}");
    for tree in trees {
        assert!(tree.join("scripts-ran").is_file());
        let environment = fs::read_to_string(tree.join("environment-of-scripts")).unwrap();
        assert!(!environment.contains(SECRET), "{environment}");
        assert!(!environment.contains("packages/home"), "{environment}");
    }
    stack.stop().await;
}
