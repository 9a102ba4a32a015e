//! Calls of clients of 2026-07-28 that wait while their clients answer what a server asks.

use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;

/// How long a call waits, and a moment more.
const PATIENCE: Duration = Duration::from_secs(601);

/// The stream of one call, as the server writes it.
pub(super) struct Line {
    pub(super) id: Value,
    pub(super) token: Value,
    pub(super) write: mpsc::UnboundedSender<Value>,
}

impl Line {
    /// Asks under this id who the user is.
    fn asks(&self, id: u32) {
        let params = json!({"message": "Who?", "requestedSchema": {"type": "object"}, "x": 1.0});
        let asks = json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params});
        self.write.send(asks).unwrap();
    }

    fn progress(&self, n: u32) {
        let params = json!({"progressToken": self.token, "progress": n});
        let told = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
        self.write.send(told).unwrap();
    }

    pub(super) fn replies(&self, text: &str) {
        let result = json!({"content": [{"type": "text", "text": text}]});
        let reply = json!({"jsonrpc": "2.0", "id": self.id, "result": result});
        self.write.send(reply).unwrap();
    }
}

/// A world whose server answers each call with a stream.
async fn lines() -> (World, mpsc::UnboundedReceiver<Line>) {
    lines_and(|| StatusCode::METHOD_NOT_ALLOWED.into_response()).await
}

/// The same, whose server answers a GET with this.
pub(super) async fn lines_and(
    get: impl Fn() -> Response + Send + Sync + 'static,
) -> (World, mpsc::UnboundedReceiver<Line>) {
    let (opened, lines) = mpsc::unbounded_channel();
    let respond = move |message: Value, _| {
        match message["method"].as_str() {
            Some("GET") => return get(),
            Some("tools/call") => {}
            _ => return StatusCode::ACCEPTED.into_response(),
        }
        let (write, read) = mpsc::unbounded_channel();
        let token = message["params"]["_meta"]["progressToken"].clone();
        let id = message["id"].clone();
        opened.send(Line { id, token, write }).unwrap();
        let events = UnboundedReceiverStream::new(read)
            .map(|message: Value| Ok::<_, std::convert::Infallible>(format!("data: {message}\n\n")));
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    };
    (world(respond).await, lines)
}

pub(super) fn forms() -> Value {
    json!({"elicitation": {}})
}

/// A call of `mail__send` that is repeated with this state and these answers.
pub(super) fn repeated(state: &Value, responses: &Value) -> Value {
    json!({"name": "mail__send", "arguments": {"n": 1}, "requestState": state, "inputResponses": responses})
}

pub(super) fn accepted() -> Value {
    json!({"question": {"action": "accept", "content": {"name": "\u{e4}"}, "later": 12345678901234567890_u64}})
}

impl World {
    pub(super) async fn calls(&self, who: &str, params: Value, can: &Value) -> (u16, Value) {
        self.modern(who, "tools/call", params, can).await
    }

