//! A server of 2026-07-28, with clients of both eras.

use http::StatusCode;
use pretty_assertions::assert_eq;
use tokio::sync::oneshot;

use super::*;
use crate::upstream::post::CALLER;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const INFO: &str = "io.modelcontextprotocol/clientInfo";

pub(super) type Seen = mpsc::UnboundedReceiver<(Value, HeaderMap)>;

/// A server that speaks no older revision, and answers other requests than `server/discover` with `handler`.
pub(super) async fn modern(handler: impl Fn(&Value) -> Response + Send + Sync + 'static) -> (String, Seen) {
    changing(Arc::new(AtomicUsize::new(MODERN)), handler).await
}

pub(super) const MODERN: usize = 0;
pub(super) const LEGACY: usize = 1;

/// A server whose era is what `era` says at the time of a request.
pub(super) async fn changing(
    era: Arc<AtomicUsize>,
    handler: impl Fn(&Value) -> Response + Send + Sync + 'static,
) -> (String, Seen) {
    let (seen, receiver) = mpsc::unbounded_channel();
    let handler = Arc::new(handler);
    let respond = move |headers: HeaderMap, body: Bytes| {
        let message: Value = serde_json::from_slice(&body).unwrap();
        seen.send((message.clone(), headers.clone())).unwrap();
        let answer = match era.load(Ordering::SeqCst) {
            MODERN => answer_modern(&message, &headers, &*handler),
            _ => answer_legacy(&message, &headers, &*handler),
        };
        std::future::ready(answer)
    };
    (serve(Router::new().fallback(any(respond))).await, receiver)
}

fn answer_modern(message: &Value, headers: &HeaderMap, handler: &dyn Fn(&Value) -> Response) -> Response {
    let meta = &message["params"]["_meta"];
    if meta[VERSION] != "2026-07-28" {
        let data = json!({"supported": ["2026-07-28"], "requested": "2025-11-25"});
        return refused(message, -32022, "Unsupported protocol version: 2025-11-25", data);
    }
    assert!(headers.get("mcp-session-id").is_none());
    assert_eq!(headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(headers["mcp-method"], *message["method"].as_str().unwrap());
    assert!(meta[CAPABILITIES].is_object());
    match message["method"].as_str().unwrap() {
        "server/discover" => replied(
            message,
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "logging": {}}, "ttlMs": 0, "cacheScope": "private"}),
        ),
        _ => handler(message),
    }
}

fn answer_legacy(message: &Value, headers: &HeaderMap, handler: &dyn Fn(&Value) -> Response) -> Response {
    match message["method"].as_str() {
        Some("initialize") => {
            let reply = replied(message, json!({"protocolVersion": "2025-11-25", "capabilities": {}}));
            ([("mcp-session-id", "s")], reply).into_response()
        }
        Some("notifications/initialized") => StatusCode::ACCEPTED.into_response(),
        _ if headers.get("mcp-session-id").is_none() => {
            refused(message, -32000, "Bad Request: Server not initialized", Value::Null)
        }
        _ => handler(message),
    }
}

pub(super) fn replied(message: &Value, result: Value) -> Response {
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

fn refused(message: &Value, code: i64, why: &str, data: Value) -> Response {
    let error = json!({"code": code, "message": why, "data": data});
    let body = axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error}));
    (StatusCode::BAD_REQUEST, body).into_response()
}

fn complete(message: &Value) -> Response {
    replied(
        message,
        json!({"resultType": "complete", "content": [], "ttlMs": 1, "cacheScope": "public", "new": 1}),
    )
}

/// The methods of the requests so far.
fn methods(seen: &mut Seen) -> Vec<String> {
    let mut methods = Vec::new();
    while let Ok((message, _)) = seen.try_recv() {
        methods.push(message["method"].as_str().unwrap().to_owned());
    }
    methods
}

/// What calls of a client with a session go to, which can be asked.
fn of_client(url: &str, client: Client) -> Arc<Target> {
    let endpoint = Endpoint::remote(&url.parse().unwrap()).unwrap();
    let target = target_for("inst", endpoint, Scope::Client(client));
    let profile = Profile::new(r#"{"elicitation":{}}"#, r#"{"name":"c","version":"1"}"#);
    Arc::new(target.speaking_for(profile))
}

fn client() -> Client {
    Client::Session([1; 12])
}

/// The call of a client of this era.
async fn call_of(upstreams: &Upstreams, target: &Arc<Target>, era: Era) -> Result<Answer, UpstreamError> {
    let params = br#"{"name":"t","arguments":{"n":1}}"#;
    let request = upstreams.request("tools/call", params, &[]).speaking(era, None);
    upstreams.call(target, request, Cancel::default()).await
}

fn result_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.result().unwrap()).unwrap()
}

