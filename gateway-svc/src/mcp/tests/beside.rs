//! What servers with sessions say beside the answers to calls of clients of 2026-07-28, which hold no stream open for it.

use std::sync::atomic::AtomicUsize;

use pretty_assertions::assert_eq;

use super::{
    events::{Events, notification, written},
    modern,
    parked::{Line, accepted, forms, lines_and, repeated, text_of},
    *,
};

/// A server with a stream for what belongs to no call.
struct Beside {
    world: World,
    lines: mpsc::UnboundedReceiver<Line>,
    write: mpsc::UnboundedSender<Value>,
    /// How often the stream was opened.
    opened: Arc<AtomicUsize>,
}

async fn beside() -> Beside {
    let (write, respond) = written();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let get = move || {
        count.fetch_add(1, Ordering::SeqCst);
        respond()
    };
    let (world, lines) = lines_and(get).await;
    world.streams.store(true, Ordering::SeqCst);
    Beside {
        world,
        lines,
        write,
        opened,
    }
}

fn question(id: u32) -> Value {
    let params = json!({"message": format!("Who {id}?"), "requestedSchema": {"type": "object"}});
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params})
}

fn call(n: u32) -> Value {
    json!({"name": "mail__send", "arguments": {"n": n}})
}

/// Alice's call as a request whose answer is a stream, with further members of `_meta`.
fn request(params: Value, meta: Value) -> Request {
    let mut message: Value = serde_json::from_str(&modern::message("tools/call", params, &forms())).unwrap();
    let Value::Object(meta) = meta else { panic!() };
    message["params"]["_meta"].as_object_mut().unwrap().extend(meta);
    let ask = post(message.to_string()).by("alice").header("mcp-method", "tools/call");
    let ask = ask
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-name", "mail__send");
    ask.header("accept", "application/json, text/event-stream").into()
}

/// The state under which a call waits for the answer to this question.
fn asked(answer: &Value, id: u32) -> Value {
    let result = &answer["result"];
    assert_eq!(result["resultType"], "input_required", "{answer}");
    assert_eq!(
        result["inputRequests"]["question"]["params"]["message"],
        format!("Who {id}?")
    );
    result["requestState"].clone()
}

impl Beside {
    /// A call, and what the server does when it has got it.
    async fn calls(
        &mut self,
        params: Value,
        server: impl FnOnce(&Line, &mpsc::UnboundedSender<Value>),
    ) -> (Value, Line) {
        let can = forms();
        let called = self.world.calls("alice", params, &can);
        let serves = async {
            let line = self.lines.recv().await.unwrap();
            server(&line, &self.write);
            line
        };
        let ((_, answer), line) = tokio::join!(called, serves);
        (answer, line)
    }
}

#[tokio::test]
async fn a_call_asks_what_its_server_asks_on_the_stream_of_the_session() {
    let mut beside = beside().await;
    for n in 1..4 {
        let (answer, line) = beside.calls(call(1), |_, write| write.send(question(n)).unwrap()).await;
        let state = asked(&answer, n);
        line.replies("done");
        let can = forms();
        let (_, answer) = beside.world.calls("alice", repeated(&state, &accepted()), &can).await;
        assert_eq!(text_of(&answer), "done");
        let got = beside
            .world
            .saw(|message| message["id"] == n && message.get("result").is_some())
            .await;
        assert_eq!(got["result"], accepted()["question"]);
    }
    assert_eq!(beside.opened.load(Ordering::SeqCst), 1, "one stream for all calls");
    // After the calls, nobody can be asked.
    beside.write.send(question(9)).unwrap();
    let refused = beside.world.saw(|message| message.get("error").is_some()).await;
    assert_eq!(refused["id"], 9);
}

/// A server that says this when it is called, beside the answer. That is plain JSON, which begins when the test writes it.
async fn plain(says: Vec<Value>) -> (World, mpsc::UnboundedSender<String>) {
    let (write, respond) = written();
    let (reply, replies) = mpsc::unbounded_channel::<String>();
    let replies = Mutex::new(Some(replies));
    let world = world(move |message, _| {
        if message["method"] == "GET" {
            return respond();
        }
        says.iter().for_each(|said| write.send(said.clone()).unwrap());
        let replies = replies.lock().unwrap().take().expect("it is called once");
        let body = tokio_stream::wrappers::UnboundedReceiverStream::new(replies);
        let body = futures::StreamExt::map(body, Ok::<_, std::convert::Infallible>);
        ([("content-type", "application/json")], Body::from_stream(body)).into_response()
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    (world, reply)
}

/// Servers that answer with plain JSON begin their answers when they have the client's.
#[tokio::test]
async fn a_call_asks_before_its_answer_has_begun() {
    let (mut world, reply) = plain(vec![question(1)]).await;
    let can = forms();
    let (_, answer) = world.calls("alice", call(1), &can).await;
    let state = asked(&answer, 1);
    let id = world.last_call().0["id"].clone();
    let again = repeated(&state, &accepted());
    let again = world.calls("alice", again, &can);
    let result = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "done"}]}});
    reply.send(result.to_string()).unwrap();
    drop(reply);
    let (_, answer) = again.await;
    assert_eq!(text_of(&answer), "done");
    let got = world.saw(|message| message.get("result").is_some()).await;
    assert_eq!(got["id"], 1);
}

