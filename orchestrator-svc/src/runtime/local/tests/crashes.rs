//! Servers that end by themselves after they were ready.

use futures::StreamExt as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{leftovers::bridge_of, *};

pub(super) fn kill_server(local: &Local, owner: &str) {
    for pid in local.processes(owner) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn kill_bridge(local: &Local, owner: &str) {
    kill(bridge_of(local, owner), Signal::SIGKILL).unwrap();
}

/// The first status after each end of the server, which is killed as soon as it runs.
async fn after_each(crashes: usize, crash: fn(&Local, &str)) -> Vec<(State, String)> {
    let local = Local::new().await;
    let mut observed = local.runtime.observe();
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    let (mut seen, mut ran) = (Vec::new(), false);
    while seen.len() < crashes {
        let status = observed.next().await.unwrap().status.unwrap();
        let runs = status.state == State::Running;
        match (std::mem::replace(&mut ran, runs), runs) {
            (false, true) => crash(&local, "one"),
            (true, false) => seen.push((status.state, status.reason)),
            _ => {}
        }
    }
    local.runtime.release().await;
    seen
}

/// Nobody must repair what is only being started again: calls wait for it.
#[tokio::test]
async fn only_a_loop_of_crashes_is_a_failure() {
    for (crash, failed) in [
        (kill_server as fn(&Local, &str), "CRASH_LOOP"),
        (kill_bridge, "BRIDGE_FAILED"),
    ] {
        let again = (State::Pending, "STARTING".to_owned());
        let expected = [again.clone(), again, (State::Failed, failed.to_owned())];
        assert_eq!(after_each(3, crash).await, expected);
    }
}

#[tokio::test]
async fn a_server_that_crashed_and_does_not_start_again_has_failed() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    fs::write(local.folder.path().join("i/one/work/broken"), "").unwrap();
    kill_server(&local, "one");
    let crashed = suite::until(&local, "one", "it ended", |s| s.state != State::Running).await;
    assert_eq!((crashed.state, crashed.reason.as_str()), (State::Pending, "STARTING"));
    assert!(
        crashed.message.contains("SIGKILL") && crashed.message.ends_with("The server is being started again."),
        "{crashed:?}"
    );
    let failed = suite::until(&local, "one", "it failed", |s| s.state == State::Failed).await;
    assert_eq!(failed.reason, "EXITED");
    assert!(failed.message.contains("cannot reach the database"), "{failed:?}");
    local.runtime.release().await;
}