#[tokio::test]
async fn a_modern_server_is_recognized_and_told_all_in_each_request() {
    let (url, mut seen) = modern(complete).await;
    let (upstreams, client) = (upstreams(patient()), client());
    upstreams.remember_level(&client, "\"debug\"");
    let target = of_client(&url, client);
    let Answer::Whole(reply) = call_of(&upstreams, &target, Era::Legacy).await.unwrap() else {
        panic!()
    };
    assert_eq!(result_of(&reply), json!({"content": [], "new": 1}));
    let (discover, _) = seen.recv().await.unwrap();
    assert_eq!(discover["method"], "server/discover");
    let (sent, headers) = seen.recv().await.unwrap();
    assert_eq!(headers["mcp-name"], "t");
    assert_eq!(
        sent["params"],
        json!({"name": "t", "arguments": {"n": 1}, "_meta": {
            VERSION: "2026-07-28",
            CAPABILITIES: {"elicitation": {}},
            INFO: {"name": "c", "version": "1"},
            "io.modelcontextprotocol/logLevel": "debug",
        }})
    );
    // A client of its own era gets the result as it is.
    let Answer::Whole(reply) = call_of(&upstreams, &target, Era::Modern).await.unwrap() else {
        panic!()
    };
    assert_eq!(result_of(&reply)["resultType"], "complete");
    assert_eq!(methods(&mut seen), ["tools/call"]);
}

/// Each session of a client with a legacy server would take longer by a request.
#[tokio::test]
async fn a_legacy_server_is_asked_once() {
    let (url, mut seen) = changing(Arc::new(AtomicUsize::new(LEGACY)), complete).await;
    let upstreams = upstreams(patient());
    for id in [1, 2] {
        let target = of_client(&url, Client::Session([id; 12]));
        call_of(&upstreams, &target, Era::Legacy).await.unwrap();
    }
    let opened = ["initialize", "notifications/initialized", "tools/call"];
    let expected = ["server/discover"].into_iter().chain(opened).chain(opened);
    assert_eq!(methods(&mut seen), expected.collect::<Vec<_>>());
}

/// It has no sessions, which would end when it is updated.
#[tokio::test]
async fn a_modern_server_is_asked_again_what_it_offers() {
    let (url, mut seen) = modern(complete).await;
    for (discovered, expected) in [(Duration::ZERO, 2), (Duration::MAX, 1)] {
        let upstreams = upstreams(Limits {
            discovered,
            ..patient()
        });
        for _ in 0..2 {
            call_of(&upstreams, &of_client(&url, client()), Era::Legacy)
                .await
                .unwrap();
        }
        let asked = methods(&mut seen)
            .into_iter()
            .filter(|method| method == "server/discover");
        assert_eq!(asked.count(), expected);
    }
}

/// That it refuses `initialize` is no fault of its.
#[tokio::test]
async fn a_modern_server_that_fails_is_said_to_fail() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let respond = move |headers: HeaderMap, body: Bytes| {
        let message: Value = serde_json::from_slice(&body).unwrap();
        let fails = failing.load(Ordering::SeqCst) && message["method"] == "server/discover";
        std::future::ready(if fails {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        } else {
            answer_modern(&message, &headers, &complete)
        })
    };
    let url = serve(Router::new().fallback(any(respond))).await;
    let upstreams = upstreams(Limits {
        discovered: Duration::ZERO,
        ..patient()
    });
    call(&upstreams, &target(&url)).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    assert_eq!(invalid(call(&upstreams, &target(&url)).await), "HTTP 503");
    fails.store(false, Ordering::SeqCst);
    call(&upstreams, &target(&url)).await.unwrap();
}

