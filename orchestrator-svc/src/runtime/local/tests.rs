//! The local runtime passes the suite, with real processes.

mod crashes;
mod drains;
mod leftovers;
mod secrets;
mod sessions;
mod slots;
mod updates;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use service_kit::Clock;
use tokio::sync::OwnedSemaphorePermit;

use super::*;
use crate::{
    config::{Backoff, Sandbox, SandboxMode},
    domain::{spec::tests::spec, status::State},
    runtime::suite::{self, Kind, Tested},
};

struct Local {
    runtime: LocalRuntime,
    start_slots: u32,
    folder: tempfile::TempDir,
}

/// The bridge: a binary of this package, which cargo puts beside the folder of the test binaries.
pub(super) fn bridge() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let bridge = test.ancestors().nth(2).unwrap().join("bridge-for-tests");
    assert!(
        bridge.exists(),
        "cargo build -p orchestrator-svc --bin bridge-for-tests makes {}",
        bridge.display()
    );
    bridge
}

impl Local {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with_backoff(first: Duration) -> Self {
        Self::with(|config| {
            config.backoff.first = first;
            config.backoff.longest = 2 * first;
        })
        .await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            data_dir: folder.path().to_owned(),
            program: bridge(),
            sandbox: Sandbox {
                mode: SandboxMode::Off,
                ..Sandbox::default()
            },
            backoff: Backoff {
                first: Duration::from_millis(10),
                longest: Duration::from_millis(20),
                stable: Duration::from_secs(60),
            },
            ..Config::default()
        };
        change(&mut config);
        let runtime = LocalRuntime::new(config, Clock::System).await.unwrap();
        Self {
            start_slots: runtime.shared.starts.slots.available_permits().try_into().unwrap(),
            runtime,
            folder,
        }
    }
}

impl Local {
    async fn running(&self, owner: &str) -> Status {
        suite::until(self, owner, "it runs", |status| status.state == State::Running).await
    }

    /// Occupies all start slots.
    async fn occupy_starts(&self) -> OwnedSemaphorePermit {
        let starts = Arc::clone(&self.runtime.shared.starts.slots);
        starts.acquire_many_owned(self.start_slots).await.unwrap()
    }

    /// The processes of an owner's server.
    fn processes(&self, owner: &str) -> Vec<i32> {
        let folder = self.folder.path().canonicalize().unwrap();
        let wanted = format!("{}={}:{owner}", stdio_bridge::MARKER, folder.display());
        let carries = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|b| *b == 0);
            variables.any(|variable| variable == wanted.as_bytes())
        };
        ::sandbox::processes().filter(carries).collect()
    }
}

impl Tested for Local {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn spec(&self, kind: Kind) -> ServerSpec {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/server.py").to_owned();
        let mut arguments = vec![script];
        if let Kind::Ends = kind {
            arguments.push("--fail".to_owned());
        }
        ServerSpec {
            arguments,
            ..spec("python3")
        }
    }

    fn runs(&self, owner: &str) -> bool {
        !self.processes(owner).is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_suite() {
    suite::run(Local::new).await;
}

/// The servers are children of this process, which may be about to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_stops_the_servers() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    local.runtime.release().await;
    assert!(!local.runs("one"));
}

/// A server cannot prevent its next start.
#[tokio::test]
async fn a_server_that_blocks_the_files_of_its_entry_is_started_again() {
    let local = Local::new().await;
    let paths = ["file", "in/file", "link/file", "closed/file"];
    let spec = ServerSpec {
        files: paths.map(|path| (path.to_owned(), "the entry's".to_owned())).into(),
        ..local.spec(Kind::Runs)
    };
    local.runtime.apply("one", spec.clone()).await;
    local.running("one").await;
    local.runtime.stop("one").await;
    let work = local.folder.path().join("i/one/work");
    let outside = local.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for path in ["file", "link/file"] {
        fs::remove_file(work.join(path)).unwrap();
    }
    fs::create_dir_all(work.join("file/deep")).unwrap();
    fs::remove_dir_all(work.join("in")).unwrap();
    fs::write(work.join("in"), "a file where a folder belongs").unwrap();
    fs::remove_dir(work.join("link")).unwrap();
    symlink(&outside, work.join("link")).unwrap();
    fs::set_permissions(work.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    local.runtime.apply("one", spec).await;
    local.running("one").await;
    for path in paths {
        assert_eq!(fs::read_to_string(work.join(path)).unwrap(), "the entry's", "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "no link is followed");
    local.runtime.release().await;
}

/// A server's files are kept until its owner is removed.
#[tokio::test]
async fn folders_stay_until_their_owner_is_removed() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    let work = local.folder.path().join("i/one/work");
    std::fs::write(work.join("kept"), "x").unwrap();
    local.runtime.stop("one").await;
    assert!(work.join("kept").exists());
    local.runtime.remove("one").await.unwrap();
    assert!(!work.exists());
}
