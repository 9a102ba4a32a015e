//! Running servers follow the registry.

mod support;

use std::fs;

use contracts::registry::{
    ConditionStatus, InstallFieldSource, InstallFieldType, RemoteServer, RuntimeState, entry_revision::Server,
    report_cleanup_request::Subject,
};
use pretty_assertions::{assert_eq, assert_ne};
use serde_json::json;
use support::{
    Stack, call, call_with, credential, eventually, fakes::Fakes, installation, ready, remote, server, variable,
};

const SECRET: &str = "canary-7f3a9c-secret";

#[tokio::test]
async fn runs_an_installation_and_follows_its_values_but_not_its_labels() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let fields = vec![variable("region", InstallFieldType::String, "REGION")];
    fakes.install(installation("one", "builtin", &["--x"], fields));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let seen = call(&endpoint).await;
    assert_eq!(seen["arguments"], json!(["--x"]));
    assert_eq!(seen["environment"].get("REGION"), None);
    assert!(
        seen["environment"].get("CARGO_MANIFEST_DIR").is_none(),
        "the service's environment stays with it"
    );

    let runtime = fakes.runtime("one").unwrap();
    assert_eq!((runtime.replicas, runtime.ready_replicas), (1, 1));
    assert_eq!(runtime.spec_digest.len(), 64, "{}", runtime.spec_digest);

    // A change of names and labels does not reach the server; a change of texts makes a revision, but does not restart it.
    let before = fakes.reports().len();
    fakes.edit_entry("e-one", |entry| {
        entry.display_name = "Other".to_owned();
        entry.labels.insert("a".to_owned(), "b".to_owned());
    });
    fakes.revise("one", |revision| {
        revision.install_fields[0].title = "Other".to_owned();
        revision.version = "2".to_owned();
    });
    assert_eq!(stack.observed("one").await.spec_digest, runtime.spec_digest);
    assert_eq!(
        call(&endpoint).await["started"],
        seen["started"],
        "texts and labels do not restart a server"
    );
    assert_eq!(fakes.reports().len(), before + 1);

    fakes.edit("one", |installation| {
        installation.values.insert("region".to_owned(), "eu".to_owned());
        installation.generation = 3;
    });
    let moved = stack.moved("one", &endpoint).await;
    assert_eq!(call(&moved).await["environment"]["REGION"], "eu");
    assert_eq!(stack.processes().len(), 1, "the previous process has ended");
    let last = fakes.reports().pop().unwrap();
    assert_eq!((last.state(), last.observed_generation), (RuntimeState::Running, 3));
    assert_ne!(last.spec_digest, runtime.spec_digest);
    stack.stop().await;
}

#[tokio::test]
async fn waits_for_the_credential_and_gives_it_to_the_server_alone() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let mut token = variable("token", InstallFieldType::Secret, "TOKEN");
    token.required = true;
    let script = server();
    fakes.install(installation("one", "python3", &[&script], vec![token.clone()]));
    fakes.install(installation("two", "python3", &[&script], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let runtime = stack.reason("one", "CREDENTIAL_PENDING").await;
    assert_eq!(
        (runtime.state(), runtime.spec_digest.as_str()),
        (RuntimeState::Pending, "")
    );
    fakes.edit("one", |w| credential(w, ConditionStatus::False, 0));
    assert_eq!(
        stack.reason("one", "CREDENTIAL_REQUIRED").await.state(),
        RuntimeState::Pending
    );

    fakes.secret("one", &[("token", SECRET)]);
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 1));
    let endpoint = stack.running("one").await;
    assert_eq!(call(&endpoint).await["environment"]["TOKEN"], SECRET);
    let (made, revision) = fakes.desired("one");
    let named = registry_model::destination::of_installation(&revision, &made).unwrap();
    assert_eq!(fakes.destinations(), [named], "the digest of what it starts");
    let other = stack.running("two").await;
    assert_eq!(
        call(&other).await["environment"].get("TOKEN"),
        None,
        "no server gets another one's secret"
    );

    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|p| p.parse::<i32>().ok()) else {
            continue;
        };
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(process.path().join(file)).unwrap_or_default();
            if String::from_utf8_lossy(&bytes).contains(SECRET) {
                holders.push(pid);
            }
        }
    }
    // The server is the only process with the secret.
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert!(stack.processes().contains(&holders[0]), "{holders:?}");

    // The same secret again needs no restart; another one does.
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 2));
    let same = stack.observed("one").await;
    assert_eq!(same.endpoint, endpoint);
    fakes.secret("one", &[("token", "another-one")]);
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 3));
    let moved = stack.moved("one", &endpoint).await;
    assert_eq!(call(&moved).await["environment"]["TOKEN"], "another-one");
    assert_ne!(fakes.runtime("one").unwrap().spec_digest, same.spec_digest);

    // Without the secret, the server is stopped.
    fakes.edit("one", |w| credential(w, ConditionStatus::False, 4));
    stack.reason("one", "CREDENTIAL_REQUIRED").await;
    eventually(|| stack.processes().len() == 1).await;
    stack.stop().await;
}

