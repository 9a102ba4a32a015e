//! Updates of packages, with a FAKE of npm.

use std::{fs, path::Path};

use super::{crashes::kill_server, *};

/// A folder with npm and npx in it.
fn tools() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    for (program, name) in [("npm", "npm"), ("npm", "npx"), ("server.py", "server.py")] {
        fs::copy(programs.join(program), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("version"), "1.0.0").unwrap();
    folder
}

fn packaged(tools: &Path) -> ServerSpec {
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    ServerSpec {
        arguments: ["-y", "server"].map(str::to_owned).into(),
        environment: [("PATH".to_owned(), path)].into(),
        ..spec("npx")
    }
}

fn update(id: &str) -> Restart {
    Restart {
        id: id.to_owned(),
        update_package_of: Some(1),
    }
}

/// The outcome of a restart is that of the server, not that of the update before it.
#[tokio::test]
async fn an_update_that_fails_before_its_server_is_started_has_no_outcome_yet() {
    let (local, tools) = (Local::new().await, tools());
    let mut spec = packaged(tools.path());
    local.runtime.apply("one", spec.clone()).await;
    local.running("one").await;
    // The server of another spec waits for a start slot.
    let occupied = local.occupy_starts().await;
    spec.environment.insert("OTHER".to_owned(), "1".to_owned());
    local.runtime.apply("one", spec).await;
    suite::until(&local, "one", "it is queued", |s| s.reason == "STARTING").await;
    fs::write(tools.path().join("broken"), "").unwrap();
    local.runtime.restart("one", update("a")).await.unwrap();
    // The fetch writes why it fails, and its folder is removed before the supervisor does anything else.
    let query = LogQuery {
        tail: 100,
        since: 0,
        follow: true,
        previous: false,
    };
    let mut lines = local.runtime.logs("one", query);
    while !lines.next().await.unwrap().text.contains("does not answer") {}
    let packages = local.folder.path().join("packages");
    while fs::read_dir(&packages).unwrap().count() > 1 {
        tokio::task::yield_now().await;
    }
    drop(occupied);
    let outcome = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!(outcome.state, State::Running, "{outcome:?}");
    assert!(outcome.message.contains("was not updated"), "{outcome:?}");
    local.runtime.release().await;
}

/// A server that has failed, and waits to be started again, has both outcomes.
#[tokio::test]
async fn a_failed_update_is_added_to_the_message_of_a_failed_server() {
    let (local, tools) = (Local::with_backoff(Duration::from_secs(600)).await, tools());
    fs::write(tools.path().join("server.py"), "import sys\nsys.exit('no database')\n").unwrap();
    local.runtime.apply("one", packaged(tools.path())).await;
    let first = suite::until(&local, "one", "it failed", |s| s.state == State::Failed).await;
    fs::write(tools.path().join("slow"), "").unwrap();
    local.runtime.restart("one", update("a")).await.unwrap();
    let again = |s: &Status| s.state == State::Failed && s.start_time != first.start_time;
    suite::until(&local, "one", "it failed again", again).await;
    fs::remove_file(tools.path().join("version")).unwrap();
    fs::remove_file(tools.path().join("slow")).unwrap();
    let outcome = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!(outcome.state, State::Failed);
    for text in ["no database", "was not updated", "The package manager ended"] {
        assert!(outcome.message.contains(text), "{outcome:?}");
    }
    local.runtime.release().await;
}

/// The registry does not answer the update. A restart that requests none restarts the server, and has an outcome; the update goes on.
#[tokio::test]
async fn a_restart_without_an_update_does_not_wait_for_one_that_hangs() {
    let (local, tools) = (Local::new().await, tools());
    local.runtime.apply("one", packaged(tools.path())).await;
    let first = local.running("one").await;
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    fs::write(tools.path().join("slow"), "").unwrap();
    local.runtime.restart("one", update("a")).await.unwrap();
    let packages = local.folder.path().join("packages");
    while fs::read_dir(&packages).unwrap().count() < 2 {
        tokio::task::yield_now().await;
    }
    let plain = Restart {
        id: "b".to_owned(),
        update_package_of: None,
    };
    local.runtime.restart("one", plain).await.unwrap();
    let second = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "b").await;
    assert_eq!(second.state, State::Running, "{second:?}");
    assert_ne!(second.endpoint, first.endpoint);
    assert!(second.update.contains("server is being updated"), "{second:?}");
    fs::remove_file(tools.path().join("slow")).unwrap();
    let updated = |s: &Status| s.package.as_ref().is_some_and(|package| package.version == "2.0.0");
    let updated = suite::until(&local, "one", "the update", updated).await;
    assert_eq!(updated.update, "");
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_is_kept_until_its_update_has_a_start_slot() {
    let (local, tools) = (Local::new().await, tools());
    let spec = packaged(tools.path());
    local.runtime.apply("one", spec.clone()).await;
    let first = local.running("one").await;
    let occupied = local.occupy_starts().await;
    fs::write(tools.path().join("version"), "2.0.0").unwrap();
    local.runtime.restart("one", update("a")).await.unwrap();
    // There are the trees of both versions, and no folder of a fetch. Its removal is followed by the restart.
    let packages = local.folder.path().join("packages");
    let trees = || {
        fs::read_dir(&packages)
            .unwrap()
            .filter_map(|tree| tree.unwrap().file_name().into_string().ok())
    };
    while trees().count() != 2 || trees().any(|tree| tree.starts_with("new-")) {
        tokio::task::yield_now().await;
    }
    let later = ServerSpec { generation: 2, ..spec };
    local.runtime.apply("one", later).await;
    let kept = suite::until(&local, "one", "it is looked at", |s| s.generation == 2).await;
    assert_eq!((kept.state, &kept.endpoint), (State::Running, &first.endpoint));
    assert_eq!(kept.observed_restart, "");
    drop(occupied);
    let second = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!(second.package.unwrap().version, "2.0.0");
    assert_eq!(second.state, State::Running);
    local.runtime.release().await;
}

