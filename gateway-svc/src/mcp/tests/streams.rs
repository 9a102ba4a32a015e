//! Event streams.

use pretty_assertions::assert_eq;

use super::{events::Events, *};

#[tokio::test]
async fn streams_are_relayed_and_faults_in_them_are_reported() {
    let event = |value: Value| format!("event: message\ndata: {value}\n\n");
    let respond = move |message: Value, _| {
        let token = &message["params"]["_meta"]["progressToken"];
        let mut events = event(
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}),
        );
        if message["params"]["arguments"]["whole"] == true {
            events += &event(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}));
        }
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let world = world(respond).await;
    let session = world.open("alice", "2025-06-18", json!({})).await;
    for (whole, last) in [(true, json!({"content": []})), (false, Value::Null)] {
        let meta = json!({"_meta": {"progressToken": "p9"}});
        let call = call_with(9, &json!({"whole": whole}), meta);
        let response = world.post("alice", &session, call.to_string()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let events = text(response).await;
        let events: Vec<Value> = events
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["params"], json!({"progressToken": "p9", "progress": 1}));
        assert_eq!(events[1]["id"], 9);
        if last.is_null() {
            assert_eq!(
                events[1]["result"]["structuredContent"],
                json!({"error": "upstream_invalid", "entry": "mail"})
            );
        } else {
            assert_eq!(events[1]["result"], last);
        }
    }
    let call = call_with("c1", &json!({"whole": true}), Value::Null).to_string();
    let call = post(call).by("alice").session(&session);
    let response = world.send(call.header("accept", "application/json")).await;
    assert_eq!(
        text(response).await,
        r#"{"id":"c1","jsonrpc":"2.0","result":{"content":[]}}"#
    );
}

/// A client's cancellation is passed on to the upstream.
#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_upstream() {
    let mut world = world(|_, _| {
        let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        ([("content-type", "text/event-stream")], Body::from_stream(never)).into_response()
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let response = world.post("alice", &session, CALL).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        world.post("alice", &session, cancel("c1").to_string()).await.status(),
        202
    );
    assert_eq!(text(response).await, "", "a cancelled call has no answer");
    let mut called = None;
    loop {
        let (message, _) = world.seen.recv().await.unwrap();
        match message["method"].as_str() {
            Some("tools/call") => called = Some(message["id"].clone()),
            Some("notifications/cancelled") => {
                assert_eq!(Some(&message["params"]["requestId"]), called.as_ref());
                break;
            }
            _ => {}
        }
    }
}

/// `list_changed` reaches clients that hold a stream open, and those that connect again.
#[tokio::test]
async fn a_changed_list_is_announced() {
    let mut world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let listen = || {
        method("GET")
            .by("alice")
            .session(&session)
            .header("accept", "text/event-stream")
    };
    let stream = world.send(listen()).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut stream = stream.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(10), stream.frame())
            .await
            .expect("an event comes");
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    let told = first.lines().next().unwrap().strip_prefix("id: ").unwrap().to_owned();
    // Another revision, with the same list; then one with another.
    fill(&mut world.feed, 2, world.registry.objects.clone()).await;
    let more = world
        .registry
        .clone()
        .tools("e-mail", &["read", "send"])
        .tools("i-alice", &["read", "send"])
        .assign("default", "mail", "read");
    fill(&mut world.feed, 3, more.objects.clone()).await;
    assert!(next().await.unwrap().contains("notifications/tools/list_changed"));
    let back = listen().header("last-event-id", &told);
    let mut missed = world.send(back).await.into_body();
    let event = missed.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(
        event.windows(12).any(|part| part == b"list_changed"),
        "what was missed is told"
    );
    let without: Vec<_> = more
        .objects
        .iter()
        .filter(|object| object.key != "alice")
        .cloned()
        .collect();
    fill(&mut world.feed, 4, without).await;
    assert_eq!(next().await, None, "the token was revoked");
    world.stop.cancel();
}

/// Its connection would be cut off soon: the client would wait for an answer, and the server would work for nobody.
#[tokio::test]
async fn a_call_in_progress_is_answered_and_cancelled_before_the_gateway_has_stopped() {
    let mut world = world(|_, _| {
        let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        ([("content-type", "text/event-stream")], Body::from_stream(never)).into_response()
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    let called = world.saw(|message| message["method"] == "tools/call").await;
    world.stop.cancel();
    events.primed().await;
    world.late.come();
    let answer = events.next().await;
    assert_eq!(answer["id"], "c1");
    assert_eq!(
        answer["result"]["structuredContent"],
        json!({"error": "call_interrupted"})
    );
    assert!(!events.last.is_empty(), "the event has an id");
    events.ended().await;
    let told = world
        .saw(|message| message["method"] == "notifications/cancelled")
        .await;
    assert_eq!(told["params"]["requestId"], called["id"]);
    let json = post(CALL).by("alice").session(&session);
    let answer = text(world.send(json.header("accept", "application/json")).await).await;
    assert!(answer.contains("call_interrupted"), "{answer}");
}
