//! What runs follows what the registry says.

mod support;

use std::fs;

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, InstallFieldType, RemoteServer, WatchedInstallation,
    entry::Server, report_cleanup_request::Subject, watched_object::Object,
};
use pretty_assertions::assert_eq;
use serde_json::json;
use support::{Stack, call, eventually, fakes::Fakes, installation, server, variable};

const SECRET: &str = "canary-7f3a9c-secret";

fn credential(watched: &mut WatchedInstallation, status: ConditionStatus, generation: i64) {
    let installation = watched.installation.as_mut().unwrap();
    installation
        .conditions
        .retain(|c| c.r#type() != ConditionType::CredentialReady);
    let kind = ConditionType::CredentialReady.into();
    installation.conditions.push(Condition {
        r#type: kind,
        status: status.into(),
        ..Condition::default()
    });
    installation.credential_generation = generation;
    installation.generation += 1;
}

#[tokio::test]
async fn runs_an_installation_and_follows_its_values_but_not_its_labels() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let fields = vec![variable("region", InstallFieldType::String, "REGION")];
    fakes.put("one", installation("one", "builtin", &["--x"], fields));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let seen = call(&endpoint).await;
    assert_eq!(seen["arguments"], json!(["--x"]));
    assert_eq!(seen["environment"].get("REGION"), None);
    assert!(
        seen["environment"].get("CARGO_MANIFEST_DIR").is_none(),
        "the service's environment stays with it"
    );

    fakes.edit("one", |w| {
        w.running_entry
            .as_mut()
            .unwrap()
            .labels
            .insert("a".to_owned(), "b".to_owned());
        w.running_entry.as_mut().unwrap().display_name = "Other".to_owned();
        w.installation.as_mut().unwrap().generation = 2;
    });
    eventually(|| fakes.condition("one").unwrap().observed_generation == 2).await;
    assert_eq!(call(&endpoint).await["pid"], seen["pid"], "lesson 27");

    fakes.edit("one", |w| {
        let installation = w.installation.as_mut().unwrap();
        installation.values.insert("region".to_owned(), "eu".to_owned());
        installation.generation = 3;
    });
    let moved = stack.moved("one", &endpoint).await;
    assert_eq!(call(&moved).await["environment"]["REGION"], "eu");
    assert_eq!(stack.processes().len(), 1, "the one before is gone");
    let last = fakes.reports().pop().unwrap();
    assert_eq!((last.status(), last.observed_generation), (ConditionStatus::True, 3));
    stack.stop().await;
}

#[tokio::test]
async fn waits_for_the_credential_and_keeps_it_out_of_everything_but_the_server() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let mut token = variable("token", InstallFieldType::Secret, "TOKEN");
    token.required = true;
    let script = server();
    fakes.put("one", installation("one", "python3", &[&script], vec![token.clone()]));
    fakes.put("two", installation("two", "python3", &[&script], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    assert_eq!(
        stack.reason("one", "CREDENTIAL_PENDING").await.status(),
        ConditionStatus::Unknown
    );
    fakes.edit("one", |w| credential(w, ConditionStatus::False, 0));
    assert_eq!(
        stack.reason("one", "CREDENTIAL_REQUIRED").await.status(),
        ConditionStatus::Unknown
    );

    fakes.secret("one", &[("token", SECRET)]);
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 1));
    let endpoint = stack.running("one").await;
    assert_eq!(call(&endpoint).await["environment"]["TOKEN"], SECRET);
    assert_eq!(fakes.destinations()[0], format!("command:python3 {script}"));
    let other = stack.running("two").await;
    assert_eq!(call(&other).await["environment"].get("TOKEN"), None, "lesson 25");

    // Of all processes, only the server has it.
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|p| p.parse::<i64>().ok()) else {
            continue;
        };
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(process.path().join(file)).unwrap_or_default();
            if String::from_utf8_lossy(&bytes).contains(SECRET) {
                holders.push(pid);
            }
        }
    }
    assert_eq!(json!(holders), json!([call(&endpoint).await["pid"]]));

    // The same secret again needs no restart; another one does.
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 2));
    eventually(|| fakes.condition("one").unwrap().observed_generation == 4).await;
    assert_eq!(fakes.shown("one").unwrap().runtime_endpoint, endpoint);
    fakes.secret("one", &[("token", "another-one")]);
    fakes.edit("one", |w| credential(w, ConditionStatus::True, 3));
    let moved = stack.moved("one", &endpoint).await;
    assert_eq!(call(&moved).await["environment"]["TOKEN"], "another-one");

    // Taken away again, the server goes.
    fakes.edit("one", |w| credential(w, ConditionStatus::False, 4));
    stack.reason("one", "CREDENTIAL_REQUIRED").await;
    eventually(|| stack.processes().len() == 1).await;
    stack.stop().await;
}

#[tokio::test]
async fn says_what_a_person_can_act_on() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let script = server();
    let token = variable("token", InstallFieldType::Secret, "TOKEN");
    fakes.secret("loop", &[("token", SECRET)]);
    fakes.put(
        "loop",
        installation("loop", "python3", &[&script, "--fail"], vec![token]),
    );
    fakes.edit("loop", |w| credential(w, ConditionStatus::True, 1));
    fakes.put(
        "absent",
        installation("absent", "no-such-command-anywhere", &[], Vec::new()),
    );
    let stack = Stack::start(folder.path(), &fakes).await;
    let absent = stack.reason("absent", "COMMAND_NOT_FOUND").await;
    assert_eq!(absent.status(), ConditionStatus::False);
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
        "lesson 42"
    );

    // Corrected, it runs at once.
    fakes.edit("loop", |w| {
        let Some(Server::SelfHosted(server)) = &mut w.running_entry.as_mut().unwrap().server else {
            panic!()
        };
        server.arguments.pop();
        w.installation.as_mut().unwrap().generation += 1;
    });
    stack.running("loop").await;
    stack.stop().await;
}

#[tokio::test]
async fn starts_a_server_again_that_was_killed() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.put("one", installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let pid = i32::try_from(call(&endpoint).await["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let moved = stack.moved("one", &endpoint).await;
    assert_ne!(call(&moved).await["pid"], pid);
    assert!(
        fakes
            .reports()
            .iter()
            .any(|r| r.reason == "EXITED" && r.message.contains("SIGKILL") && r.runtime_endpoint.is_empty())
    );
    stack.stop().await;
}

#[tokio::test]
async fn leaves_nothing_of_what_was_deleted() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.put("one", installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let work = call(&endpoint).await["folder"].as_str().unwrap().to_owned();
    let now = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    fakes.edit("one", |w| w.installation.as_mut().unwrap().delete_time = now);
    let mut remote = installation("two", "", &[], Vec::new());
    let Object::Installation(watched) = &mut remote else {
        panic!()
    };
    watched.running_entry.as_mut().unwrap().server = Some(Server::Remote(RemoteServer {
        url: "https://example.com".to_owned(),
    }));
    watched.installation.as_mut().unwrap().delete_time = now;
    fakes.put("two", remote);
    fakes.put(
        "e",
        Object::Entry(Entry {
            uid: "e".to_owned(),
            delete_time: now,
            ..Entry::default()
        }),
    );
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
async fn takes_its_servers_along_and_starts_them_again_elsewhere() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.put("one", installation("one", "builtin", &[], Vec::new()));
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
