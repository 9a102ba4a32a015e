//! A stdio server of which each session has a process of its own.

mod harness;

use std::{fs, os::unix::fs::MetadataExt as _};

use harness::{Bridge, Client, eventually};
use pretty_assertions::{assert_eq, assert_ne};
use serde_json::{Value, json};
use stdio_bridge::{EndReason, Event, File, NOT_TAKEN_HEADER, STOP, Spec, StartFailure, Transport};
use tokio::task::{JoinHandle, JoinSet};

fn apart(spec: &mut Spec) {
    spec.transport = Transport::Stdio { one_per_session: true };
}

async fn bridge(change: impl FnOnce(&mut Spec)) -> Bridge {
    Bridge::ready_with("good", |spec| {
        apart(spec);
        change(spec);
    })
    .await
}

async fn session(bridge: &Bridge) -> Client {
    opened(bridge.client()).await
}

async fn opened(mut client: Client) -> Client {
    let initialized = client.initialize("2025-11-25").await;
    assert_eq!(initialized["result"]["instructions"], "kept", "{initialized}");
    client
}

/// The number of calls that the process has counted.
async fn count(client: &Client) -> Value {
    client.call(json!(1), "count", json!({})).await["result"]["calls"].clone()
}

/// The status of an answer to a call.
async fn status(client: &Client) -> u16 {
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "count", "arguments": {}}});
    client.post(&message).await.0.as_u16()
}

