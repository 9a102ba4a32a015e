//! What a server asks and tells the client who has a process of its own.

mod harness;

use harness::{Bridge, Client, Messages};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use stdio_bridge::Transport;

async fn bridge() -> Bridge {
    Bridge::ready_with("good", |spec| {
        spec.transport = Transport::Stdio { one_per_session: true }
    })
    .await
}

async fn session(bridge: &Bridge) -> Client {
    let mut client = bridge.client();
    client.initialize("2025-06-18").await;
    client
}

fn call(id: u32, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A call in whose course the server asks under this id, and which is answered with the client's answer.
async fn asked(client: &Client, id: &str) -> Messages {
    let arguments = json!({"method": "elicitation/create", "as": id});
    client.stream(&call(1, "ask", arguments), &[]).await
}

fn question(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"n": 1.0}})
}

fn answer(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "n": 12_345_678_901_u64}})
}

async fn says(client: &Client, message: &Value) {
    let (status, _, body) = client.post(message).await;
    assert_eq!((status.as_u16(), &*body), (202, ""));
}

/// Makes the server send this while a call is in progress whose client takes no stream.
async fn send(client: &Client, message: Value) {
    let body = call(9, "send", json!({"message": message})).to_string();
    let response = client.send("POST", &[("accept", "application/json")], body).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_server_is_told_of_its_client() {
    let mut bridge = bridge().await;
    let mut client = bridge.client();
    let initialized = client.initialize("2025-06-18").await;
    assert_eq!(initialized["result"]["protocolVersion"], "2025-06-18");
    let told = bridge.wait_for_log(r#""capabilities": {"roots": {}}"#).await;
    for said in [
        r#""protocolVersion": "2025-06-18""#,
        r#""clientInfo": {"name": "t", "version": "1"}"#,
    ] {
        assert!(told.contains(said), "{told}");
    }
    for method in ["notifications/initialized", "notifications/roots/list_changed"] {
        bridge.logs.clear();
        says(&client, &json!({"jsonrpc": "2.0", "method": method})).await;
        bridge.wait_for_log(method).await;
    }
}

#[tokio::test]
async fn a_client_answers_what_its_server_asks_and_once() {
    let mut bridge = bridge().await;
    let (client, other) = (session(&bridge).await, session(&bridge).await);
    let mut messages = asked(&client, "mine").await;
    assert_eq!(messages.next().await, Some(question("mine")));
    let progress =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 7, "progress": 1}});
    says(&client, &progress).await;
    bridge.wait_for_log("notifications/progress").await;
    // Neither another client's, nor one under another id.
    says(&other, &answer("mine")).await;
    says(&client, &answer("other")).await;
    says(&client, &answer("mine")).await;
    assert_eq!(messages.next().await.unwrap()["result"], answer("mine"));
    assert_eq!(messages.next().await, None);
    says(&client, &answer("mine")).await;
    client.call(json!(2), "say", json!({"text": "after"})).await;
    bridge.wait_for_log("after").await;
    assert!(
        !bridge.logs.iter().any(|line| line.starts_with("answered again")),
        "{:?}",
        bridge.logs
    );
}

#[tokio::test]
async fn without_a_call_a_client_is_asked_on_its_stream_and_else_not() {
    let mut bridge = bridge().await;
    let client = session(&bridge).await;
    send(&client, question("first")).await;
    let refusal = bridge.wait_for_log("answered again").await;
    assert!(
        refusal.contains(r#""id": "first", "error": {"code": -32601"#),
        "{refusal}"
    );
    let mut listening = client.listen().await;
    send(&client, question("second")).await;
    assert_eq!(listening.next().await, Some(question("second")));
    bridge.logs.clear();
    says(&client, &answer("second")).await;
    let answered = bridge.wait_for_log("answered again").await;
    assert!(answered.contains("accept"), "{answered}");
    send(&client, question("third")).await;
    assert_eq!(listening.next().await, Some(question("third")));
    drop(listening);
    bridge.wait_for_log(r#""id": "third", "error""#).await;
}

#[tokio::test]
async fn a_question_that_is_withdrawn_is_not_answered() {
    let mut bridge = bridge().await;
    let client = session(&bridge).await;
    let mut messages = asked(&client, "mine").await;
    assert_eq!(messages.next().await, Some(question("mine")));
    let withdrawn = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "mine", "reason": "late"}});
    let later = client.clone();
    let later = tokio::spawn(async move { asked_first(&later).await });
    bridge.wait_for_log("waiting").await;
    send(&client, withdrawn.clone()).await;
    assert_eq!(
        messages.next().await,
        Some(withdrawn),
        "on the stream that it was asked on"
    );
    later.abort();
    says(&client, &answer("mine")).await;
    client.call(json!(3), "say", json!({"text": "after"})).await;
    bridge.wait_for_log("after").await;
    assert!(
        !bridge.logs.iter().any(|line| line.contains("accept")),
        "{:?}",
        bridge.logs
    );
}

