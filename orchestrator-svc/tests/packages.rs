//! Packages are fetched once, without secrets, and keep their versions until an update is requested. With a FAKE of npm; the journeys use the
//! real npm and uv.

mod support;

use std::{fs, path::Path};

use contracts::{
    orchestrator::{GetRuntimeRequest, RestartRuntimeRequest, Runtime, RuntimeState},
    registry::{ConditionStatus, InstallFieldType, SelfHostedServer, entry_revision::Server},
};
use pretty_assertions::{assert_eq, assert_ne};
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

/// Requests a restart; returns its id.
async fn request_restart(stack: &Stack, uid: &str, update_package: bool) -> String {
    let request = RestartRuntimeRequest {
        name: format!("installations/{uid}/runtime"),
        update_package,
        ..Default::default()
    };
    let accepted = stack.people.clone().restart_runtime(stack.of("alice", request)).await;
    accepted.unwrap().into_inner().restart_id
}

/// Restarts; returns the outcome.
async fn restart(stack: &Stack, uid: &str, update_package: bool) -> Runtime {
    request_restart(stack, uid, update_package).await;
    stack.restarted(&format!("installations/{uid}/runtime")).await
}

fn version(runtime: &Runtime) -> &str {
    &runtime.package.as_ref().unwrap().version
}

fn trees(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("packages")).unwrap().flatten();
    entries.map(|e| e.path()).collect()
}

/// A new revision of the entry, with this report of credential-svc.
fn revise(fakes: &Fakes, uid: &str, status: ConditionStatus, edit: impl FnOnce(&mut SelfHostedServer)) {
    fakes.revise(uid, |revision| match &mut revision.server {
        Some(Server::SelfHosted(server)) => edit(server),
        _ => unreachable!("it is self-hosted"),
    });
    fakes.edit(uid, |i| credential(i, status, i.generation));
}

#[tokio::test]
async fn versions_stay_the_same_until_an_update_is_requested() {
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

    // New versions are for new installations, and for those that request an update.
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

    // Trees that nobody runs, and unfinished ones, are removed when the service starts.
    fs::create_dir_all(folder.path().join("packages/new-cut-off/home")).unwrap();
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

    // A lost tree is created again, with the same versions.
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
async fn a_failed_update_changes_nothing() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    fs::write(tools.path().join("broken"), "").unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let failed = stack.reason("one", "PACKAGE_NOT_FETCHED").await;
    for hint in ["server", "the registry does not answer in …/packages/new-"] {
        assert!(failed.message.contains(hint), "{}", failed.message);
    }
    // Users do not see where the operator keeps the data.
    let folder_name = folder.path().to_str().unwrap();
    assert!(!failed.message.contains(folder_name), "{}", failed.message);
    eventually(|| trees(&stack.folder).len() <= 1).await;
    fs::remove_file(tools.path().join("broken")).unwrap();
    stack.running("one").await;
    fs::write(tools.path().join("broken"), "").unwrap();
    // A failed update does not change what runs, and the message says so.
    let endpoint = stack.running("one").await;
    let started = call(&endpoint).await["started"].clone();
    let outcome = restart(&stack, "one", true).await;
    assert_eq!((version(&outcome), outcome.state()), ("1.0.0", RuntimeState::Running));
    assert!(
        outcome.message.contains("keeps its current versions"),
        "{}",
        outcome.message
    );
    assert!(!outcome.message.contains(folder_name), "{}", outcome.message);
    assert_eq!(call(&endpoint).await["started"], started);
    eventually(|| trees(&stack.folder).len() == 1).await;
    stack.stop().await;
}

/// The server can be called during a slow fetch.
#[tokio::test]
async fn an_update_is_fetched_while_the_server_runs() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let started = call(&endpoint).await["started"].clone();
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    let slow = tools.path().join("slow");
    fs::write(&slow, "").unwrap();
    let id = request_restart(&stack, "one", true).await;
    eventually(|| trees(&stack.folder).len() == 2).await;
    assert_eq!(call(&endpoint).await["started"], started);
    let meanwhile = shown(&stack, "one").await;
    assert_eq!(
        (version(&meanwhile), meanwhile.state()),
        ("1.0.0", RuntimeState::Running)
    );
    assert_eq!(
        (meanwhile.restart_id, meanwhile.observed_restart_id),
        (id, String::new())
    );
    fs::remove_file(&slow).unwrap();
    let outcome = stack.restarted("installations/one/runtime").await;
    assert_eq!((version(&outcome), outcome.state()), ("2.0.0", RuntimeState::Running));
    assert_ne!(call(&stack.moved("one", &endpoint).await).await["started"], started);
    stack.stop().await;
}

