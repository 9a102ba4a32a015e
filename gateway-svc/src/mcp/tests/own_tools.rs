//! Tools that a server shows one client.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, written},
    *,
};

const GROWN: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"mail__grown"}}"#;

/// Lists `send` anew, and `grown`; answers calls with what `call` makes of the request.
fn grows(
    respond: impl Fn() -> Response + Send + Sync,
    call: impl Fn(&Value) -> Response + Send + Sync,
) -> impl Fn(Value, HeaderMap) -> Response + Send + Sync {
    let listed =
        r#"{"tools":[{"name":"send","description":"anew","inputSchema":{"n":1.0}},{"name":"grown","inputSchema":{}}]}"#;
    let list = answers(listed);
    move |message, headers| match message["method"].as_str() {
        Some("GET") => respond(),
        Some("tools/list") => list(message, headers),
        _ => call(&message),
    }
}

fn answered(message: &Value) -> Response {
    raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}).to_string())
}

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

impl World {
    async fn assign_all(&mut self) {
        self.streams.store(true, Ordering::SeqCst);
        let more = self.registry.clone().assign("default", "mail", "*");
        // The tool is assigned by itself, too, which does not depend on what a server says.
        let objects = more
            .objects
            .into_iter()
            .filter(|object| object.key != "a-default-mail-send");
        fill(&mut self.feed, 2, objects.collect()).await;
    }

    async fn tools(&self, session: &str) -> Vec<Value> {
        let listed = self.ask("alice", session, LIST).await;
        let tools = listed["result"]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].clone()).collect()
    }
}

#[tokio::test]
async fn are_announced_listed_and_called_in_its_session_alone() {
    let (write, respond) = written();
    let mut world = world(grows(respond, answered)).await;
    world.assign_all().await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let other = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    world.ask("alice", &session, CALL).await;
    assert_eq!(world.tools(&session).await, ["mail__send"]);
    assert_eq!(world.ask("alice", &session, GROWN).await["error"]["code"], -32602);

    write.send(changed()).unwrap();
    assert_eq!(events.next().await, changed());
    assert_eq!(world.tools(&session).await, ["mail__grown", "mail__send"]);
    let page = text(world.post("alice", &session, LIST).await).await;
    assert!(
        page.contains(r#"{"name":"mail__send","description":"anew","inputSchema":{"n":1.0}}"#),
        "{page}"
    );
    assert_eq!(
        world.ask("alice", &session, GROWN).await["result"],
        json!({"content": []})
    );
    assert_eq!(world.last_call().0["params"]["name"], "grown");

    assert_eq!(world.tools(&other).await, ["mail__send"]);
    assert_eq!(world.ask("alice", &other, GROWN).await["error"]["code"], -32602);
}

/// A server that nothing has changed at is not asked.
#[tokio::test]
async fn are_asked_for_once_for_each_change() {
    let (write, respond) = written();
    let mut world = world(grows(respond, answered)).await;
    world.assign_all().await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    world.ask("alice", &session, CALL).await;
    world.tools(&session).await;
    for _ in 0..2 {
        write.send(changed()).unwrap();
        assert_eq!(events.next().await, changed());
        for _ in 0..2 {
            assert_eq!(world.tools(&session).await.len(), 2);
        }
    }
    let mut asked = 0;
    while let Ok((message, _)) = world.seen.try_recv() {
        asked += usize::from(message["method"] == "tools/list");
    }
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn that_come_with_an_answer_are_announced_before_it() {
    let (_write, respond) = written();
    let says = |message: &Value| {
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}});
        let events = format!("data: {}\n\ndata: {answer}\n\n", changed());
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let mut world = world(grows(respond, says)).await;
    world.assign_all().await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let call = post(CALL).by("alice").session(&session);
    let mut events = Events::of(
        world
            .send(call.header("accept", "application/json, text/event-stream"))
            .await,
    );
    assert_eq!(events.next().await, changed());
    assert_eq!(events.next().await["id"], "c1");
    assert_eq!(world.tools(&session).await, ["mail__grown", "mail__send"]);
}

/// What is assigned one by one does not depend on what servers say.
#[tokio::test]
async fn are_nothing_to_a_gateway_that_has_named_its_tools() {
    let (write, respond) = written();
    let world = world(grows(respond, answered)).await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    world.ask("alice", &session, CALL).await;
    write.send(changed()).unwrap();
    let after = json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"});
    write.send(after.clone()).unwrap();
    assert_eq!(events.next().await, after);
    assert_eq!(world.tools(&session).await, ["mail__send"]);
}

/// Its list comes when it comes: the client is told then.
#[tokio::test]
async fn of_a_server_that_takes_long_keep_nobody_waiting() {
    let ((write, respond), (list, lists)) = (written(), written());
    let answer = grows(respond, answered);
    let late = Mutex::new(Some(lists));
    let mut world = world(move |message, headers| {
        let lists = (message["method"] == "tools/list").then(|| late.lock().unwrap().take());
        lists
            .flatten()
            .map_or_else(|| answer(message, headers), |lists| lists())
    })
    .await;
    world.assign_all().await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    world.ask("alice", &session, CALL).await;
    write.send(changed()).unwrap();
    assert_eq!(events.next().await, changed());
    assert_eq!(world.tools(&session).await, ["mail__send"]);
    let asked = world.saw(|message| message["method"] == "tools/list").await;
    let listed = json!({"tools": [{"name": "grown", "inputSchema": {}}]});
    list.send(json!({"jsonrpc": "2.0", "id": asked["id"], "result": listed}))
        .expect("it is still awaited");
    assert_eq!(events.next().await, changed());
    assert_eq!(world.tools(&session).await, ["mail__grown"]);
}

/// It cannot hear that they have changed, and asks.
#[tokio::test]
async fn are_listed_to_a_client_that_does_not_listen() {
    let (_write, respond) = written();
    let mut world = world(grows(respond, answered)).await;
    world.assign_all().await;
    world.session.store(1, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(world.tools(&session).await, ["mail__send"]);
    world.ask("alice", &session, CALL).await;
    assert_eq!(world.tools(&session).await, ["mail__grown", "mail__send"]);
    assert_eq!(
        world.ask("alice", &session, GROWN).await["result"],
        json!({"content": []})
    );
}