    /// Alice's call, which waits, and the state under which it does.
    async fn parked(&self, lines: &mut mpsc::UnboundedReceiver<Line>) -> (Line, Value) {
        let can = forms();
        let call = self.calls("alice", json!({"name": "mail__send", "arguments": {"n": 1}}), &can);
        let asks = async {
            let line = lines.recv().await.unwrap();
            line.asks(7);
            line
        };
        let ((status, asked), line) = tokio::join!(call, asks);
        assert_eq!(status, 200);
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        let question = json!({"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {"type": "object"}, "x": 1.0}});
        assert_eq!(result["inputRequests"], json!({"question": question}));
        (line, result["requestState"].clone())
    }

    /// Alice's call, which does not wait: its server goes on without the answer that it asks for.
    async fn is_answered_without(&self, lines: &mut mpsc::UnboundedReceiver<Line>) {
        let can = forms();
        let call = self.calls("alice", json!({"name": "mail__send", "arguments": {"n": 1}}), &can);
        let server = async {
            let line = lines.recv().await.unwrap();
            line.asks(9);
            line.replies("without");
        };
        let ((_, answer), ()) = tokio::join!(call, server);
        assert_eq!(text_of(&answer), "without");
    }

    /// Fails if the server was sent an answer, or told that the call is over.
    pub(super) fn said_nothing(&mut self) {
        while let Ok((message, _)) = self.seen.try_recv() {
            let method = message["method"].as_str();
            assert!(
                method.is_some_and(|method| method != "notifications/cancelled"),
                "{message}"
            );
        }
    }
}

pub(super) fn text_of(answer: &Value) -> &Value {
    &answer["result"]["content"][0]["text"]
}

#[tokio::test]
async fn an_answered_call_goes_on_and_may_ask_again() {
    let (mut world, mut lines) = lines().await;
    let (line, state) = world.parked(&mut lines).await;
    let can = forms();
    let mut again = repeated(&state, &accepted());
    again["_meta"] = json!({});
    let go_on = async {
        let (_, asked) = world.calls("alice", again, &can).await;
        assert_eq!(asked["result"]["resultType"], "input_required");
        asked["result"]["requestState"].clone()
    };
    line.progress(1);
    line.asks(8);
    let second = go_on.await;
    let answer = world.saw(|message| message["id"] == 7).await;
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 7, "result": accepted()["question"]})
    );
    line.replies("done");
    let declined = json!({"question": {"action": "decline"}});
    let (status, answer) = world.calls("alice", repeated(&second, &declined), &can).await;
    assert_eq!((status, text_of(&answer)), (200, &json!("done")));
    assert_eq!(answer["result"]["resultType"], "complete");
    let answer = world.saw(|message| message["id"] == 8).await;
    assert_eq!(answer["result"], declined["question"]);
    assert!(lines.try_recv().is_err(), "the call was made once");

    // Neither place is there any more.
    for state in [&state, &second] {
        let (_, refused) = world.calls("alice", repeated(state, &accepted()), &can).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    world.said_nothing();
    assert!(lines.try_recv().is_err(), "nothing was called");
}

#[tokio::test]
async fn what_is_missing_is_asked_for_again() {
    let (mut world, mut lines) = lines().await;
    let (line, mut state) = world.parked(&mut lines).await;
    let can = forms();
    for missing in [json!({}), json!({"other": {}}), json!({"question": 5}), json!([])] {
        let (_, asked) = world.calls("alice", repeated(&state, &missing), &can).await;
        let result = &asked["result"];
        assert_eq!(result["inputRequests"]["question"]["method"], "elicitation/create");
        assert_ne!(result["requestState"], state, "{missing}");
        state = result["requestState"].clone();
    }
    world.said_nothing();
    line.replies("done");
    let (_, answer) = world.calls("alice", repeated(&state, &accepted()), &can).await;
    assert_eq!(text_of(&answer), "done");
}

/// The call has begun while its caller did; their answer is another request.
#[tokio::test]
async fn a_caller_who_reaches_the_server_no_longer_does_not_go_on() {
    let (mut world, mut lines) = lines().await;
    let (_line, state) = world.parked(&mut lines).await;
    world.said_nothing();
    let removal = removal(pb::ObjectKind::ToolAssignment, "a-default-mail-send");
    world.feed.changes(2, vec![removal]).await;
    let (_, refused) = world.calls("alice", repeated(&state, &accepted()), &forms()).await;
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("requestState"),
        "{refused}"
    );
    let next = world.saw(|_| true).await;
    assert_eq!(next["method"], "notifications/cancelled", "the server gets no answer");
}

#[tokio::test]
async fn nobody_else_answers_and_nothing_else_is_answered() {
    let (mut world, mut lines) = lines().await;
    let (line, state) = world.parked(&mut lines).await;
    let can = forms();
    let own = repeated(&state, &accepted());
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = own.clone();
        change(&mut changed);
        changed
    };
    let mut altered = state.as_str().unwrap().to_owned();
    altered.pop();
    for (who, params) in [
        ("bob", own.clone()),
        ("alice", changed(&|own| own["arguments"]["n"] = json!(2))),
        ("alice", changed(&|own| own["arguments"] = json!({}))),
        ("alice", changed(&|own| own["new"] = json!(1))),
        ("alice", changed(&|own| own["requestState"] = json!(altered))),
        ("alice", changed(&|own| own["requestState"] = json!(5))),
    ] {
        let (_, refused) = world.calls(who, params.clone(), &can).await;
        assert_eq!(refused["error"]["code"], -32602, "{who} {params}");
    }
    world.said_nothing();
    line.replies("done");
    let (_, answer) = world.calls("alice", own, &can).await;
    assert_eq!(text_of(&answer), "done");
}