/// It has no such methods, and what it would answer is known.
#[tokio::test]
async fn a_modern_server_gets_no_requests_of_older_revisions() {
    let (url, mut seen) = modern(complete).await;
    let upstreams = upstreams(patient());
    let target = of_client(&url, client());
    for method in ["resources/subscribe", "resources/unsubscribe", "prompts/list"] {
        let request = upstreams
            .request(method, br#"{"uri":"a:b"}"#, &[])
            .speaking(Era::Legacy, None);
        let asked = upstreams.call(&target, request, Cancel::default());
        assert_eq!(asked.await.unwrap_err(), UpstreamError::NotOffered, "{method}");
    }
    upstreams.set_level(&target, "\"info\"").await;
    upstreams
        .tell(
            &target,
            r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#.into(),
        )
        .await;
    assert_eq!(methods(&mut seen), ["server/discover"]);
}

/// It may have been updated, or replaced by an older one. The request that shows it was not carried out, and is sent again.
#[tokio::test]
async fn a_server_whose_era_changes_is_recognized_anew() {
    let era = Arc::new(AtomicUsize::new(LEGACY));
    let (url, mut seen) = changing(Arc::clone(&era), complete).await;
    let upstreams = upstreams(patient());
    let target = of_client(&url, client());
    let opening = |era| match era {
        MODERN => vec!["server/discover", "tools/call"],
        _ => vec![
            "server/discover",
            "initialize",
            "notifications/initialized",
            "tools/call",
        ],
    };
    call_of(&upstreams, &target, Era::Legacy).await.unwrap();
    assert_eq!(methods(&mut seen), opening(LEGACY));
    for now in [MODERN, LEGACY] {
        era.store(now, Ordering::SeqCst);
        let Answer::Whole(reply) = call_of(&upstreams, &target, Era::Legacy).await.unwrap() else {
            panic!()
        };
        assert_eq!(result_of(&reply)["content"], json!([]));
        assert_eq!(methods(&mut seen), [vec!["tools/call"], opening(now)].concat());
    }
    // Nor is the opening of a session a dead end.
    era.store(MODERN, Ordering::SeqCst);
    let other = of_client(&url, Client::Session([2; 12]));
    call_of(&upstreams, &other, Era::Legacy).await.unwrap();
    assert_eq!(methods(&mut seen), ["initialize", "server/discover", "tools/call"]);
}

/// A server that refuses a call with a code of another era may have carried it out.
#[tokio::test]
async fn a_call_is_not_sent_again_where_the_era_is_the_same() {
    const SAID: [(i64, &str); 2] = [
        (-32000, "the session of the printer is over"),
        (-32021, "the quota is used up"),
    ];
    for (era, (code, why)) in [MODERN, LEGACY].into_iter().zip(SAID) {
        let refuse = move |message: &Value| refused(message, code, why, Value::Null);
        let (url, mut seen) = changing(Arc::new(AtomicUsize::new(era)), refuse).await;
        let upstreams = upstreams(patient());
        let Answer::Whole(reply) = call_of(&upstreams, &of_client(&url, client()), Era::Legacy)
            .await
            .unwrap()
        else {
            panic!()
        };
        assert!(reply.error().is_some());
        let calls = methods(&mut seen).into_iter().filter(|method| method == "tools/call");
        assert_eq!(calls.count(), 1);
    }
}

/// Else a call of a legacy server that does not answer a request before `initialize` would never be made.
#[tokio::test]
async fn a_server_that_does_not_answer_the_question_is_initialized() {
    let respond = |headers: HeaderMap, body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap();
        if message["method"] == "server/discover" {
            std::future::pending::<()>().await;
        }
        answer_legacy(&message, &headers, &complete)
    };
    let url = serve(Router::new().fallback(any(respond))).await;
    let limits = Limits {
        discover: Duration::from_millis(20),
        ..patient()
    };
    call(&upstreams(limits), &target(&url)).await.unwrap();
}

/// A cold start takes longer than the question may. That the server is modern shows when it refuses `initialize`.
#[tokio::test]
async fn a_modern_server_that_is_slow_at_first_is_recognized() {
    let first = Arc::new(AtomicUsize::new(0));
    let respond = move |headers: HeaderMap, body: Bytes| {
        let first = first.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            answer_modern(&serde_json::from_slice(&body).unwrap(), &headers, &complete)
        }
    };
    let url = serve(Router::new().fallback(any(respond))).await;
    let limits = Limits {
        discover: Duration::from_millis(20),
        ..patient()
    };
    let reply = call(&upstreams(limits), &target(&url)).await.unwrap();
    assert_eq!(result_of(&reply)["content"], json!([]));
}

/// Asks for a name, then for a color, and greets; as events or as JSON.
fn in_rounds(as_events: bool) -> impl Fn(&Value) -> Response {
    move |message| {
        let given = &message["params"];
        let asks = |key: &str, state: &str| {
            let request = json!({"method": "elicitation/create", "params": {"message": key, "n": 1}});
            json!({"resultType": "input_required", "inputRequests": {key: request}, "requestState": state})
        };
        let result = match given["requestState"].as_str() {
            None => asks("name", "one/\u{fc}"),
            Some("one/\u{fc}") => asks("color", "two"),
            Some(_) => json!({"resultType": "complete", "content": [], "given": given["inputResponses"]}),
        };
        if as_events {
            let progress =
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
            let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
            events(vec![format!("data: {progress}\n\n"), format!("data: {reply}\n\n")])
        } else {
            replied(message, result)
        }
    }
}

