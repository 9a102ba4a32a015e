//! What a bridge leaves that was killed is ended by the service, and nothing else is.

use std::process::{Child, Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::*;

/// A process with the marker of an owner's server that no bridge knows: as one that a bridge left.
struct Stray(Child);

impl Stray {
    fn of(local: &Local, owner: &str) -> Self {
        let folder = local.folder.path().canonicalize().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        command.env(stdio_bridge::MARKER, format!("{}:{owner}", folder.display()));
        Self(command.spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The bridge of an owner's server: the child of this process that the server descends from. A stray is a child itself.
fn bridge_of(local: &Local, owner: &str) -> Pid {
    let me = i32::try_from(std::process::id()).unwrap();
    let parent = |pid: &i32| ::sandbox::living_parent(*pid).filter(|parent| *parent != me);
    let mut ancestors = local.processes(owner).into_iter().filter_map(|pid| parent(&pid));
    let first = ancestors.next();
    Pid::from_raw(std::iter::successors(first, parent).last().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_server_whose_bridge_is_killed_while_it_stops() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    let bridge = bridge_of(&local, "one");
    let mut stray = Stray::of(&local, "one");
    // It reads that it must stop, and does nothing any more.
    kill(bridge, Signal::SIGSTOP).unwrap();
    let stopping = async {
        local.runtime.stop("one").await;
        assert!(!stray.lives());
    };
    let killing = async { kill(bridge, Signal::SIGKILL).unwrap() };
    tokio::join!(stopping, killing);
    assert!(!local.runs("one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_bridge_that_fails_makes_the_service_look_for_what_it_left() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Ends)).await;
    let mut stray = Stray::of(&local, "one");
    suite::until(&local, "one", "it ended three times", |s| s.restart_count >= 3).await;
    assert!(stray.lives());
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    kill(bridge_of(&local, "one"), Signal::SIGKILL).unwrap();
    suite::until(&local, "one", "it failed", |s| s.reason == "BRIDGE_FAILED").await;
    local.running("one").await;
    assert!(!stray.lives());
    local.runtime.release().await;
}