#[tokio::test]
async fn a_call_that_has_waited_too_long_is_cancelled() {
    let (mut world, mut lines) = lines().await;
    let (line, state) = world.parked(&mut lines).await;
    // The wait begins.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(PATIENCE).await;
    tokio::time::resume();
    let told = world
        .saw(|message| message["method"] == "notifications/cancelled")
        .await;
    assert_eq!(told["params"]["requestId"], line.id);
    let (_, refused) = world.calls("alice", repeated(&state, &accepted()), &forms()).await;
    assert_eq!(refused["error"]["code"], -32602);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("waits no longer"), "{message}");
}

/// The server is told so, and may go on without the answer.
#[tokio::test]
async fn only_so_many_calls_of_a_caller_wait() {
    let (mut world, mut lines) = lines().await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        waiting.push(world.parked(&mut lines).await);
    }
    world.is_answered_without(&mut lines).await;
    let refused = world.saw(|message| message.get("error").is_some()).await;
    assert_eq!(
        refused["error"]["message"],
        "no more calls may wait for the answers of their clients at present"
    );
    // One that is answered makes place.
    let (line, state) = waiting.pop().unwrap();
    line.replies("done");
    let (_, answer) = world.calls("alice", repeated(&state, &accepted()), &forms()).await;
    assert_eq!(text_of(&answer), "done");
    world.parked(&mut lines).await;
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_is_not() {
    let (mut world, mut lines) = lines().await;
    for (id, can) in (20..).zip([
        json!({}),
        json!({"sampling": {}, "roots": {}}),
        json!({"elicitation": {"url": {}}}),
    ]) {
        let call = world.calls("alice", json!({"name": "mail__send", "arguments": {"n": 1}}), &can);
        let server = async {
            let line = lines.recv().await.unwrap();
            line.asks(id);
            line.replies("without");
        };
        let ((_, answer), ()) = tokio::join!(call, server);
        assert_eq!(text_of(&answer), "without", "{can}");
        let refused = world.saw(|message| message["id"] == id).await;
        assert_eq!(refused["error"]["code"], -32601);
    }
}

#[tokio::test]
async fn what_happens_to_a_waiting_call_is_said_when_its_client_answers() {
    let (world, mut lines) = lines().await;
    let can = forms();
    let (line, state) = world.parked(&mut lines).await;
    let error = json!({"code": -32001, "message": "gone", "data": {"n": 1.0}});
    line.write
        .send(json!({"jsonrpc": "2.0", "id": line.id, "error": error}))
        .unwrap();
    let (status, answer) = world.calls("alice", repeated(&state, &accepted()), &can).await;
    assert_eq!((status, &answer["error"]), (200, &error), "{answer}");

    let (line, state) = world.parked(&mut lines).await;
    drop(line);
    let (_, answer) = world.calls("alice", repeated(&state, &accepted()), &can).await;
    let error = &answer["result"]["structuredContent"];
    assert_eq!(
        error,
        &json!({"error": "upstream_invalid", "entry": "mail"}),
        "{answer}"
    );
}

/// Their clients find no place after it, here or at another replica.
#[tokio::test]
async fn calls_that_wait_when_the_gateway_stops_are_cancelled() {
    let (mut world, mut lines) = lines().await;
    let (line, state) = world.parked(&mut lines).await;
    world.stop.cancel();
    let told = world
        .saw(|message| message["method"] == "notifications/cancelled")
        .await;
    assert_eq!(told["params"]["requestId"], line.id);
    let (_, refused) = world.calls("alice", repeated(&state, &accepted()), &forms()).await;
    assert_eq!(refused["error"]["code"], -32602);
    // None begins to wait, either.
    world.is_answered_without(&mut lines).await;
}
