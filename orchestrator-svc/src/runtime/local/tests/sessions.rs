//! A server of which each session has a process of its own.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use super::*;
use crate::domain::{spec::Transport, status::Told};

/// What the server's bridge answers to a client that opens a session.
async fn open(endpoint: &str) -> String {
    let socket = endpoint.trim_start_matches("unix:").to_owned();
    // The process gets it as it is.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let open = move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        let accepted = "application/json, text/event-stream";
        write!(
            stream,
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: {accepted}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    tokio::task::spawn_blocking(open).await.unwrap()
}

#[tokio::test]
async fn a_server_that_runs_says_that_no_process_starts_for_another_session() {
    let local = Local::new().await;
    let spec = ServerSpec {
        transport: Transport::Stdio { one_per_session: true },
        ..local.spec(Kind::Runs)
    };
    local.runtime.apply("one", spec).await;
    let endpoint = local.running("one").await.endpoint;
    // It gets the process that was started to see that the server works.
    open(&endpoint).await;
    let broken = local.folder.path().join("i/one/work/broken");
    fs::write(&broken, "").unwrap();
    let answer = open(&endpoint).await;
    assert!(answer.contains("exit code 4"), "{answer}");
    let told = suite::until(&local, "one", "it says so", |s| s.sessions != Told::default()).await;
    assert!(told.sessions.summary.contains("exit code 4"), "{told:?}");
    assert_eq!((told.state, told.endpoint), (State::Running, endpoint.clone()));
    fs::remove_file(&broken).unwrap();
    while open(&endpoint).await.contains("error") {}
    suite::until(&local, "one", "it says no more", |s| s.sessions == Told::default()).await;
    local.runtime.release().await;
}
