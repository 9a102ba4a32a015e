//! Servers wait for slots in turn.

use std::os::unix::net::UnixStream;

use futures::StreamExt as _;

use super::{
    crashes::kill_server,
    secrets::{Answers, Source, with_secret},
    *,
};
use crate::domain::runtime::Restart;

fn restart(id: &str) -> Restart {
    Restart {
        id: id.to_owned(),
        update_package_of: None,
    }
}

/// A server that is being restarted, while others occupy the start slots. Its status before the restart comes with it.
async fn restarting() -> (Local, Status, OwnedSemaphorePermit) {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    let first = local.running("one").await;
    let occupied = local.occupy_starts().await;
    queue_restart(&local, "one").await;
    (local, first, occupied)
}

async fn queue_restart(local: &Local, owner: &str) {
    local.runtime.restart(owner, restart("a")).await.unwrap();
    // On one thread, a supervisor that has looked at a later spec has taken up the restart, too.
    let later = ServerSpec {
        generation: 2,
        ..local.spec(Kind::Runs)
    };
    local.runtime.apply(owner, later).await;
    suite::until(local, owner, "it is looked at", |s| s.generation == 2).await;
}

#[tokio::test]
async fn a_server_is_kept_until_its_successor_has_a_slot() {
    let (local, first, occupied) = restarting().await;
    let kept = local.runtime.status("one").unwrap();
    assert_eq!((kept.state, &kept.endpoint), (State::Running, &first.endpoint));
    assert_eq!(
        (kept.requested_restart.as_str(), kept.observed_restart.as_str()),
        ("a", "")
    );
    UnixStream::connect(first.endpoint.trim_start_matches("unix:")).unwrap();
    drop(occupied);
    let second = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!((second.state, second.generation), (State::Running, 2));
    assert_ne!(second.endpoint, first.endpoint);
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_ends_before_its_successor_has_a_slot_has_one_all_the_same() {
    let (local, _, occupied) = restarting().await;
    kill_server(&local, "one");
    let waits = suite::until(&local, "one", "it ended", |s| s.state != State::Running).await;
    assert_eq!(
        (waits.state, waits.reason.as_str(), waits.observed_restart.as_str()),
        (State::Pending, "STARTING", "")
    );
    drop(occupied);
    let second = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!((second.state, second.restart_count), (State::Running, 0));
    local.runtime.release().await;
}

/// Another spec may mean that a secret was replaced, which the server must not use any more.
#[tokio::test]
async fn a_server_that_is_kept_is_stopped_when_another_spec_should_run() {
    let (local, first, occupied) = restarting().await;
    let other = ServerSpec {
        environment: [("OTHER".to_owned(), "1".to_owned())].into(),
        ..local.spec(Kind::Runs)
    };
    let digest = other.digest();
    local.runtime.apply("one", other).await;
    let stopped = suite::until(&local, "one", "it is stopped", |s| s.state != State::Running).await;
    assert_eq!((stopped.reason.as_str(), stopped.endpoint.as_str()), ("STARTING", ""));
    drop(occupied);
    let second = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!((second.state, second.spec_digest), (State::Running, digest));
    assert_ne!(second.endpoint, first.endpoint);
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_is_kept_is_stopped_when_none_should_run() {
    let (local, _, occupied) = restarting().await;
    let held = Held {
        reason: "FIELD_REQUIRED",
        message: String::new(),
        generation: 3,
        expected: true,
    };
    local.runtime.hold("one", held).await;
    let held = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!(held.reason, "FIELD_REQUIRED");
    assert!(!local.runs("one"));
    drop(occupied);
    local.runtime.release().await;
}

fn fails_slowly() -> ServerSpec {
    ServerSpec {
        arguments: vec!["-c".to_owned(), "import time; time.sleep(1); exit(1)".to_owned()],
        ..spec("python3")
    }
}

/// The first of two owners whose server becomes ready once one start slot is free.
async fn first_to_start(local: &Local, mut occupied: OwnedSemaphorePermit) -> String {
    // What there is comes first.
    let mut changes = local.runtime.observe().skip(2);
    drop(occupied.split(1));
    loop {
        let Observed { owner, status } = changes.next().await.unwrap();
        if status.is_some_and(|status| status.state == State::Running) {
            return owner;
        }
    }
}

/// Calls wait for it, not for one that is kept.
#[tokio::test]
async fn a_server_is_started_before_one_whose_predecessor_runs() {
    let (local, _, occupied) = restarting().await;
    local.runtime.apply("two", local.spec(Kind::Runs)).await;
    suite::until(&local, "two", "it is queued", |s| s.reason == "STARTING").await;
    assert_eq!(first_to_start(&local, occupied).await, "two");
    suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_whose_predecessor_has_ended_is_started_before_one_whose_predecessor_runs() {
    let local = Local::new().await;
    for owner in ["one", "two"] {
        local.runtime.apply(owner, local.spec(Kind::Runs)).await;
        local.running(owner).await;
    }
    let occupied = local.occupy_starts().await;
    for owner in ["one", "two"] {
        queue_restart(&local, owner).await;
    }
    kill_server(&local, "two");
    suite::until(&local, "two", "it ended", |s| s.state != State::Running).await;
    assert_eq!(first_to_start(&local, occupied).await, "two");
    local.runtime.release().await;
}

/// It does not keep a start slot from the others meanwhile.
#[tokio::test]
async fn a_server_that_was_not_ready_within_its_slot_waits_for_a_slow_one_too() {
    let mut local = Local::with_backoff(Duration::from_secs(600)).await;
    Arc::get_mut(&mut local.runtime.shared).unwrap().start = Duration::ZERO;
    local.runtime.apply("one", fails_slowly()).await;
    suite::until(&local, "one", "it failed", |s| s.state == State::Failed).await;
    let (starts, slow) = (&local.runtime.shared.starts.slots, &local.runtime.shared.slow_starts);
    let (all, all_slow) = (starts.available_permits(), slow.available_permits());
    assert!(all_slow < all);
    let occupied = slow.acquire_many(u32::try_from(all_slow).unwrap()).await.unwrap();
    local.runtime.restart("one", restart("a")).await.unwrap();
    suite::until(&local, "one", "it is queued", |s| s.reason == "STARTING").await;
    assert!(!local.runs("one"));
    assert_eq!(starts.available_permits(), all);
    drop(occupied);
    let failed = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!(failed.state, State::Failed);
    local.runtime.release().await;
}

#[tokio::test]
async fn a_changed_spec_does_not_wait_for_a_slow_slot() {
    let mut local = Local::with_backoff(Duration::from_secs(600)).await;
    Arc::get_mut(&mut local.runtime.shared).unwrap().start = Duration::ZERO;
    local.runtime.apply("one", fails_slowly()).await;
    suite::until(&local, "one", "it failed", |s| s.state == State::Failed).await;
    let slow = &local.runtime.shared.slow_starts;
    let all = u32::try_from(slow.available_permits()).unwrap();
    let _occupied = slow.acquire_many(all).await.unwrap();
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    local.runtime.release().await;
}

/// Its successor would have the secrets of the spec before.
#[tokio::test]
async fn a_place_in_the_queue_is_given_up_while_the_secrets_of_another_spec_are_drawn() {
    let (local, _, occupied) = restarting().await;
    let source = Source::that(Answers::Never);
    local.runtime.apply("one", with_secret(&local, &source)).await;
    source.asked(1).await;
    let slots = occupied.num_permits();
    drop(occupied);
    assert_eq!(local.runtime.shared.starts.slots.available_permits(), slots);
    local.runtime.release().await;
}

/// Each status is reported, and its report comes back as another look at the same spec. On one thread, a server whose status says that it is
/// being started is in the queue.
#[tokio::test]
async fn another_look_at_a_spec_keeps_its_place_in_the_queue() {
    let local = Local::new().await;
    let occupied = local.occupy_starts().await;
    for owner in ["first", "second"] {
        local.runtime.apply(owner, local.spec(Kind::Runs)).await;
        suite::until(&local, owner, "it is queued", |s| s.reason == "STARTING").await;
    }
    let again = ServerSpec {
        generation: 2,
        ..local.spec(Kind::Runs)
    };
    local.runtime.apply("first", again).await;
    suite::until(&local, "first", "it is looked at", |s| s.generation == 2).await;
    assert_eq!(first_to_start(&local, occupied).await, "first");
    local.runtime.release().await;
}
