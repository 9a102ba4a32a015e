//! Servers of 2026-07-28, and how they are told from older ones.

mod harness;

use std::fs;

use harness::{Bridge, Client};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use stdio_bridge::{EndReason, Event, STOP, Spec, Transport};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

async fn start(mode: &str, one_per_session: bool, change: impl FnOnce(&mut Spec)) -> Bridge {
    Bridge::start(mode, |spec| {
        spec.arguments[0] = spec.arguments[0].replace("fixture.py", "modern.py");
        spec.transport = Transport::Stdio { one_per_session };
        change(spec);
    })
    .await
}

async fn ready(mode: &str, one_per_session: bool, change: impl FnOnce(&mut Spec)) -> Bridge {
    let mut bridge = start(mode, one_per_session, change).await;
    bridge.wait_for(|event| matches!(event, Event::Ready)).await;
    bridge
}

fn request(id: Value, method: &str, params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"roots": {"n": 1.0}},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call(id: u32, tool: &str) -> Value {
    request(json!(id), "tools/call", json!({"name": tool}))
}

/// As the gateway: with the caller in each request.
async fn post(client: &Client, message: &Value) -> (u16, Value) {
    let version = ("mcp-protocol-version", "2026-07-28");
    let response = client.send("POST", &[version], message.to_string()).await;
    let status = response.status().as_u16();
    let (_, _, body) = harness::read(response).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_modern_server_is_asked_what_it_is_and_not_initialized() {
    for one_per_session in [false, true] {
        let bridge = ready("modern", one_per_session, |spec| {
            spec.secrets = vec!["s3cr3t-canary".to_owned()];
            spec.environment.insert("KEY".to_owned(), "s3cr3t-canary".to_owned());
        })
        .await;
        let client = bridge.client();
        let (status, discovered) = post(&client, &request(json!("d"), "server/discover", json!({}))).await;
        assert_eq!((status, &discovered["id"]), (200, &json!("d")));
        let result = &discovered["result"];
        assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
        assert_eq!(result["instructions"], "with [redacted]");
        let (status, answer) = post(&client, &call(1, "count")).await;
        let expected = json!({"jsonrpc": "2.0", "id": 1, "result": {"calls": 1, "client": {"roots": {"n": 1.0}}}});
        assert_eq!((status, answer), (200, expected));
        for method in ["initialize", "ping"] {
            assert_eq!(post(&client, &request(json!(1), method, json!({}))).await.0, 404);
        }
        for (method, status) in [("GET", 405), ("DELETE", 405)] {
            assert_eq!(client.send(method, &[], String::new()).await.status(), status);
        }
        // A session of an older version of the server.
        let old = ("mcp-session-id", "x");
        assert_eq!(
            client.send("POST", &[old], call(1, "count").to_string()).await.status(),
            404
        );
    }
}

#[tokio::test]
async fn each_caller_of_a_modern_server_has_a_process_where_sessions_have() {
    let mut bridge = ready("modern", true, |_| ()).await;
    let (alice, bob) = (bridge.client(), bridge.client());
    let count = async |client: &Client| post(client, &call(1, "count")).await.1["result"]["calls"].clone();
    // At the same time: one process is started for both requests.
    let (one, two) = tokio::join!(count(&alice), count(&alice));
    assert_eq!(one.as_u64().unwrap() + two.as_u64().unwrap(), 3);
    assert_eq!((count(&bob).await, count(&alice).await), (json!(1), json!(3)));
    let (_, ended) = post(&alice, &call(2, "exit")).await;
    assert_eq!(ended["error"]["message"], "The MCP server ended with exit code 3.");
    bridge.wait_for_log("its process is gone").await;
    assert_eq!((count(&alice).await, count(&bob).await), (json!(1), json!(2)));
    bridge.ask(STOP).await;
    bridge.ended().await;
    let asked = bridge.logs.iter().filter(|line| *line == "got server/discover").count();
    assert_eq!(asked, 1, "no process but the first");
}

#[tokio::test]
async fn a_subscription_stays_open_under_its_clients_id_until_the_client_closes_it() {
    for one_per_session in [false, true] {
        let mut bridge = ready("modern", one_per_session, |spec| spec.limits.request_millis = 1).await;
        let client = bridge.client();
        let version = ("mcp-protocol-version", "2026-07-28");
        let listen = |id: &str| {
            request(
                json!(id),
                "subscriptions/listen",
                json!({"notifications": {"toolsListChanged": true}}),
            )
        };
        let mut first = client.stream(&listen("one"), &[version]).await;
        let mut second = client.stream(&listen("two"), &[version]).await;
        let note = |method: &str, id: &str| json!({"jsonrpc": "2.0", "method": method, "params": {"n": 1.0, "_meta": {SUBSCRIPTION: id}}});
        post(&client, &call(1, "changed")).await;
        for (id, stream) in [("one", &mut first), ("two", &mut second)] {
            for method in [
                "notifications/subscriptions/acknowledged",
                "notifications/tools/list_changed",
            ] {
                assert_eq!(stream.next().await, Some(note(method, id)));
            }
        }
        drop(first);
        bridge.wait_for_log("cancelled").await;
        post(&client, &call(2, "end")).await;
        let ended = json!({"jsonrpc": "2.0", "id": "two", "result": {"_meta": {SUBSCRIPTION: "two"}, "n": 1.0}});
        assert_eq!(second.next().await, Some(ended));
        assert_eq!(second.next().await, None);
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_subscriptions() {
    let mut bridge = ready("modern", true, |_| ()).await;
    let client = bridge.client();
    let version = ("mcp-protocol-version", "2026-07-28");
    let listen = request(json!(1), "subscriptions/listen", json!({"notifications": {}}));
    let mut stream = client.stream(&listen, &[version]).await;
    bridge.ask(STOP).await;
    bridge.ended().await;
    assert_eq!(
        stream.next().await.unwrap()["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(stream.next().await.unwrap()["error"]["code"], -32000);
}

#[tokio::test]
async fn what_a_modern_server_logs_goes_with_a_call_and_what_it_asks_is_refused() {
    let mut bridge = ready("modern", true, |_| ()).await;
    let client = bridge.client();
    let mut messages = client.stream(&call(1, "log"), &[]).await;
    assert_eq!(messages.next().await.unwrap()["params"]["data"], 1.0);
    assert_eq!(messages.next().await.unwrap()["id"], 1);
    let asks = tokio::spawn(async move { client.stream(&call(2, "ask"), &[]).await });
    assert!(bridge.wait_for_log("answered").await.contains("-32601"));
    asks.abort();
}

#[tokio::test]
async fn a_client_that_closes_its_connection_cancels_a_call() {
    let mut bridge = ready("modern", false, |_| ()).await;
    let client = bridge.client();
    let waits = tokio::spawn(async move { post(&client, &call(1, "wait")).await });
    bridge.wait_for_log("waiting").await;
    waits.abort();
    bridge.wait_for_log("cancelled").await;
}

async fn initialized(bridge: &Bridge) -> Value {
    let mut client: Client = bridge.client_of(Some("alice"));
    client.initialize("2025-11-25").await["result"]["protocolVersion"].clone()
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_question_is_initialized() {
    for one_per_session in [false, true] {
        let mut bridge = ready("deaf", one_per_session, |spec| spec.limits.discover_millis = 100).await;
        assert_eq!(initialized(&bridge).await, "2025-11-25");
        bridge.ask(STOP).await;
        bridge.ended().await;
        let asked = bridge.logs.iter().filter(|line| *line == "got server/discover").count();
        assert_eq!(asked, 1, "no process but the first");
    }
}

#[tokio::test]
async fn a_server_that_ends_at_the_question_is_started_without_it() {
    for one_per_session in [false, true] {
        let mut bridge = ready("dies", one_per_session, |_| ()).await;
        assert_eq!(initialized(&bridge).await, "2025-11-25");
        bridge.ask(STOP).await;
        bridge.ended().await;
        let lines = |text: &str| bridge.logs.iter().filter(|line| *line == text).count();
        assert_eq!(
            (lines("got server/discover"), lines("starting")),
            (1, 2 + usize::from(one_per_session))
        );
    }
}

#[tokio::test]
async fn a_modern_server_that_takes_long_to_start_is_known_as_one() {
    let mut bridge = start("slow", false, |spec| spec.limits.discover_millis = 1).await;
    bridge.wait_for_log("starting").await;
    fs::write(bridge.folder.path().join("go"), "").unwrap();
    bridge.wait_for(|event| matches!(event, Event::Ready)).await;
    let client = bridge.client();
    let (status, answer) = post(&client, &call(1, "count")).await;
    assert_eq!((status, &answer["result"]["calls"]), (200, &json!(1)));
}

#[tokio::test]
async fn an_older_server_says_so_to_a_modern_client() {
    for one_per_session in [false, true] {
        let bridge = ready("deaf", one_per_session, |spec| spec.limits.discover_millis = 1).await;
        let client = bridge.client();
        for method in ["server/discover", "tools/list"] {
            let (status, refusal) = post(&client, &request(json!(1), method, json!({}))).await;
            assert_eq!(status, 400);
            // By this word, clients know that they are to initialize.
            assert!(
                refusal["error"]["message"].as_str().unwrap().contains("session"),
                "{refusal}"
            );
        }
    }
}

#[tokio::test]
async fn a_modern_server_tells_when_its_tools_change() {
    for one_per_session in [false, true] {
        let mut bridge = ready("modern", one_per_session, |_| ()).await;
        bridge.wait_for_log("got subscriptions/listen").await;
        post(&bridge.client(), &call(1, "changed")).await;
        bridge.wait_for(|event| *event == Event::ToolsChanged).await;
    }
}

#[tokio::test]
async fn a_program_that_is_no_server_is_found_out_after_the_question_too() {
    let mut bridge = Bridge::start("banner", |spec| {
        spec.limits.discover_millis = 2_000;
        spec.limits.garbage_millis = 2_500;
        spec.limits.ready_millis = 600_000;
    })
    .await;
    assert_eq!(bridge.ended().await.0, EndReason::NotMcp);
}
