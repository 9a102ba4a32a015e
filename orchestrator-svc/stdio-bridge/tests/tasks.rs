//! What a server says of a task goes to whoever waits for its result.

mod harness;

use harness::{Bridge, Client};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use stdio_bridge::Transport;
use tokio::task::JoinHandle;

/// The messages on a stream that ends with the answer.
fn stream(client: &Client, message: Value) -> JoinHandle<Vec<Value>> {
    let client = client.clone();
    tokio::spawn(async move {
        let mut messages = client.stream(&message, &[]).await;
        let mut came = Vec::new();
        while let Some(message) = messages.next().await {
            came.push(message);
        }
        came
    })
}

fn result(id: u32, task: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tasks/result", "params": {"taskId": task}})
}

/// Makes the server do this, in a call whose client takes no stream.
async fn make(client: &Client, tool: &str, arguments: Value) {
    let params = json!({"name": tool, "arguments": arguments});
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params});
    let response = client.send("POST", &[("accept", "application/json")], call.to_string());
    assert_eq!(response.await.status(), 200);
}

fn related(task: &str) -> Value {
    json!({"_meta": {"io.modelcontextprotocol/related-task": {"taskId": task}}})
}

#[tokio::test]
async fn a_task_asks_with_its_result_whatever_else_is_in_progress() {
    let own = |spec: &mut stdio_bridge::Spec| spec.transport = Transport::Stdio { one_per_session: true };
    let mut bridge = Bridge::ready_with("good", own).await;
    let mut client = bridge.client();
    client.initialize("2025-11-25").await;
    let first = stream(&client, result(1, "t1"));
    bridge.wait_for_log("awaited t1").await;
    let other = client.clone();
    let second = tokio::spawn(async move { other.post(&result(2, "t2")).await.2 });
    bridge.wait_for_log("awaited t2").await;
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": related("t1")});
    make(&client, "send", json!({"message": question})).await;
    let answer = json!({"jsonrpc": "2.0", "id": "q", "result": {"action": "accept"}});
    client.post(&answer).await;
    bridge.wait_for_log("answered again").await;
    for task in ["t1", "t2"] {
        make(&client, "finish", json!({"task": task})).await;
    }
    let finished = |id: u32| json!({"jsonrpc": "2.0", "id": id, "result": {"finished": true}});
    assert_eq!(first.await.unwrap(), [question, finished(1)]);
    assert_eq!(
        serde_json::from_str::<Value>(&second.await.unwrap()).unwrap(),
        finished(2)
    );
}

/// One process serves all: its tasks are of several people.
#[tokio::test]
async fn nobody_is_told_of_a_task_but_who_waits_for_it() {
    let mut bridge = Bridge::ready("good").await;
    let (client, other) = (bridge.client(), bridge.client());
    let mut listening = other.listen().await;
    let awaiting = stream(&client, result(1, "t"));
    bridge.wait_for_log("awaited t").await;
    let status = json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": "t"}});
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": related("t")});
    let public = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "for all"}});
    for message in [&status, &log, &public] {
        make(&client, "send", json!({"message": message})).await;
    }
    make(&client, "finish", json!({"task": "t"})).await;
    assert_eq!(listening.next().await, Some(public));
    let finished = json!({"jsonrpc": "2.0", "id": 1, "result": {"finished": true}});
    assert_eq!(awaiting.await.unwrap(), [status, log, finished]);
}
