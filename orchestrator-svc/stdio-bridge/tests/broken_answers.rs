//! Whoever waits for an answer that a server breaks is answered.

mod harness;

use harness::{Bridge, Client};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A call under way that is not answered.
async fn waiting(bridge: &mut Bridge) -> JoinHandle<Value> {
    bridge.logs.clear();
    let client = bridge.client();
    let call = tokio::spawn(async move { client.call(json!(1), "wait", json!({})).await });
    bridge.wait_for_log("waiting").await;
    call
}

/// A call to which the server answers with this text, in which `ID` is the request's id.
async fn raw(client: &Client, text: &str, end: &str) -> Value {
    client.call(json!(7), "raw", json!({"text": text, "end": end})).await
}

/// The server's fault, as the answer says it.
fn fault(answer: &Value) -> &str {
    let message = answer["error"]["message"].as_str();
    let fault = message.and_then(|message| message.strip_prefix("The MCP server is at fault: "));
    fault.unwrap_or_else(|| panic!("{answer}"))
}

async fn impatient() -> Bridge {
    Bridge::ready_with("good", |spec| spec.limits.silence_millis = 300).await
}

#[tokio::test]
async fn the_caller_of_an_answer_that_breaks_off_is_told_and_no_other() {
    const BREAKS_OFF: &str = "its answer breaks off, and nothing has followed for 0.3 s.";
    for (text, end, why) in [
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"a":"canary"#, "", BREAKS_OFF),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"a":"canary"#, "\n", BREAKS_OFF),
        ("{\n  \"jsonrpc\": \"2.0\", \"id\": ID, \"canary\":", "", BREAKS_OFF),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{}}"#,
            "",
            "its answer is a line without an end.",
        ),
    ] {
        let mut bridge = impatient().await;
        let other = waiting(&mut bridge).await;
        let client = bridge.client();
        assert_eq!(fault(&raw(&client, text, end).await), why, "{text}");
        // What the server writes next is a message, on the same line or another.
        assert_eq!(client.call(json!(8), "echo", json!({})).await["id"], 8, "{text}");
        assert!(!other.is_finished(), "{text}");
        other.abort();
        client.call(json!(9), "say", json!({"text": "the end"})).await;
        bridge.wait_for_log("the end").await;
        assert!(
            bridge
                .logs
                .iter()
                .any(|line| line.starts_with("[a message of the server"))
        );
        assert!(
            bridge.logs.iter().all(|line| !line.contains("canary")),
            "{:?}",
            bridge.logs
        );
    }
}

#[tokio::test]
async fn all_callers_are_told_of_a_message_that_breaks_off_before_it_says_whose_it_is() {
    for text in [r#"{"result":{"content":[{"#, r#"{"jsonrpc":"2.0","id":ID"#] {
        let mut bridge = impatient().await;
        let other = waiting(&mut bridge).await;
        let client = bridge.client();
        for answer in [raw(&client, text, "").await, other.await.unwrap()] {
            assert_eq!(
                fault(&answer),
                "it stopped in the middle of a message, and nothing has followed for 0.3 s.",
            );
        }
    }
}

#[tokio::test]
async fn whoever_is_answered_in_a_batch_that_is_not_valid_is_told() {
    let mut bridge = Bridge::ready_with("good", |spec| spec.limits.message_bytes = 100_000).await;
    let other = waiting(&mut bridge).await;
    let client = bridge.client();
    let answer = r#"{"jsonrpc":"2.0","id":ID,"result":"canary"}"#;
    let notifications = r#",{"jsonrpc":"2.0","method":"notifications/x"}"#.repeat(1000);
    for (text, why) in [
        (format!("[NaN,{answer}]"), "is not valid JSON (column "),
        (
            format!(r#"[{{"jsonrpc":"2.0","id":99,"result":NaN}},{answer},]"#),
            "is not valid JSON (column ",
        ),
        (format!("[{answer},{{oops}}]"), "is not valid JSON (column "),
        (format!("[{answer}{notifications}]"), "has more than 1000 messages."),
        (
            format!(r#"[{{"result":["LONG"]}},{answer}]"#),
            "is longer than 100000 bytes.",
        ),
        (format!("[[{answer}]]"), "is in a batch itself."),
    ] {
        let answer = raw(&client, &text, "\n").await;
        let expected = format!("its answer is in a batch that {why}");
        assert!(fault(&answer).starts_with(&expected), "{text}: {answer}");
    }
    assert!(!other.is_finished());
    other.abort();
    client.call(json!(9), "say", json!({"text": "the end"})).await;
    bridge.wait_for_log("the end").await;
    assert!(
        bridge.logs.iter().any(|line| line.starts_with("[a batch of 45")),
        "{:?}",
        bridge.logs
    );
    assert!(
        bridge.logs.iter().all(|line| !line.contains("canary")),
        "{:?}",
        bridge.logs
    );
}

/// JSON-RPC 2.0 allows one id, and parsers differ in which of two they read.
#[tokio::test]
async fn both_callers_whose_ids_an_answer_has_are_told() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    for order in ["OTHER,\"id\":ID", "ID,\"id\":OTHER"] {
        let echo = client.call(json!(1), "echo", json!({})).await;
        let last: u64 = echo["result"]["id"].as_u64().unwrap();
        let other = waiting(&mut bridge).await;
        let ids = order.replace("OTHER", &(last + 1).to_string());
        let answer = raw(
            &client,
            &format!(r#"{{"jsonrpc":"2.0","id":{ids},"result":{{}}}}"#),
            "\n",
        )
        .await;
        for answer in [answer, other.await.unwrap()] {
            assert_eq!(fault(&answer), "its answer has a member twice.");
        }
    }
}