#[tokio::test]
async fn sessions_do_not_see_each_other() {
    let mut bridge = bridge(|_| ()).await;
    let (one, two) = (session(&bridge).await, session(&bridge).await);
    assert_ne!(one.session, two.session);
    for expected in 1..=3 {
        assert_eq!(count(&one).await, expected);
    }
    assert_eq!(count(&two).await, 1);
    assert_eq!(count(&one).await, 4);
    two.call(json!(1), "say", json!({"text": "after"})).await;
    bridge.wait_for_log("after").await;
    let initialized = |text: &str| {
        let lines = bridge.logs.iter().filter(|l| l.starts_with("initialize "));
        lines.filter(|line| line.contains(text)).count()
    };
    assert_eq!(
        initialized(r#""capabilities": {"roots": {}}, "clientInfo": {"name": "t""#),
        2
    );
    assert_eq!(initialized(r#""capabilities": {}"#), 1, "to see that the server works");
}

#[tokio::test]
async fn nothing_is_served_without_a_session() {
    let bridge = bridge(|_| ()).await;
    assert_eq!(status(&bridge.client()).await, 400);
    let mut forged = session(&bridge).await;
    let id = forged.session.take().unwrap();
    for other in [
        "x".repeat(65),
        "é".repeat(40),
        id[..31].to_owned(),
        id.replace('-', "x") + &"y".repeat(80),
    ] {
        forged.session = Some(other);
        assert_eq!(status(&forged).await, 404);
    }
}

#[tokio::test]
async fn a_process_that_ends_takes_its_own_session_with_it_and_no_other() {
    let mut bridge = bridge(|_| ()).await;
    let (mut one, two) = (session(&bridge).await, session(&bridge).await);
    assert_eq!(count(&two).await, 1);
    let answer = one.call(json!(7), "exit", json!({"code": 3})).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["message"]),
        (&json!(7), &json!("The MCP server ended with exit code 3."))
    );
    assert_eq!(status(&one).await, 404);
    bridge
        .wait_for_log("[session 2: its process is gone. The MCP server ended with exit code 3.]")
        .await;
    assert_eq!(count(&two).await, 2);
    one.session = None;
    one.initialize("2025-11-25").await;
    assert_eq!(count(&one).await, 1);
}

#[tokio::test]
async fn the_longest_idle_session_gives_way() {
    let mut bridge = bridge(|spec| spec.limits.sessions = 2).await;
    let (one, two) = (session(&bridge).await, session(&bridge).await);
    assert_eq!((count(&two).await, count(&one).await), (json!(1), json!(1)));
    let three = session(&bridge).await;
    assert_eq!(status(&two).await, 404);
    assert_eq!((count(&one).await, count(&three).await), (json!(2), json!(1)));
    // No session gives way while it has a request under way.
    let waiting: Vec<_> = [&one, &three]
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.call(json!(1), "wait", json!({})).await })
        })
        .into();
    for _ in &waiting {
        bridge.wait_for_log("waiting").await;
        bridge.logs.clear();
    }
    let initialize = json!({"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {}});
    let (refused, headers, body) = bridge.client().post(&initialize).await;
    assert_eq!(
        (refused.as_u16(), &headers["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    assert_eq!(headers[NOT_TAKEN_HEADER], "full");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["id"], 9);
    assert!(
        body["error"]["message"].as_str().unwrap().contains("Try again later"),
        "{body}"
    );
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    one.post(&cancel).await;
    let four = session(&bridge).await;
    assert_eq!((status(&one).await, count(&four).await), (404, json!(1)));
    for call in waiting {
        call.abort();
    }
}

/// A session with a call under way that does not end.
async fn busy(bridge: &mut Bridge, caller: &str) -> (Client, JoinHandle<Value>) {
    let client = opened(bridge.client_of(Some(caller))).await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(json!(1), "wait", json!({})).await }
    });
    bridge.wait_for_log("waiting").await;
    bridge.logs.clear();
    (client, call)
}

/// What the bridge says when it refuses a session: what is taken, and the text for people.
async fn refused(client: &Client) -> (String, String) {
    let (status, headers, body) = client
        .post(&json!({"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {}}))
        .await;
    assert_eq!(status.as_u16(), 503, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = body["error"]["message"].as_str().unwrap().to_owned();
    (headers[NOT_TAKEN_HEADER].to_str().unwrap().to_owned(), text)
}

#[tokio::test]
async fn one_caller_takes_no_more_than_half_of_the_processes_and_none_the_gateways_own() {
    let mut bridge = bridge(|spec| spec.limits.sessions = 4).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(busy(&mut bridge, "alice").await);
    }
    let (what, text) = refused(&bridge.client_of(Some("alice"))).await;
    assert_eq!(what, "share");
    assert!(text.contains("2 sessions"), "{text}");
    for caller in ["bob", "carol"] {
        taken.push(busy(&mut bridge, caller).await);
    }
    assert_eq!(refused(&bridge.client_of(Some("dave"))).await.0, "full");
    let own = opened(bridge.client_of(None)).await;
    assert_eq!(count(&own).await, 1, "the gateway lists tools all the same");
    for (_, call) in taken {
        call.abort();
    }
}

#[tokio::test]
async fn the_caller_with_the_most_sessions_gives_way_first() {
    let bridge = bridge(|spec| spec.limits.sessions = 4).await;
    let mut of = Vec::new();
    for caller in ["bob", "alice", "alice", "carol"] {
        let client = opened(bridge.client_of(Some(caller))).await;
        assert_eq!(count(&client).await, 1);
        of.push(client);
    }
    // Bob's is idle for longest.
    opened(bridge.client_of(Some("dave"))).await;
    assert_eq!(status(&of[1]).await, 404);
    for kept in [0, 2, 3] {
        assert_eq!(count(&of[kept]).await, 2);
    }
    // A caller who has the share of one caller replaces their own.
    opened(bridge.client_of(Some("dave"))).await;
    let dave = opened(bridge.client_of(Some("dave"))).await;
    assert_eq!(count(&dave).await, 1);
}

#[tokio::test]
async fn of_many_idle_sessions_of_a_caller_those_used_last_are_kept() {
    let mut bridge = bridge(|spec| spec.limits.surplus_idle_millis = 500).await;
    let other = opened(bridge.client_of(Some("bob"))).await;
    let mut alice = Vec::new();
    for _ in 0..6 {
        let client = opened(bridge.client_of(Some("alice"))).await;
        assert_eq!(count(&client).await, 1);
        alice.push(client);
    }
    for number in [3, 4] {
        bridge
            .wait_for_log(&format!("[session {number}: its process is gone. It was idle, and"))
            .await;
    }
    assert_eq!((status(&alice[0]).await, status(&alice[1]).await), (404, 404));
    for kept in alice[2..].iter().chain([&other]) {
        assert_eq!(status(kept).await, 200);
    }
}

#[tokio::test]
async fn an_idle_session_ends_and_one_in_use_does_not() {
    let mut bridge = bridge(|spec| spec.limits.session_idle_millis = 1_000).await;
    let one = session(&bridge).await;
    let busy = tokio::spawn({
        let two = session(&bridge).await;
        async move { two.call(json!(1), "slow", json!({"seconds": 2})).await }
    });
    bridge
        .wait_for_log("[session 2: its process is gone. It was idle")
        .await;
    assert_eq!(status(&one).await, 404);
    assert!(bridge.marked_of(2).is_empty());
    assert_eq!(busy.await.unwrap()["result"]["slept"], 2);
    bridge
        .wait_for_log("[session 3: its process is gone. It was idle")
        .await;
    assert_eq!(
        count(&session(&bridge).await).await,
        1,
        "the next session has its process"
    );
}

#[tokio::test]
async fn a_client_ends_its_session_with_all_its_processes() {
    let mut bridge = Bridge::ready_with("family", apart).await;
    let (one, two) = (session(&bridge).await, session(&bridge).await);
    eventually(|| bridge.marked_of(2).len() >= 2 && bridge.marked_of(3).len() >= 2).await;
    assert_eq!(one.send("DELETE", &[], String::new()).await.status(), 204);
    assert_eq!(status(&one).await, 404);
    bridge.wait_for_log("[session 2: its process is gone.").await;
    assert!(bridge.marked_of(2).is_empty(), "{:?}", bridge.marked_of(2));
    assert!(bridge.marked_of(3).len() >= 2);
    assert_eq!(count(&two).await, 1);
}

#[tokio::test]
async fn a_session_that_is_refused_keeps_no_process() {
    let mut bridge = bridge(|_| ()).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}).to_string();
    for (number, header, status) in [
        (2, ("content-type", "text/plain"), 415),
        (3, ("mcp-protocol-version", "2"), 400),
    ] {
        let refused = bridge.client().send("POST", &[header], initialize.clone()).await;
        assert_eq!(refused.status(), status);
        bridge
            .wait_for_log(&format!(
                "[session {number}: its process is gone. Its session was not opened.]"
            ))
            .await;
    }
    assert_eq!(count(&session(&bridge).await).await, 1);
}

/// A server whose first process has started. Further ones start when [`let_start`] allows it.
async fn gated(change: impl FnOnce(&mut Spec)) -> Bridge {
    Bridge::ready_with("gated", |spec| {
        apart(spec);
        change(spec);
        let turns = spec.working_folder.join("turns");
        fs::create_dir(&turns).unwrap();
        fs::write(turns.join("first"), "").unwrap();
    })
    .await
}

/// Allows this number of processes of a gated server to start.
fn let_start(bridge: &Bridge, processes: usize) {
    for turn in 0..processes {
        fs::write(bridge.folder.path().join(format!("turns/{turn}")), "").unwrap();
    }
}

#[tokio::test]
async fn clients_who_give_up_before_all_processes_have_started_are_served_when_they_come_again() {
    const CLIENTS: usize = 6;
    let mut bridge = gated(|_| ()).await;
    let_start(&bridge, 1);
    let first = session(&bridge).await;
    let mut served = Vec::new();
    while served.len() < CLIENTS {
        let mut waiting = JoinSet::new();
        for _ in served.len()..CLIENTS {
            let mut client = bridge.client();
            waiting.spawn(async move {
                client.initialize("2025-11-25").await;
                client
            });
        }
        let_start(&bridge, 2);
        for _ in 0..2 {
            served.push(waiting.join_next().await.unwrap().unwrap());
        }
        waiting.shutdown().await;
        // The bridge answers this after it has noticed which clients have disconnected.
        count(&first).await;
    }
    for client in &served {
        assert_eq!(count(client).await, 1, "a process of its own");
    }
    bridge.ask(STOP).await;
    bridge.ended().await;
    let starts = bridge.logs.iter().filter(|line| *line == "starting").count();
    assert_eq!(starts, 2 + CLIENTS, "no process was started for nobody");
    for session in 1..=starts {
        assert!(bridge.marked_of(session).is_empty());
    }
}

#[tokio::test]
async fn a_process_whose_client_gave_up_serves_the_next_who_says_the_same() {
    let mut bridge = gated(|spec| spec.limits.sessions = 2).await;
    let_start(&bridge, 1);
    let first = session(&bridge).await;
    let busy = tokio::spawn({
        let first = first.clone();
        async move { first.call(json!(1), "wait", json!({})).await }
    });
    bridge.wait_for_log("waiting").await;
    bridge.logs.clear();
    let mut gone = bridge.client();
    let gone = tokio::spawn(async move { gone.initialize("2025-11-25").await });
    bridge.wait_for_log("starting").await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    count(&first).await;
    // No further process is allowed, but one is being started that is for this client.
    let next = bridge.client();
    let opens = tokio::spawn(opened(next));
    let_start(&bridge, 1);
    assert_eq!(count(&opens.await.unwrap()).await, 1);
    busy.abort();
}

#[tokio::test]
async fn a_stop_waits_for_the_calls_of_all_sessions() {
    let mut bridge = bridge(|_| ()).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        let client = session(&bridge).await;
        calls.push(tokio::spawn({
            let client = client.clone();
            async move { client.call(json!(1), "slow", json!({"seconds": 1})).await }
        }));
        bridge.wait_for_log("sleeping").await;
        bridge.logs.clear();
    }
    bridge.ask(STOP).await;
    for call in calls {
        assert_eq!(call.await.unwrap()["result"]["slept"], 1);
    }
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
    for session in 1..=3 {
        assert!(bridge.marked_of(session).is_empty());
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_is_reported_as_without_sessions() {
    let mut bridge = Bridge::start("exit", apart).await;
    let (reason, _, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(7)));
}

#[tokio::test]
async fn processes_that_fail_to_start_are_not_started_again_at_once() {
    let mut bridge = Bridge::ready_with("breakable", apart).await;
    let first = session(&bridge).await;
    fs::write(bridge.folder.path().join("broken"), "").unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {}});
    for expected in ["exit code 7", "exit code 7. The next is started in"] {
        let (status, _, body) = bridge.client().post(&initialize).await;
        assert_eq!(status, 200);
        assert!(body.contains(expected), "{body}");
    }
    assert_eq!(count(&first).await, 1);
    bridge.ask(STOP).await;
    bridge.ended().await;
    let starts = bridge
        .logs
        .iter()
        .filter(|line| *line == "no configuration found")
        .count();
    assert_eq!(starts, 1, "{:?}", bridge.logs);
}

