//! Plants a secret and looks for it where it must not be. A separate program, since it captures the log of the whole process.

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use contracts::registry::report_cleanup_request::Subject;
use support::{
    Stack,
    entries::{environment, remote, secret},
    fake_registry::FakeRegistry,
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_in_no_file_no_log_and_no_report() {
    const CANARIES: [&str; 3] = ["canary-5f1c0a77", "canary-refused-31d2", "canary-rotated-88e1"];
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let registry = FakeRegistry::new();
    let fields = vec![secret("token", true, None), secret("env", false, environment("E"))];
    registry.save_entry(remote("e", "https://here.example.com", fields));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    let id = "0b5d0e0a-7d55-4a0f-8f43-333333333333";
    let put = stack
        .put_with_id("alice", "i", &[("token", CANARIES[0]), ("env", CANARIES[0])], id)
        .await
        .unwrap();
    let refused = format!("{}\n", CANARIES[1]);
    let refused = stack
        .put("alice", "i", &[("token", &refused), (CANARIES[1], "x")])
        .await
        .unwrap_err();
    let reused = stack
        .put_with_id("alice", "i", &[("token", CANARIES[1])], id)
        .await
        .unwrap_err();
    let rotated = stack.put("alice", "i", &[("token", CANARIES[2])]).await.unwrap();
    let vended = stack.headers("i", "https://here.example.com", 0).await.unwrap();
    assert_eq!(vended.headers[0].value, format!("Bearer {}", CANARIES[2]));
    let runtime = stack.runtime("i", "https://here.example.com").await.unwrap();
    assert_eq!(runtime.fields[0].value, CANARIES[0]);
    let answers = format!("{put:?} {refused:?} {reused:?} {rotated:?} {vended:?} {runtime:?}");
    let reports = format!("{registry:?}");
    let search = |what: &str, bytes: &[u8]| {
        for canary in CANARIES {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in {what}");
        }
    };
    let search_files = || {
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            search(&path.display().to_string(), &std::fs::read(&path).unwrap());
        }
    };
    search_files();
    // What is not secret is found: the search works.
    let database =
        ["credentials.db", "credentials.db-wal"].map(|name| std::fs::read(directory.path().join(name)).unwrap());
    assert!(database.concat().windows(14).any(|window| window == b"installation:i"));
    registry.delete_installation("i");
    registry.cleaned_up(Subject::InstallationUid("i".to_owned())).await;
    search_files();
    stack.kill().await;
    search("an answer", answers.as_bytes());
    search("a report", reports.as_bytes());
    let log = log.0.lock().unwrap().clone();
    assert!(log.len() > 10_000, "the log was taken");
    search("the log", &log);
}