#[tokio::test]
async fn fetches_share_no_writable_files() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    // The cache of an older version of Chandlery, in which third-party code may have left files.
    let shared = folder.path().join("packages/home");
    fs::create_dir_all(&shared).unwrap();
    fs::write(shared.join(".npmrc"), "registry=http://127.0.0.1:1/").unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    install(&fakes, "two", tools.path());
    stack.running("two").await;
    let trees = trees(&stack.folder);
    assert_eq!(trees.len(), 2, "nothing else is left: {trees:?}");
    let mut homes = Vec::new();
    for tree in trees {
        let found = fs::read_to_string(tree.join("home")).unwrap();
        assert_eq!(found, "resolved\n", "of the same fetch's first step");
        let environment = fs::read_to_string(tree.join("environment")).unwrap();
        for setting in [
            "npm_config_git=/nonexistent/git-repositories-are-not-fetched",
            "npm_config_allow_git=none",
            "npm_config_userconfig=/dev/null",
            "npm_config_globalconfig=/nonexistent/npmrc",
        ] {
            assert!(environment.lines().any(|line| line == setting), "{environment}");
        }
        let home = environment.lines().find_map(|line| line.strip_prefix("HOME="));
        homes.push(home.unwrap().to_owned());
    }
    assert_ne!(homes[0], homes[1]);
    assert!(homes.iter().all(|home| !Path::new(home).exists()), "{homes:?}");
    stack.stop().await;
}

#[tokio::test]
async fn the_same_versions_are_fetched_once() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    fs::write(tools.path().join("no-files"), "").unwrap();
    install(&fakes, "two", tools.path());
    stack.running("two").await;
    assert_eq!(trees(&stack.folder).len(), 1);
    stack.stop().await;
}

#[tokio::test]
async fn only_packages_of_a_registry_are_unpacked() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    fs::write(tools.path().join("from"), "git+http://127.0.0.1:1/server.git#0").unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let failed = stack.reason("one", "PACKAGE_NOT_FETCHED").await;
    for hint in [
        "depends on server, which is a git repository",
        "only packages from a registry",
    ] {
        assert!(failed.message.contains(hint), "{}", failed.message);
    }
    stack.stop().await;
}

#[tokio::test]
async fn versions_that_the_owner_confirmed_are_used_again_after_other_revisions() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    let agreed = |server: &mut SelfHostedServer| {
        server.confirm_new_versions = true;
        server.arguments[1] = "server".to_owned();
    };
    install(&fakes, "one", tools.path());
    revise(&fakes, "one", ConditionStatus::True, agreed);
    let stack = Stack::start(folder.path(), &fakes).await;
    let first = stack.running("one").await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    fs::write(tools.path().join("version"), "2.0.0").unwrap();

    // The entry names another package for a while.
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.arguments[1] = "server@2".to_owned();
    });
    let other = stack.moved("one", &first).await;
    assert_eq!(version(&shown(&stack, "one").await), "2.0.0");
    revise(&fakes, "one", ConditionStatus::True, agreed);
    let back = stack.moved("one", &other).await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");

    // The entry does not require confirmation for a while.
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = false
    });
    let unasked = stack.moved("one", &back).await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0", "what runs goes on");
    assert_eq!(version(&restart(&stack, "one", true).await), "2.0.0");
    let updated = stack.moved("one", &unasked).await;
    revise(&fakes, "one", ConditionStatus::True, agreed);
    stack.moved("one", &updated).await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    stack.stop().await;
}

#[tokio::test]
async fn a_new_revision_cancels_an_update_of_the_previous_one() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = true
    });
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    revise(&fakes, "one", ConditionStatus::False, |server| {
        server.confirm_new_versions = false
    });
    stack.reason("one", "CREDENTIAL_REQUIRED").await;
    restart(&stack, "one", true).await;
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = true
    });
    stack.running("one").await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    stack.stop().await;
}