/// A server whose package is being updated from a registry that does not answer.
async fn updating() -> (Local, tempfile::TempDir, ServerSpec) {
    updating_in(Local::new().await).await
}

async fn updating_in(local: Local) -> (Local, tempfile::TempDir, ServerSpec) {
    let tools = tools();
    let spec = packaged(tools.path());
    local.runtime.apply("one", spec.clone()).await;
    local.running("one").await;
    fs::write(tools.path().join("slow"), "").unwrap();
    local.runtime.restart("one", update("a")).await.unwrap();
    let packages = local.folder.path().join("packages");
    while fs::read_dir(&packages).unwrap().count() < 2 {
        tokio::task::yield_now().await;
    }
    (local, tools, spec)
}

#[tokio::test]
async fn the_status_says_that_an_update_is_in_progress_until_it_is_over() {
    let (local, tools, _) = updating().await;
    let updating = local.runtime.status("one").unwrap();
    assert_eq!(
        (updating.state, updating.observed_restart.as_str()),
        (State::Running, "")
    );
    assert!(updating.update.contains("server is being updated"), "{updating:?}");
    fs::remove_file(tools.path().join("version")).unwrap();
    fs::remove_file(tools.path().join("slow")).unwrap();
    let outcome = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert!(outcome.message.contains("was not updated"), "{outcome:?}");
    assert_eq!(outcome.update, "");
    local.runtime.release().await;
}

/// The outcome is that of the server, which is yet to be started.
#[tokio::test]
async fn an_update_that_fails_after_its_server_crashed_has_no_outcome_yet() {
    let (local, tools, spec) = updating_in(Local::with_backoff(Duration::from_secs(600)).await).await;
    kill_server(&local, "one");
    suite::until(&local, "one", "it ended", |s| s.state == State::Pending).await;
    fs::remove_file(tools.path().join("version")).unwrap();
    fs::remove_file(tools.path().join("slow")).unwrap();
    let packages = local.folder.path().join("packages");
    while fs::read_dir(&packages).unwrap().count() > 1 {
        tokio::task::yield_now().await;
    }
    local.runtime.apply("one", ServerSpec { generation: 2, ..spec }).await;
    let waits = suite::until(&local, "one", "it is looked at", |s| s.generation == 2).await;
    assert_eq!((waits.update.as_str(), waits.observed_restart.as_str()), ("", ""));
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_is_held_is_not_being_updated() {
    let (local, _tools, _) = updating().await;
    let held = Held {
        reason: "FIELD_REQUIRED",
        message: String::new(),
        generation: 2,
        expected: true,
    };
    local.runtime.hold("one", held).await;
    suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!(local.runtime.status("one").unwrap().update, "");
    local.runtime.release().await;
}

#[tokio::test]
async fn an_update_that_was_requested_for_an_earlier_revision_is_not_made_and_says_so() {
    let (local, _tools, mut spec) = updating().await;
    spec.revision = 2;
    spec.environment.insert("OTHER".to_owned(), "1".to_owned());
    let digest = spec.digest();
    local.runtime.apply("one", spec).await;
    let outcome = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!((outcome.state, outcome.spec_digest), (State::Running, digest));
    assert!(
        outcome.message.contains("the entry has changed"),
        "{:?}",
        outcome.message
    );
    local.runtime.release().await;
}

/// Additional headers make a revision, and the same server runs.
#[tokio::test]
async fn an_update_is_not_made_either_if_the_later_revision_runs_the_same_server() {
    let (local, _tools, mut spec) = updating().await;
    let first = local.runtime.status("one").unwrap();
    spec.revision = 2;
    local.runtime.apply("one", spec).await;
    let outcome = suite::until(&local, "one", "the outcome", |s| s.observed_restart == "a").await;
    assert_eq!((outcome.state, outcome.endpoint), (State::Running, first.endpoint));
    assert!(
        outcome.message.contains("the entry has changed"),
        "{:?}",
        outcome.message
    );
    local.runtime.release().await;
}