#[tokio::test]
async fn what_a_server_asks_in_its_result_a_client_with_a_session_is_asked_in_the_call() {
    for as_events in [false, true] {
        let (url, mut seen) = modern(in_rounds(as_events)).await;
        let upstreams = upstreams(patient());
        let answer = call_of(&upstreams, &of_client(&url, client()), Era::Legacy)
            .await
            .unwrap();
        let Answer::Stream(mut messages) = answer else { panic!() };
        let mut asked = Vec::new();
        let reply = loop {
            match messages.next().await.unwrap() {
                Event::Request(asking) => {
                    let request: Value = serde_json::from_slice(&asking.with_id(b"\"q\"", None)).unwrap();
                    assert_eq!(
                        (&request["id"], &request["method"]),
                        (&json!("q"), &json!("elicitation/create"))
                    );
                    asked.push(request["params"]["message"].as_str().unwrap().to_owned());
                    asking
                        .answer(br#","result":{"action":"accept","content":{"x":1}}}"#)
                        .await;
                }
                Event::Reply(reply) => break reply,
                Event::Notification(_) => assert!(as_events),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(asked, ["name", "color"]);
        assert_eq!(
            result_of(&reply),
            json!({"content": [], "given": {"color": {"action": "accept", "content": {"x": 1}}}})
        );
        let mut calls = Vec::new();
        while let Ok((message, _)) = seen.try_recv() {
            calls.push(message);
        }
        let calls = &calls[1..];
        assert_eq!(calls.len(), 3);
        for (index, call) in calls.iter().enumerate() {
            assert_eq!(call["params"]["arguments"], json!({"n": 1}));
            assert!(calls[..index].iter().all(|earlier| earlier["id"] != call["id"]));
        }
    }
}

#[tokio::test]
async fn a_client_that_refuses_gets_its_own_error_back() {
    let (url, _seen) = modern(in_rounds(false)).await;
    let upstreams = upstreams(patient());
    let answer = call_of(&upstreams, &of_client(&url, client()), Era::Legacy)
        .await
        .unwrap();
    let Answer::Stream(mut messages) = answer else { panic!() };
    let Event::Request(asking) = messages.next().await.unwrap() else {
        panic!()
    };
    asking.refuse("it cannot be asked");
    let Event::Reply(reply) = messages.next().await.unwrap() else {
        panic!()
    };
    let error: Value = serde_json::from_slice(&reply.error().unwrap()).unwrap();
    assert_eq!(error, json!({"code": -32601, "message": "it cannot be asked"}));
    let whole: Value = serde_json::from_slice(&reply.with_id(b"\"c\"").concat()).unwrap();
    assert_eq!(whole["id"], "c");
}

#[tokio::test]
async fn a_server_does_not_ask_without_end() {
    let ask = |message: &Value| replied(message, json!({"resultType": "input_required", "requestState": "s"}));
    let (url, mut seen) = modern(ask).await;
    let upstreams = upstreams(patient());
    let answer = call_of(&upstreams, &of_client(&url, client()), Era::Legacy)
        .await
        .unwrap();
    let Answer::Stream(mut messages) = answer else { panic!() };
    assert!(matches!(messages.next().await, Err(UpstreamError::Invalid(_))));
    assert_eq!(methods(&mut seen).len(), 1 + 17);
}

#[tokio::test]
async fn a_call_ends_at_a_modern_server_when_its_stream_is_closed() {
    let (held, closed) = oneshot::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let (url, mut seen) = modern(move |_| {
        let held = held.lock().unwrap().take();
        let body = stream::poll_fn(move |_| {
            let _open = &held;
            std::task::Poll::<Option<Result<Bytes, Infallible>>>::Pending
        });
        ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
    })
    .await;
    let upstreams = upstreams(patient());
    let (target, cancel) = (of_client(&url, client()), Cancel::default());
    let request = upstreams.request("tools/call", b"{}", &[]);
    let Answer::Stream(mut messages) = upstreams.call(&target, request, cancel.clone()).await.unwrap() else {
        panic!()
    };
    cancel.cancel();
    assert_eq!(messages.next().await.unwrap_err(), UpstreamError::Cancelled);
    drop(messages);
    // The server has dropped its end.
    closed.await.unwrap_err();
    assert_eq!(methods(&mut seen), ["server/discover", "tools/call"]);
}

/// It has no session to find a caller's process by.
#[tokio::test]
async fn a_bridge_gets_the_caller_with_each_request() {
    let (url, mut seen) = modern(complete).await;
    let scope = Scope::Client(client());
    let target = target_for("inst", Endpoint::hosted(&url).unwrap(), scope).made_for("users/alice");
    let caller = target.caller.clone();
    call(&upstreams(short()), &Arc::new(target)).await.unwrap();
    for method in ["server/discover", "tools/call"] {
        let (message, headers) = seen.recv().await.unwrap();
        assert_eq!(message["method"], method);
        assert_eq!(headers.get(CALLER), caller.as_ref());
    }
}
