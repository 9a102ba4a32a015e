//! What one caller may do at a time and in a minute, and batches, which are many calls in one.

use futures::FutureExt as _;
use pretty_assertions::assert_eq;

use super::*;

const BOTH: &str = "application/json, text/event-stream";

/// 60 requests and 4 sessions a minute, 2 calls and 1 stream at a time.
fn few() -> Arc<Quotas> {
    let count = |count| std::num::NonZeroU32::new(count).unwrap();
    Quotas::new(Allowance {
        requests: count(60),
        sessions: count(4),
        calls: 2,
        streams: 1,
        ..Allowance::unlimited()
    })
}

/// The error of a 429, which says when to retry.
async fn too_many(response: Response) -> Value {
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn a_used_up_quota_says_when_to_retry_and_affects_no_other_caller() {
    let world = world_with(few(), answers("{}")).await;
    let session = world.open("alice", "2025-03-26", json!({})).await;
    for _ in 0..20 {
        assert_eq!(world.post("alice", &session, PING).await.status(), 200);
    }
    // Of the 39 that are left, one batch takes most.
    let batch = format!("[{}]", vec![PING; 30].join(","));
    assert_eq!(world.post("alice", &session, batch.clone()).await.status(), 200);
    let refused = too_many(world.post("alice", &session, batch).await).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("you have made 60 requests within a minute"),
        "{refused}"
    );
    for _ in 0..60 {
        if world.post("alice", &session, PING).await.status() == 429 {
            break;
        }
    }
    too_many(world.post("alice", &session, PING).await).await;
    let stream = method("GET").by("alice").session(&session);
    too_many(world.send(stream).await).await;
    world.open("bob", "2025-11-25", json!({})).await;
}

#[tokio::test]
async fn a_caller_with_too_many_new_sessions_keeps_the_open_ones() {
    let world = world_with(few(), answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    for _ in 0..3 {
        world.open("alice", "2025-11-25", json!({})).await;
    }
    let fifth = post(initialize("i", "2025-11-25", &json!({}))).by("alice");
    assert_eq!(too_many(world.send(fifth).await).await["id"], "i");
    assert_eq!(world.post("alice", &session, PING).await.status(), 200);
}

#[tokio::test]
async fn calls_and_streams_count_until_they_end() {
    let (answer, held) = tokio::sync::watch::channel(false);
    let upstream = move |message: Value, _: HeaderMap| {
        let mut held = held.clone();
        let reply = format!(
            r#"{{"result":{{"content":[]}},"jsonrpc":"2.0","id":{}}}"#,
            message["id"]
        );
        if message["method"] != "tools/call" {
            return raw(reply);
        }
        let events = async_stream::stream! {
            let _ = held.wait_for(|answer| *answer).await;
            yield Ok::<_, std::convert::Infallible>(format!("data: {reply}\n\n"));
        };
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    };
    let world = world_with(few(), upstream).await;
    let session = world.open("alice", "2025-03-26", json!({})).await;
    let call = |id: &str| {
        let call = post(CALL.replace("c1", id)).by("alice").session(&session);
        world.send(call.header("accept", BOTH))
    };
    let first = call("c1").await;
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    // A batch is answered within the one call that is left.
    let batch = world.ask("alice", &session, &format!("[{PING},{PING}]")).await;
    assert_eq!((&batch[0]["result"], &batch[1]["result"]), (&json!({}), &json!({})));
    let second = call("c2").await;
    let refused = too_many(world.post("alice", &session, PING).await).await;
    assert_eq!(refused["id"], 7);
    too_many(world.post("alice", &session, format!("[{PING}]")).await).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("2 of your calls are under way"),
        "{refused}"
    );
    // Cancelling frees a place.
    assert_eq!(
        world.post("alice", &session, cancel("c2").to_string()).await.status(),
        202
    );
    assert_eq!(text(second).await, "");
    let _unread = world.post("alice", &session, PING).await;
    too_many(world.post("alice", &session, PING).await).await;
    answer.send_replace(true);
    assert!(text(first).await.contains("c1"));
    assert_eq!(world.post("alice", &session, PING).await.status(), 200);

    let stream = || method("GET").by("alice").session(&session);
    let open = world.send(stream()).await;
    assert_eq!(open.status(), 200);
    too_many(world.send(stream()).await).await;
    drop(open);
    assert_eq!(world.send(stream()).await.status(), 200);
}