#[tokio::test]
async fn the_parent_is_told_when_starts_begin_to_fail_and_when_they_succeed_again() {
    let mut bridge = Bridge::ready_with("breakable", apart).await;
    session(&bridge).await;
    let broken = bridge.folder.path().join("broken");
    fs::write(&broken, "").unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {}});
    let (_, _, body) = bridge.client().post(&initialize).await;
    assert!(body.contains("exit code 7"), "{body}");
    fs::remove_file(&broken).unwrap();
    // After the pause.
    while bridge.client().post(&initialize).await.2.contains("error") {}
    let mut told = Vec::new();
    bridge
        .wait_for(|event| {
            if let Event::SessionStarts { failure } = event {
                told.push(failure.clone());
            }
            matches!(event, Event::SessionStarts { failure: None })
        })
        .await;
    let failure = StartFailure {
        reason: EndReason::Exited,
        message: "The MCP server ended with exit code 7.".to_owned(),
    };
    assert_eq!(told, [Some(failure), None]);
}

/// All processes share the working folder.
#[tokio::test]
async fn each_process_finds_the_files_of_the_entry() {
    let paths = ["file", "in/file", "kept"];
    let mut bridge = bridge(|spec| {
        spec.files = paths
            .map(|path| File {
                path: path.to_owned(),
                content: "the entry's".to_owned(),
                secret: false,
            })
            .into();
    })
    .await;
    let one = session(&bridge).await;
    let folder = bridge.folder.path();
    let kept = fs::metadata(folder.join("kept")).unwrap().ino();
    fs::remove_file(folder.join("file")).unwrap();
    fs::create_dir_all(folder.join("file/deep")).unwrap();
    fs::remove_dir_all(folder.join("in")).unwrap();
    fs::write(folder.join("in"), "a file where a folder belongs").unwrap();
    let two = session(&bridge).await;
    assert_ne!(one.session, two.session);
    for path in paths {
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), "the entry's", "{path}");
    }
    // Another process may be reading it.
    assert_eq!(fs::metadata(folder.join("kept")).unwrap().ino(), kept);
    bridge.ask(STOP).await;
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
}
