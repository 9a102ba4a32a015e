//! The local runtime passes the suite, with real processes.

use std::{path::PathBuf, time::Duration};

use service_kit::Clock;

use super::*;
use crate::{
    config::{Backoff, Sandbox, SandboxMode},
    domain::spec::tests::spec,
    runtime::suite::{self, Kind, Subject},
};

struct Local {
    runtime: LocalRuntime,
    folder: tempfile::TempDir,
}

/// The bridge: a binary of this package, which cargo puts beside the folder of the test binaries.
fn bridge() -> PathBuf {
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
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
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
        Self {
            runtime: LocalRuntime::new(config, Clock::System).await.unwrap(),
            folder,
        }
    }
}

impl Subject for Local {
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
        let folder = self.folder.path().canonicalize().unwrap();
        let wanted = format!("{}={}:{owner}", stdio_bridge::MARKER, folder.display());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.map(|process| process.path().join("environ")).any(|environ| {
            let environment = std::fs::read(environ).unwrap_or_default();
            environment
                .split(|b| *b == 0)
                .any(|variable| variable == wanted.as_bytes())
        })
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
    while !local.runs("one") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    local.runtime.release().await;
    assert!(!local.runs("one"));
}

/// A server's files are kept until its owner is removed.
#[tokio::test]
async fn folders_stay_until_their_owner_is_removed() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    let work = local.folder.path().join("i/one/work");
    while !work.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(work.join("kept"), "x").unwrap();
    local.runtime.stop("one").await;
    assert!(work.join("kept").exists());
    local.runtime.remove("one").await.unwrap();
    assert!(!work.exists());
}

/// Counts, and has none.
#[derive(Default)]
struct Missing(std::sync::atomic::AtomicU64);

#[async_trait::async_trait]
impl crate::domain::spec::SecretSource for Missing {
    async fn draw(&self) -> Result<crate::domain::spec::Secrets, crate::domain::spec::DrawError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Err(crate::domain::spec::DrawError::Missing(crate::domain::spec::Missing {
            reason: "CREDENTIAL_REQUIRED",
            message: "Enter it.".to_owned(),
        }))
    }
}

/// Each status is reported, and its report comes back as another look at the same spec: the look must not make another status.
#[tokio::test]
async fn secrets_that_are_missing_again_make_no_other_status() {
    let local = Local::new().await;
    let source = Arc::new(Missing::default());
    let spec = || ServerSpec {
        secrets: Arc::clone(&source) as _,
        ..local.spec(Kind::Runs)
    };
    let drawn = async |times| {
        while source.0.load(std::sync::atomic::Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    local.runtime.apply("one", spec()).await;
    drawn(1).await;
    while local
        .runtime
        .status("one")
        .is_none_or(|status| status.reason != "CREDENTIAL_REQUIRED")
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut observed = local.runtime.observe();
    observed.next().await.unwrap();
    for times in 2..5 {
        local.runtime.apply("one", spec()).await;
        drawn(times).await;
    }
    local
        .runtime
        .hold(
            "two",
            crate::domain::status::Held {
                reason: "FIELD_REQUIRED",
                message: String::new(),
                generation: 1,
                expected: true,
            },
        )
        .await;
    let next = observed.next().await.unwrap();
    assert_eq!(next.owner, "two", "{next:?}");
    local.runtime.release().await;
}