#[tokio::test]
async fn reports_what_a_person_can_do_about_a_failure() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let script = server();
    let token = variable("token", InstallFieldType::Secret, "TOKEN");
    fakes.secret("loop", &[("token", SECRET)]);
    fakes.install(installation("loop", "python3", &[&script, "--fail"], vec![token]));
    fakes.edit("loop", |w| credential(w, ConditionStatus::True, 1));
    fakes.install(installation("absent", "no-such-command-anywhere", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let absent = stack.reason("absent", "COMMAND_NOT_FOUND").await;
    assert_eq!((absent.state(), absent.ready_replicas), (RuntimeState::Failed, 0));
    assert!(
        absent.message.contains("no-such-command-anywhere"),
        "{}",
        absent.message
    );
    let crashing = stack.reason("loop", "CRASH_LOOP").await;
    assert!(
        crashing.message.contains("exit code 4") && crashing.message.contains("cannot reach the database"),
        "{}",
        crashing.message
    );
    assert!(
        crashing.message.contains("started with [redacted]"),
        "{}",
        crashing.message
    );
    assert!(
        fakes.reports().iter().all(|r| !format!("{r:?}").contains(SECRET)),
        "no report has a secret"
    );

    // A corrected spec runs at once.
    fakes.revise("loop", |revision| {
        let Some(Server::SelfHosted(server)) = &mut revision.server else {
            panic!()
        };
        server.arguments.pop();
    });
    stack.running("loop").await;
    stack.stop().await;
}

#[tokio::test]
async fn restarts_a_server_that_was_killed() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let started = call(&endpoint).await["started"].clone();
    let pid = nix::unistd::Pid::from_raw(stack.processes()[0]);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let moved = stack.moved("one", &endpoint).await;
    assert_ne!(call(&moved).await["started"], started);
    assert!(
        fakes
            .reports()
            .iter()
            .any(|r| r.reason == "STARTING" && r.message.contains("SIGKILL") && r.endpoint.is_empty())
    );
    stack.stop().await;
}

#[tokio::test]
async fn removes_everything_of_a_deleted_installation() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let work = call(&endpoint).await["folder"].as_str().unwrap().to_owned();
    let now = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    fakes.edit("one", |installation| installation.delete_time = now);
    let (revision, mut elsewhere) = remote("two");
    elsewhere.delete_time = now;
    fakes.install((revision, elsewhere));
    fakes.edit_entry("e", |entry| entry.delete_time = now);
    let wanted = ["one", "two"].map(|u| Subject::InstallationUid(u.to_owned()));
    eventually(|| {
        let done = fakes.cleanups();
        wanted.iter().all(|w| done.contains(w)) && done.contains(&Subject::EntryUid("e".to_owned()))
    })
    .await;
    assert!(!fs::exists(work).unwrap() && !fs::exists(endpoint.strip_prefix("unix:").unwrap()).unwrap());
    assert!(stack.processes().is_empty());
    stack.stop().await;
}

#[tokio::test]
async fn stops_its_servers_with_the_service_and_starts_them_with_the_next() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let socket = endpoint.strip_prefix("unix:").unwrap().to_owned();
    let mark = stack.folder.clone();
    stack.stop().await;
    assert!(!fs::exists(&socket).unwrap());
    let stack = Stack::start(folder.path(), &fakes).await;
    assert_eq!(stack.folder, mark);
    let moved = stack.moved("one", &endpoint).await;
    call(&moved).await;
    assert_eq!(stack.processes().len(), 1);
    stack.stop().await;
}

#[tokio::test]
async fn restarts_for_a_rotated_secret_of_the_entry_and_waits_for_a_missing_one() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let mut shared = variable("shared", InstallFieldType::Secret, "SHARED");
    shared.set_source(InstallFieldSource::Stored);
    let script = server();
    fakes.secret("one", &[("shared", "first")]);
    fakes.install(installation("one", "python3", &[&script], vec![shared]));
    fakes.edit("one", |i| credential(i, ConditionStatus::True, 0));
    fakes.install(installation("two", "python3", &[&script], Vec::new()));
    // An entry without a report does not keep servers from starting.
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    assert_eq!(call(&endpoint).await["environment"]["SHARED"], "first");
    let other = call(&stack.running("two").await).await["started"].clone();

    let rotate = |status, generation| {
        for uid in ["e-one", "e-two"] {
            fakes.edit_entry(uid, |entry| {
                entry.credential_generation = generation;
                ready(&mut entry.conditions, status, 1);
            });
        }
    };
    fakes.secret("one", &[("shared", "second")]);
    rotate(ConditionStatus::True, 2);
    let moved = stack.moved("one", &endpoint).await;
    assert_eq!(call(&moved).await["environment"]["SHARED"], "second");

    rotate(ConditionStatus::False, 3);
    let waiting = stack.reason("one", "CREDENTIAL_REQUIRED").await;
    assert!(waiting.message.contains("an admin"), "{}", waiting.message);
    eventually(|| stack.processes().len() == 1).await;
    fakes.secret("one", &[("shared", "third")]);
    rotate(ConditionStatus::True, 4);
    let endpoint = stack.running("one").await;
    assert_eq!(call(&endpoint).await["environment"]["SHARED"], "third");
    let untouched = stack.running("two").await;
    assert_eq!(
        call(&untouched).await["started"],
        other,
        "its server has none of these secrets"
    );
    stack.stop().await;
}