/// The update may have been requested by another person.
#[tokio::test]
async fn a_restart_does_not_cancel_an_update() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    tokio::join!(restart(&stack, "one", true), restart(&stack, "one", false));
    stack.running("one").await;
    assert_eq!(version(&shown(&stack, "one").await), "2.0.0");
    stack.stop().await;
}

#[tokio::test]
async fn installation_scripts_run_in_a_tree_of_one_installation() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write(tools.path().join("port"), port.local_addr().unwrap().port().to_string()).unwrap();
    fs::write(tools.path().join("scripts"), "").unwrap();
    for uid in ["one", "two"] {
        install(&fakes, uid, tools.path());
        revise(&fakes, uid, ConditionStatus::True, |server| {
            let mut set = |name: &str, value: &str| server.environment.insert(name.to_owned(), value.to_owned());
            set("npm_config_registry", "http://user:canary-registry@127.0.0.1:1/");
            set("HTTPS_PROXY", "http://user:canary-proxy@127.0.0.1:1");
            set("NO_PROXY", "registry.example");
        });
    }
    let stack = Stack::start(folder.path(), &fakes).await;
    for uid in ["one", "two"] {
        stack.running(uid).await;
    }
    let trees = trees(&stack.folder);
    assert_eq!(trees.len(), 2, "{trees:?}");
    for tree in trees {
        let owned = ["-one", "-two"].iter().any(|uid| tree.to_string_lossy().ends_with(uid));
        assert!(owned, "{tree:?}, whatever its scripts write");
        assert!(tree.join("scripts-ran").is_file());
        let fetch = fs::read_to_string(tree.join("environment")).unwrap();
        assert!(
            fetch.contains("canary-registry") && fetch.contains("canary-proxy"),
            "{fetch}"
        );
        let environment = fs::read_to_string(tree.join("environment-of-scripts")).unwrap();
        assert!(!environment.contains("canary"), "{environment}");
        assert!(environment.contains("NO_PROXY=registry.example"), "{environment}");
        let home = environment.lines().find_map(|line| line.strip_prefix("HOME="));
        assert!(
            home.is_some_and(|home| home.ends_with("/home") && !home.contains("packages")),
            "the server's: {home:?}"
        );
        let connected = fs::read_to_string(tree.join("connected")).unwrap();
        assert!(connected.contains("PermissionError"), "{connected}");
    }
    stack.stop().await;
}

/// The first line of a package's program could name any interpreter: it does not give access to other folders.
#[tokio::test]
async fn a_package_does_not_decide_what_its_server_can_access() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    let private = tempfile::Builder::new()
        .prefix("private")
        .tempdir_in("/var/tmp")
        .unwrap();
    let (script, secret) = (private.path().join("run.sh"), private.path().join(".env"));
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::write(&secret, SECRET).unwrap();
    let line = format!("#!/usr/bin/env -S -u {} python3\n", script.display());
    fs::write(tools.path().join("line"), line).unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    assert_eq!(support::read(&endpoint, &secret).await, "");
    let own = call(&endpoint).await["folder"].as_str().unwrap().to_owned();
    support::write(&endpoint, &Path::new(&own).join("x")).await;
    fs::write(Path::new(&own).join("x"), "it reads").unwrap();
    assert_eq!(support::read(&endpoint, &Path::new(&own).join("x")).await, "it reads");
    stack.stop().await;
}

/// A package of one registry does not run, and gets no secret, after the entry names another registry.
#[tokio::test]
async fn versions_of_one_registry_are_not_used_for_another() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    let registry = |at: &'static str| {
        move |server: &mut SelfHostedServer| {
            let name = "npm_config_registry".to_owned();
            drop(server.environment.insert(name, at.to_owned()));
        }
    };
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let first = stack.running("one").await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    revise(&fakes, "one", ConditionStatus::True, registry("https://other.example/"));
    let second = stack.moved("one", &first).await;
    assert_eq!(version(&shown(&stack, "one").await), "2.0.0");
    fs::write(tools.path().join("version"), "1.0.0").unwrap();
    revise(&fakes, "one", ConditionStatus::True, registry("https://third.example/"));
    let third = stack.moved("one", &second).await;
    assert_eq!(
        trees(&stack.folder).len(),
        3,
        "trees of the same versions are not shared either"
    );
    revise(&fakes, "one", ConditionStatus::True, registry("https://other.example/"));
    stack.moved("one", &third).await;
    assert_eq!(
        version(&shown(&stack, "one").await),
        "2.0.0",
        "the version of this registry"
    );
    stack.stop().await;
}

