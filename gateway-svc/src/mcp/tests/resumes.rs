//! A connection breaks while a call is answered, and the client goes on.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, written},
    *,
};

fn message(n: u32) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": n}})
}

impl World {
    async fn go_on(&self, session: &str, last: &str) -> Response {
        let get = method("GET").by("alice").session(session);
        let get = get.header("accept", "text/event-stream").header("last-event-id", last);
        self.send(get).await
    }
}

#[tokio::test]
async fn a_client_gets_what_it_missed() {
    let (write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let other = world.open("alice", "2025-11-25", json!({})).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    let call = world.saw(|message| message["method"] == "tools/call").await;
    for n in 1..=3 {
        write.send(message(n)).unwrap();
        assert_eq!(events.next().await, message(n));
    }
    let first = {
        // Whoever had the connection has it no longer.
        let last = events.last.clone();
        let (again, ()) = tokio::join!(world.go_on(&session, &last), events.ended());
        let mut again = Events::of(again);
        write.send(message(4)).unwrap();
        assert_eq!(again.next().await, message(4));
        again.last.clone()
    };
    assert_ne!(first, events.last);
    // Now there is none.
    write.send(message(5)).unwrap();
    write
        .send(json!({"jsonrpc": "2.0", "id": call["id"], "result": {"content": []}}))
        .unwrap();
    for foreign in [&other, &world.open("alice", "2025-06-18", json!({})).await] {
        assert_eq!(world.go_on(foreign, &first).await.status(), 405);
    }
    let mut again = Events::of(world.go_on(&session, &first).await);
    assert_eq!(again.next().await, message(5));
    assert_eq!(
        again.next().await,
        json!({"jsonrpc": "2.0", "id": "c1", "result": {"content": []}})
    );
    for unknown in ["00000000-1-1", "0-0-0"] {
        assert_eq!(world.go_on(&session, unknown).await.status(), 405);
    }
    assert!(
        world.seen.try_recv().is_err(),
        "the call was neither sent again nor cancelled"
    );
}

/// Nobody can go on with it: no id was sent.
#[tokio::test]
async fn a_call_whose_client_never_got_an_event_is_cancelled_at_once() {
    let (_write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let session = world.open("alice", "2025-06-18", json!({})).await;
    let response = world.post("alice", &session, CALL).await;
    assert_eq!(response.status(), 200);
    drop(response);
    world
        .saw(|message| message["method"] == "notifications/cancelled")
        .await;
}

/// Official clients close the connection as soon as they have the answer, and nobody knows whether they have it.
#[tokio::test]
async fn an_answer_that_comes_at_once_is_not_lost_with_its_connection() {
    let (write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    let call = world.saw(|message| message["method"] == "tools/call").await;
    events.primed().await;
    let first = events.last.clone();
    let answer = json!({"jsonrpc": "2.0", "id": call["id"], "result": {"content": []}});
    write.send(answer).unwrap();
    let expected = events.next().await;
    let last = events.last.clone();
    events.ended().await;
    drop(events);
    for _ in 0..2 {
        let mut again = Events::of(world.go_on(&session, &first).await);
        assert_eq!(again.next().await, expected);
        again.ended().await;
    }
    // An empty stream would be asked for again and again.
    assert_eq!(world.go_on(&session, &last).await.status(), 405);
}

/// A stream that has ended without an answer has nothing for those who ask for it, as clients do.
#[tokio::test]
async fn the_stream_of_a_cancelled_call_is_over() {
    let (_write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    world.saw(|message| message["method"] == "tools/call").await;
    events.primed().await;
    world.post("alice", &session, cancel("c1").to_string()).await;
    events.ended().await;
    assert_eq!(world.go_on(&session, &events.last).await.status(), 405);
}