#[tokio::test]
async fn remote_installations_have_no_tasks_here() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let (revision, _) = remote("0");
    for number in 0..2_000 {
        let (_, mut installation) = remote(&number.to_string());
        installation.entry_uid.clone_from(&revision.entry_uid);
        fakes.install((revision.clone(), installation));
    }
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    assert!(tasks() < before + 100, "{} tasks, {before} before", tasks());
    assert!(
        fakes.reports().iter().all(|r| r.subject == fakes.reports()[0].subject),
        "only one of them runs here"
    );

    // Many are deleted at once.
    let now = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    for number in 0..200 {
        fakes.edit(&number.to_string(), |installation| installation.delete_time = now);
    }
    eventually(|| fakes.cleanups().len() == 200).await;

    // A server whose entry becomes remote is stopped; it may become self-hosted again.
    fakes.revise("one", |revision| {
        revision.server = Some(Server::Remote(RemoteServer {
            url: "https://example.com".to_owned(),
            ..RemoteServer::default()
        }));
    });
    let gone = stack.reason("one", "NOT_SELF_HOSTED").await;
    assert_eq!((gone.endpoint.as_str(), gone.replicas), ("", 0));
    eventually(|| stack.processes().is_empty()).await;
    fakes.revise("one", |revision| {
        revision.server = installation("one", "builtin", &[], Vec::new()).0.server;
    });
    let moved = stack.moved("one", &endpoint).await;
    call(&moved).await;
    stack.stop().await;
}

#[tokio::test]
async fn reports_again_what_the_registry_has_lost() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    fakes.lose_runtimes();
    assert_eq!(stack.running("one").await, endpoint);
    call(&endpoint).await;
    stack.stop().await;
}

/// A restart waits for the server's calls in progress, unless the installation is deleted.
#[tokio::test]
async fn a_deletion_does_not_wait_for_calls() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let fields = vec![variable("region", InstallFieldType::String, "REGION")];
    fakes.install(installation("one", "builtin", &[], fields));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let called = stack.folder.join("i/one/work/called");
    let arguments = json!({"write": called, "sleep": 600});
    let slow = tokio::spawn(async move { call_with(&endpoint, json!({"name": "x", "arguments": arguments})).await });
    eventually(|| called.exists()).await;
    fakes.edit("one", |installation| {
        installation.values.insert("region".to_owned(), "eu".to_owned());
        installation.generation = 2;
    });
    stack.reason("one", "STARTING").await;
    assert_eq!(stack.processes().len(), 1, "it has a call in progress");
    let now = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    fakes.edit("one", |installation| installation.delete_time = now);
    eventually(|| !fakes.cleanups().is_empty()).await;
    assert!(stack.processes().is_empty());
    slow.abort();
    stack.stop().await;
}

/// Two orchestrators of one registry: one holds the lease, the other is on standby and runs nothing.
#[tokio::test]
async fn one_orchestrator_runs_servers_and_the_other_is_on_standby() {
    let (first, second, fakes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let works = Stack::start(first.path(), &fakes).await;
    let endpoint = works.running("one").await;
    let waits = Stack::start_waiting(second.path(), &fakes).await;
    assert!(waits.processes().is_empty());
    let reports = fakes.reports().len();
    fakes.edit("one", |installation| installation.generation += 1);
    assert_eq!(waits.observed("one").await.endpoint, endpoint);
    assert_eq!(fakes.reports().len(), reports + 1, "one report, of one orchestrator");

    // The first one stops: the second takes over at once.
    works.stop().await;
    let moved = waits.moved("one", &endpoint).await;
    call(&moved).await;
    assert_eq!(waits.processes().len(), 1);

    // Another process takes the lease: this one stops its servers and waits.
    fakes.take_lease("another");
    eventually(|| waits.processes().is_empty()).await;
    let reports = fakes.reports().len();
    fakes.edit("one", |installation| installation.generation += 1);
    fakes.free_lease();
    let back = waits.moved("one", &moved).await;
    call(&back).await;
    assert!(fakes.reports().len() > reports);
    waits.stop().await;
}