/// A restart must work while a registry does not answer.
#[tokio::test]
async fn a_restart_ends_a_fetch_that_hangs() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    let slow = tools.path().join("slow");
    fs::write(&slow, "").unwrap();
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    eventually(|| trees(&stack.folder).len() == 1).await;
    let begun = trees(&stack.folder).remove(0);
    request_restart(&stack, "one", false).await;
    eventually(|| trees(&stack.folder).first().is_some_and(|tree| *tree != begun)).await;
    fs::remove_file(&slow).unwrap();
    let outcome = stack.restarted("installations/one/runtime").await;
    assert_eq!(outcome.state(), RuntimeState::Running);
    stack.stop().await;
}

/// A pin of an older version of Chandlery has no origin. Its versions are kept.
#[tokio::test]
async fn pins_of_an_older_version_keep_their_versions() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    let digest = shown(&stack, "one").await.package.unwrap().lock_digest;
    stack.stop().await;
    let pin = folder.path().join("i/one/pin/pin.json");
    let mut older: serde_json::Value = serde_json::from_slice(&fs::read(&pin).unwrap()).unwrap();
    for member in ["origin", "interpreter"] {
        older
            .as_object_mut()
            .unwrap()
            .remove(member)
            .expect("newer versions have it");
    }
    fs::write(&pin, older.to_string()).unwrap();
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.running("one").await;
    let package = shown(&stack, "one").await.package.unwrap();
    assert_eq!((package.version.as_str(), package.lock_digest), ("1.0.0", digest));
    assert!(fs::read_to_string(&pin).unwrap().contains("origin"), "it says so now");
    stack.stop().await;
}

/// With a setting of npm that a fetch does not support, the command is left to npx; the setting is not ignored.
#[tokio::test]
async fn a_package_with_unsupported_settings_is_left_to_npx() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    revise(&fakes, "one", ConditionStatus::True, |server| {
        let name = "npm_config_before".to_owned();
        server.environment.insert(name, "2020-01-01".to_owned());
    });
    let stack = Stack::start(folder.path(), &fakes).await;
    // The FAKE of npx runs no packages.
    stack.reason("one", "EXITED").await;
    assert_eq!(shown(&stack, "one").await.package, None);
    // A package whose new versions must be confirmed is not left to npx.
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = true
    });
    let refused = stack.reason("one", "PACKAGE_NOT_FETCHED").await;
    assert!(refused.message.contains("confirm_new_versions"), "{}", refused.message);
    stack.stop().await;
}

/// A server that cannot run as the new revision says is stopped, and runs again after the entry is changed back.
#[tokio::test]
async fn a_revision_that_cannot_be_fetched_stops_the_server() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    let stack = Stack::start(folder.path(), &fakes).await;
    let first = stack.running("one").await;
    let setting = "npm_config_before";
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = true;
        server.environment.insert(setting.to_owned(), "2020-01-01".to_owned());
    });
    stack.reason("one", "PACKAGE_NOT_FETCHED").await;
    let socket = first.strip_prefix("unix:").unwrap();
    eventually(|| std::os::unix::net::UnixStream::connect(socket).is_err()).await;
    revise(&fakes, "one", ConditionStatus::True, |server| {
        server.confirm_new_versions = false;
        server.environment.remove(setting);
    });
    stack.moved("one", &first).await;
    assert_eq!(version(&shown(&stack, "one").await), "1.0.0");
    stack.stop().await;
}

/// With a registry that people may enter, the command is left to npx too.
#[tokio::test]
async fn a_registry_that_people_enter_is_left_to_npx() {
    let (folder, tools, fakes) = (tempfile::tempdir().unwrap(), tools(), Fakes::new());
    install(&fakes, "one", tools.path());
    fakes.revise("one", |revision| {
        let mut field = variable("registry", InstallFieldType::String, "NPM_CONFIG_REGISTRY");
        field.default_value = "https://other.example/".to_owned();
        revision.install_fields.push(field);
    });
    fakes.edit("one", |i| credential(i, ConditionStatus::True, i.generation));
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.reason("one", "EXITED").await;
    assert_eq!(shown(&stack, "one").await.package, None);
    stack.stop().await;
}
