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
async fn a_silence_within_a_line_end_disturbs_nobody() {
    let mut bridge = impatient().await;
    let other = waiting(&mut bridge).await;
    let client = bridge.client();
    let broken = raw(&client, r#"{"jsonrpc":"2.0","id":ID,"result":{"a":"#, "\r").await;
    assert_eq!(
        fault(&broken),
        "its answer breaks off, and nothing has followed for 0.3 s."
    );
    let next = raw(&client, "\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}", "\n").await;
    assert_eq!(next, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    assert!(!other.is_finished());
    other.abort();
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

/// The answer of a server that could not read a request.
fn unread(code: i32) -> String {
    json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": "Parse error"}}).to_string()
}

/// A call that the server has answered with an error without an id.
async fn unreadable(bridge: &mut Bridge, code: i32) -> JoinHandle<Value> {
    bridge.logs.clear();
    let client = bridge.client();
    let call = tokio::spawn(async move { raw(&client, &unread(code), "\nanswered\n").await });
    bridge.wait_for_log("answered").await;
    call
}

#[tokio::test]
async fn an_error_without_an_id_is_for_the_only_caller() {
    let bridge = Bridge::ready("good").await;
    let client = bridge.client();
    for code in [-32700, -32600] {
        client.call(json!(1), "echo", json!({})).await;
        let answer = raw(&client, &unread(code), "\n").await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(code)));
    }
}

#[tokio::test]
async fn an_error_without_an_id_is_for_the_caller_who_is_left_when_the_others_are_answered() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    client.call(json!(1), "echo", json!({})).await;
    let other = tokio::spawn({
        let client = client.clone();
        async move { client.call(json!(2), "meet", json!({"calls": 2})).await }
    });
    bridge.wait_for_log("arrived").await;
    let unread = unreadable(&mut bridge, -32700).await;
    client.call(json!(3), "echo", json!({})).await;
    assert!(!unread.is_finished() && !other.is_finished());
    client.call(json!(4), "meet", json!({"calls": 2})).await;
    assert_eq!(other.await.unwrap()["result"]["met"], true);
    let answer = unread.await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32700)));
}

#[tokio::test]
async fn an_error_without_an_id_fails_no_call_if_it_may_be_about_another_message() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    client.call(json!(1), "echo", json!({})).await;
    // A message whose method is not known was read.
    let other_code = unreadable(&mut bridge, -32601).await;
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/other"});
    assert_eq!(client.post(&notification).await.0, 202);
    let after_notification = unreadable(&mut bridge, -32700).await;
    client.call(json!(2), "echo", json!({})).await;
    for call in [other_code, after_notification] {
        assert!(!call.is_finished());
        call.abort();
    }
}

#[tokio::test]
async fn an_error_without_an_id_fails_no_call_if_it_may_be_about_one_that_was_cancelled() {
    let mut bridge = Bridge::ready("good").await;
    let mut client = bridge.client();
    client.initialize("2025-11-25").await;
    client.call(json!(1), "echo", json!({})).await;
    let cancelled = tokio::spawn({
        let client = client.clone();
        async move { client.call(json!(2), "wait", json!({})).await }
    });
    bridge.wait_for_log("waiting").await;
    let left = unreadable(&mut bridge, -32700).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    assert_eq!(client.post(&cancel).await.0, 202);
    cancelled.await.unwrap();
    client.call(json!(3), "echo", json!({})).await;
    assert!(!left.is_finished());
    left.abort();
}

/// Two threads that write a message and its line end separately.
#[tokio::test]
async fn messages_on_one_line_are_all_received() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let answer = |id: &str, member: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},{member}}}"#);
    let good = r#""result":{"a":1}"#;
    for (first, last, end, whys) in [
        (good, good, "\n\n", [None, None]),
        (good, good, " the end of a line of the log\n", [None, None]),
        (
            good,
            r#""result":NaN"#,
            "\n",
            [None, Some("is not valid JSON (column ")],
        ),
        (
            r#""result":1,"error":2"#,
            good,
            "\n",
            [Some("has both a result and an error."), None],
        ),
        (
            r#""result":NaN"#,
            good,
            "\n",
            [Some("is not valid JSON (column "), None],
        ),
    ] {
        let echo = client.call(json!(1), "echo", json!({})).await;
        let other = (echo["result"]["id"].as_u64().unwrap() + 1).to_string();
        let waiting = waiting(&mut bridge).await;
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        let text = format!("{}{notification} {}", answer(&other, first), answer("ID", last));
        let answers = [raw(&client, &text, end).await, waiting.await.unwrap()];
        for (answer, why) in answers.iter().rev().zip(whys) {
            match why {
                None => assert_eq!(answer["result"]["a"], 1, "{text}: {answer}"),
                Some(why) => assert!(
                    fault(answer).starts_with(&format!("its answer {why}")),
                    "{text}: {answer}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn the_callers_of_a_line_that_is_too_long_are_all_answered() {
    let mut bridge = Bridge::ready_with("good", |spec| spec.limits.message_bytes = 100_000).await;
    let client = bridge.client();
    for order in ["OTHER{LONG}", "{LONG}OTHER"] {
        let echo = client.call(json!(1), "echo", json!({})).await;
        let other = echo["result"]["id"].as_u64().unwrap() + 1;
        let waiting = waiting(&mut bridge).await;
        let good = format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{"a":1}}}}"#);
        let long = r#"{"jsonrpc":"2.0","id":ID,"result":["LONG"]}"#;
        let text = order.replace("{LONG}", long).replace("OTHER", &good);
        let too_long = raw(&client, &text, "\n").await;
        assert!(fault(&too_long).contains("is longer than 100000 bytes"), "{too_long}");
        let answer = waiting.await.unwrap();
        if order.starts_with("OTHER") {
            assert_eq!(answer["result"]["a"], 1, "{answer}");
        } else {
            assert!(fault(&answer).contains("is longer than 100000 bytes"), "{answer}");
        }
    }
}

#[tokio::test]
async fn the_caller_of_a_second_answer_that_breaks_off_on_the_same_line_is_told() {
    let mut bridge = impatient().await;
    let client = bridge.client();
    let echo = client.call(json!(1), "echo", json!({})).await;
    let last: u64 = echo["result"]["id"].as_u64().unwrap();
    let other = waiting(&mut bridge).await;
    raw(&client, r#"{"jsonrpc":"2.0","id":ID,"result":{"a":"broken"#, "").await;
    let half = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"a""#, last + 1);
    let writer = bridge.client();
    let third = tokio::spawn(async move { raw(&writer, &half, "").await });
    assert_eq!(
        fault(&other.await.unwrap()),
        "its answer breaks off, and nothing has followed for 0.3 s."
    );
    // The next ones, still on the same line.
    let both = r#"{"jsonrpc":"2.0","id":THIRD,"result":{}}{"jsonrpc":"2.0","id":ID,"result":{}}"#;
    let both = both.replace("THIRD", &(last + 3).to_string());
    for answer in [raw(&client, &both, "\n").await, third.await.unwrap()] {
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    }
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
