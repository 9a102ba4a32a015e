//! More requests than a server may have in progress.

mod harness;

use futures::future::join_all;
use harness::{Bridge, Client, PATIENCE, eventually};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use stdio_bridge::NOT_TAKEN_HEADER;
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

/// A bridge that takes two requests at one time, and two that are in progress.
async fn busy() -> (Bridge, [JoinHandle<Value>; 2]) {
    let mut bridge = Bridge::ready_with("good", |spec| spec.limits.connections = 2).await;
    let calls = ["one", "two"].map(|id| {
        let client = bridge.client();
        tokio::spawn(async move { client.call(json!(id), "wait", json!({})).await })
    });
    for _ in &calls {
        bridge.wait_for_log("waiting").await;
        bridge.logs.clear();
    }
    (bridge, calls)
}

/// What the bridge says when it refuses a call with this argument.
async fn refused(client: &Client, argument: &str) -> (u16, String, String) {
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": argument}}});
    let (status, headers, body) = client.post(&call).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let why = body["error"]["message"].as_str().unwrap().to_owned();
    (
        status.as_u16(),
        headers[NOT_TAKEN_HEADER].to_str().unwrap().to_owned(),
        why,
    )
}

#[tokio::test]
async fn further_requests_are_refused_and_told_why() {
    let (bridge, [one, two]) = busy().await;
    let client = bridge.client();
    for argument in [String::new(), "x".repeat(1 << 20)] {
        let (status, what, why) = refused(&client, &argument).await;
        assert_eq!((status, what.as_str()), (503, "calls"), "{why}");
        assert!(why.contains("Try again when some of them have ended."), "{why}");
    }
    one.abort();
    two.abort();
    let echo = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "echo"}});
    let answered = async { while client.post(&echo).await.0 != 200 {} };
    timeout(PATIENCE, answered).await.unwrap();
}

/// Each takes a descriptor of the bridge.
#[tokio::test]
async fn refusals_are_limited_too() {
    let (bridge, _calls) = busy().await;
    let before = bridge.descriptors();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(UnixStream::connect(bridge.socket()).await.unwrap());
    }
    eventually(|| bridge.descriptors() > before + 60).await;
    assert!(bridge.descriptors() < before + 100, "{}", bridge.descriptors() - before);
    drop(idle);
    let client = bridge.client();
    let all = join_all((0..200).map(|_| refused(&client, ""))).await;
    assert!(all.iter().all(|(status, ..)| *status == 503));
}

/// They are the gateway's, which keeps some on each of its threads.
#[tokio::test]
async fn idle_connections_keep_no_request_out() {
    let bridge = Bridge::ready_with("good", |spec| spec.limits.connections = 2).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(UnixStream::connect(bridge.socket()).await.unwrap());
    }
    let answer = bridge.client().call(json!(1), "echo", json!({})).await;
    assert_eq!(answer["id"], 1);
}