#[tokio::test]
async fn a_server_does_not_wait_for_a_client_who_has_gone() {
    let mut bridge = bridge().await;
    let client = session(&bridge).await;
    let mut messages = asked(&client, "mine").await;
    assert_eq!(messages.next().await, Some(question("mine")));
    drop(messages);
    // The call is cancelled, and its question has an answer.
    bridge.wait_for_log("refused mine").await;
    let mut messages = asked(&client, "mine").await;
    assert_eq!(messages.next().await, Some(question("mine")), "the id is free again");
}

#[tokio::test]
async fn what_was_asked_on_the_stream_of_another_call_is_asked_again_when_that_ends() {
    let mut bridge = bridge().await;
    let client = session(&bridge).await;
    let first = client.clone();
    let mut first = tokio::spawn(async move { asked_first(&first).await });
    bridge.wait_for_log("waiting").await;
    let mut second = client
        .stream(&call(2, "send", json!({"message": question("q")})), &[])
        .await;
    assert_eq!(second.next().await, Some(question("q")), "it began last");
    assert_eq!(second.next().await.unwrap()["id"], 2);
    assert_eq!((&mut first).await.unwrap(), question("q"));
}

/// The first message on the stream of a call that is not answered.
async fn asked_first(client: &Client) -> Value {
    let mut messages = client.stream(&call(1, "wait", json!({})), &[]).await;
    messages.next().await.unwrap()
}

#[tokio::test]
async fn a_server_that_ends_while_it_asks_is_answered_nothing() {
    let bridge = bridge().await;
    let client = session(&bridge).await;
    let mut messages = asked(&client, "mine").await;
    assert_eq!(messages.next().await, Some(question("mine")));
    client.call(json!(2), "exit", json!({})).await;
    let ended = messages.next().await.unwrap();
    assert_eq!((&ended["id"], &ended["error"]["code"]), (&json!(1), &json!(-32000)));
    let (status, ..) = client.post(&answer("mine")).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_log_goes_with_a_call_and_the_rest_on_a_stream_where_there_is_one() {
    let bridge = bridge().await;
    let client = session(&bridge).await;
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1.0}});
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a:b"}});
    let with = async |message: &Value| {
        let mut messages = client.stream(&call(1, "send", json!({"message": message})), &[]).await;
        let first = messages.next().await;
        assert_eq!(messages.next().await.unwrap()["id"], 1);
        first.unwrap()
    };
    for message in [&log, &changed] {
        assert_eq!(with(message).await, *message);
    }
    let mut listening = client.listen().await;
    assert_eq!(with(&log).await, log);
    send(&client, changed.clone()).await;
    send(&client, log.clone()).await;
    for message in [changed, log] {
        assert_eq!(listening.next().await, Some(message));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_the_rest_is_asked() {
    let mut bridge = bridge().await;
    let client = session(&bridge).await;
    let mut listening = client.listen().await;
    let refused = async |bridge: &mut Bridge, id: &str, code: i32| {
        let refusal = bridge.wait_for_log("answered again").await;
        assert!(
            refusal.contains(&format!(r#""id": "{id}", "error": {{"code": {code}"#)),
            "{refusal}"
        );
        bridge.logs.clear();
    };
    let mut long = question("long");
    long["params"]["text"] = "x".repeat(2 << 20).into();
    send(&client, long).await;
    refused(&mut bridge, "long", -32601).await;
    send(&client, question("0")).await;
    send(&client, question("0")).await;
    refused(&mut bridge, "0", -32600).await;
    for number in 1..32 {
        send(&client, question(&number.to_string())).await;
    }
    send(&client, question("32")).await;
    refused(&mut bridge, "32", -32600).await;
    for number in 0..32 {
        assert_eq!(listening.next().await, Some(question(&number.to_string())));
    }
    says(&client, &answer("7")).await;
    send(&client, question("33")).await;
    assert_eq!(listening.next().await, Some(question("33")));
}
