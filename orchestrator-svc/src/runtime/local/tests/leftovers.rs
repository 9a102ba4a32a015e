//! What a bridge leaves that was killed is ended by the service, and nothing else is.

use std::process::{Child, Command};

use futures::FutureExt as _;
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
pub(super) fn bridge_of(local: &Local, owner: &str) -> Pid {
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
    suite::until(&local, "one", "it failed", |s| s.state == State::Pending).await;
    local.running("one").await;
    assert!(!stray.lives());
    local.runtime.release().await;
}

/// A registry that was restored may have the installation again, whose server is then started.
#[test]
fn a_removal_that_is_cancelled_ends_no_process_that_is_started_later() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let local = Local::new().await;
        fs::create_dir_all(local.folder.path().join("i/one")).unwrap();
        let (busy, occupied) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || occupied.recv());
        assert!(local.runtime.remove("one").now_or_never().is_none());
        let mut later = Stray::of(&local, "one");
        drop(busy);
        // The thread has done what it was asked before.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert!(later.lives());
        // One that is not cancelled ends it.
        local.runtime.remove("one").await.unwrap();
        assert!(!later.lives());
    });
}