/// Nothing is read of that before the server asks.
#[tokio::test]
async fn a_call_asks_however_much_its_server_has_logged_before() {
    let log = |n: u32| notification("message", json!({"level": "info", "data": format!("{n:0>9999}")}));
    let says = (0..40).map(log).chain([question(1)]).collect();
    let (mut world, _reply) = plain(says).await;
    let called = world.router.clone().oneshot(request(call(1), json!({})));
    tokio::select! {
        answer = async { Events::of(called.await.unwrap()).next().await } => asked(&answer, 1),
        refused = world.saw(|message| message.get("error").is_some()) => panic!("{refused}"),
    };
}

/// The call waits for the answer to another.
#[tokio::test]
async fn more_questions_than_can_wait_are_refused() {
    let mut beside = beside().await;
    let (answer, _line) = beside.calls(call(1), |_, write| write.send(question(1)).unwrap()).await;
    asked(&answer, 1);
    let long = |id| {
        let mut question = question(id);
        question["params"]["message"] = "x".repeat(200_000).into();
        question
    };
    let few = (4..19).map(question);
    for question in [long(2), long(3)].into_iter().chain(few).chain([question(19)]) {
        beside.write.send(question).unwrap();
    }
    let mut refused = Vec::new();
    while refused.len() < 2 {
        let answer = beside.world.saw(|message| message.get("error").is_some()).await;
        let why = answer["error"]["message"].as_str().unwrap();
        assert!(why.contains("no more can wait for it"), "{why}");
        refused.push(answer["id"].as_u64().unwrap());
    }
    refused.sort_unstable();
    assert_eq!(refused, [3, 19]);
}

#[tokio::test]
async fn of_several_calls_the_one_that_began_last_asks_unless_it_waits() {
    let mut beside = beside().await;
    let router = beside.world.router.clone();
    let first = tokio::spawn(router.oneshot(request(call(1), json!({}))));
    let earlier = beside.lines.recv().await.unwrap();
    let (answer, later) = beside.calls(call(2), |_, write| write.send(question(1)).unwrap()).await;
    let state = asked(&answer, 1);
    beside.write.send(question(2)).unwrap();
    let mut events = Events::of(first.await.unwrap().unwrap());
    asked(&events.next().await, 2);
    later.replies("later");
    let again =
        json!({"name": "mail__send", "arguments": {"n": 2}, "requestState": state, "inputResponses": accepted()});
    let (_, answer) = beside.world.calls("alice", again, &forms()).await;
    assert_eq!(text_of(&answer), "later");
    drop(earlier);
}

/// Its server is not sent an answer.
#[tokio::test]
async fn what_is_withdrawn_is_not_answered() {
    let mut beside = beside().await;
    let (answer, line) = beside.calls(call(1), |_, write| write.send(question(1)).unwrap()).await;
    let state = asked(&answer, 1);
    beside
        .write
        .send(notification("cancelled", json!({"requestId": 1})))
        .unwrap();
    // What is said later has been heard when this has been answered.
    beside
        .write
        .send(json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}))
        .unwrap();
    beside
        .world
        .saw(|message| message["id"] == 2 && message.get("result").is_some())
        .await;
    line.replies("done");
    let (_, answer) = beside
        .world
        .calls("alice", repeated(&state, &accepted()), &forms())
        .await;
    assert_eq!(text_of(&answer), "done");
    beside.world.said_nothing();
}

#[tokio::test]
async fn a_call_gets_its_progress_and_log_messages() {
    let mut beside = beside().await;
    let meta = json!({"progressToken": "p", "io.modelcontextprotocol/logLevel": "info"});
    let router = beside.world.router.clone();
    let called = tokio::spawn(router.oneshot(request(call(1), meta)));
    let line = beside.lines.recv().await.unwrap();
    let progress = |token: &Value| notification("progress", json!({"progressToken": token, "progress": 1}));
    beside.write.send(progress(&json!(0))).unwrap();
    beside.write.send(progress(&line.token)).unwrap();
    let log = notification("message", json!({"level": "info", "data": 1}));
    beside.write.send(log.clone()).unwrap();
    let mut events = Events::of(called.await.unwrap().unwrap());
    assert_eq!(events.next().await, progress(&json!("p")));
    assert_eq!(events.next().await, log);
    line.replies("done");
    assert_eq!(text_of(&events.next().await), "done");
}

/// On a call's stream, and on that of the session.
#[tokio::test]
async fn those_who_listen_learn_what_concerns_no_call() {
    let mut beside = beside().await;
    let all = beside.world.registry.clone().assign("default", "mail", "*");
    fill(&mut beside.world.feed, 2, all.objects.clone()).await;
    let wanted = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
    let listen = modern::message("subscriptions/listen", json!({"notifications": wanted}), &forms());
    let listen = post(listen).by("alice").header("mcp-method", "subscriptions/listen");
    let listen = listen.header("mcp-protocol-version", "2026-07-28");
    let mut events = Events::of(
        beside
            .world
            .send(listen.header("accept", "application/json, text/event-stream"))
            .await,
    );
    assert_eq!(events.next().await["params"]["notifications"], wanted);
    let changed = |list: &str| notification(&format!("{list}/list_changed"), json!({}));
    let (_, line) = beside
        .calls(call(1), |line, write| {
            for list in ["prompts", "tools"] {
                line.write.send(changed(list)).unwrap();
            }
            write.send(changed("resources")).unwrap();
            line.replies("done");
        })
        .await;
    drop(line);
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 3 {
        told.insert(events.next().await["method"].as_str().unwrap().to_owned());
    }
    let expected = ["prompts", "resources", "tools"].map(|list| format!("notifications/{list}/list_changed"));
    assert_eq!(told, expected.into());
    assert_eq!(beside.opened.load(Ordering::SeqCst), 1, "one stream for both");
}