/// As many calls of a batch are made at a time as its caller may have, and however they end, their answers stand in the batch's order.
#[tokio::test]
async fn a_batch_keeps_to_its_callers_calls_and_to_its_order() {
    let (open, most) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (second, wait) = tokio::sync::watch::channel(false);
    let second = Arc::new(second);
    let upstream = {
        let most = Arc::clone(&most);
        move |message: Value, _: HeaderMap| {
            let argument = message["params"]["arguments"]["n"].as_i64().unwrap();
            let reply = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"n":{argument}}}}}"#,
                message["id"]
            );
            let (open, second, mut wait) = (Arc::clone(&open), Arc::clone(&second), wait.clone());
            {
                let mut open = open.lock().unwrap();
                *open += 1;
                let mut most = most.lock().unwrap();
                *most = (*most).max(*open);
            }
            let events = async_stream::stream! {
                match argument {
                    0 => drop(wait.wait_for(|came| *came).await),
                    1 => drop(second.send_replace(true)),
                    _ => {}
                }
                *open.lock().unwrap() -= 1;
                yield Ok::<_, std::convert::Infallible>(format!("data: {reply}\n\n"));
            };
            ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
        }
    };
    let world = world_with(few(), upstream).await;
    let session = world.open("alice", "2025-03-26", json!({})).await;
    let call = |n: i64| call_with(n, &json!({"n": n}), Value::Null);
    let batch = Value::Array((0..6).map(call).collect());
    let answers = world.ask("alice", &session, &batch.to_string()).await;
    let order: Vec<(&Value, &Value)> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| (&answer["id"], &answer["result"]["n"]))
        .collect();
    let numbers: Vec<Value> = (0..6).map(Value::from).collect();
    let expected: Vec<(&Value, &Value)> = numbers.iter().map(|n| (n, n)).collect();
    assert_eq!(order, expected);
    assert_eq!(*most.lock().unwrap(), 2);
}

/// Whatever a message is, it was read.
#[tokio::test]
async fn invalid_messages_are_charged() {
    let bodies: [&[u8]; 5] = [b"[{]", b"[]", b"\xff", b"{", b"[5]"];
    for body in bodies {
        let world = world_with(few(), answers("{}")).await;
        let session = world.open("alice", "2025-03-26", json!({})).await;
        for _ in 0..59 {
            assert_ne!(world.post("alice", &session, body).await.status(), 429);
        }
        too_many(world.post("alice", &session, body).await).await;
    }
}

#[tokio::test]
async fn a_batch_can_always_cancel() {
    let silent = |_: Value, _: HeaderMap| {
        let events = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    };
    let mut world = world_with(few(), silent).await;
    let session = world.open("alice", "2025-03-26", json!({})).await;
    let call = |id: usize| CALL.replace("c1", &format!("c{id}"));
    let cancel = |id: usize| cancel(&format!("c{id}"));
    let mut open = Vec::new();
    for id in 0..2 {
        let call = post(call(id)).by("alice").session(&session).header("accept", BOTH);
        open.push(world.send(call).await);
    }
    too_many(world.post("alice", &session, format!("[{PING}]")).await).await;
    let reply = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    let cancels = json!([cancel(0), cancel(1), reply]);
    assert_eq!(world.post("alice", &session, cancels.to_string()).await.status(), 202);
    for cancelled in open {
        assert_eq!(text(cancelled).await, "");
    }
    while world.seen.try_recv().is_ok() {}
    // More calls than are made at a time, and what cancels them.
    let calls: Vec<String> = (2..12).map(call).collect();
    let cancels: Vec<String> = (2..12).map(|id| cancel(id).to_string()).collect();
    let batch = format!("[{},{}]", calls.join(","), cancels.join(","));
    assert_eq!(world.post("alice", &session, batch).await.status(), 202);
    while let Ok((message, _)) = world.seen.try_recv() {
        assert_ne!(message["method"], "tools/call", "it was cancelled before it was made");
    }
}

#[tokio::test]
async fn a_session_that_is_ended_takes_its_streams_along() {
    let world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let other = world.open("alice", "2025-11-25", json!({})).await;
    let listen = |session: &str| method("GET").by("alice").session(session);
    let (stream, others) = (world.send(listen(&session)).await, world.send(listen(&other)).await);
    let mut others = others.into_body();
    others.frame().await.unwrap().unwrap();
    let end = method("DELETE").by("alice").session(&session);
    assert_eq!(world.send(end).await.status(), 204);
    tokio::time::timeout(Duration::from_secs(10), text(stream))
        .await
        .expect("it ends");
    assert!(
        others.frame().now_or_never().is_none(),
        "the other session's stream goes on"
    );
}
