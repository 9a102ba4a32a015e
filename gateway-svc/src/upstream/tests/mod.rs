//! Upstreams that are odd, slow or hostile, in this process.

mod bounds;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse, Response},
    routing::any,
};
use futures::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use service_kit::egress::EgressPolicy;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

type Handler = Arc<dyn Fn(Value, HeaderMap) -> Response + Send + Sync>;

/// A server that initializes as it should and answers every other request with `handler`.
async fn server(
    handler: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static,
) -> (String, mpsc::UnboundedReceiver<(Value, HeaderMap)>) {
    let handler: Handler = Arc::new(handler);
    let (seen, receiver) = mpsc::unbounded_channel();
    let sessions = Arc::new(AtomicUsize::new(0));
    let respond = move |request: Request| {
        let (handler, seen, sessions) = (Arc::clone(&handler), seen.clone(), Arc::clone(&sessions));
        async move {
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let message: Value = serde_json::from_slice(&body).unwrap();
            seen.send((message.clone(), headers.clone())).unwrap();
            match message["method"].as_str() {
                Some("initialize") => {
                    let n = sessions.fetch_add(1, Ordering::SeqCst) + 1;
                    let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                    let mut response =
                        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response();
                    response
                        .headers_mut()
                        .insert("mcp-session-id", HeaderValue::from_str(&format!("s{n}")).unwrap());
                    response
                }
                Some(method) if method.starts_with("notifications/") => http::StatusCode::ACCEPTED.into_response(),
                None => http::StatusCode::ACCEPTED.into_response(),
                Some(_) => handler(message, headers),
            }
        }
    };
    (serve(Router::new().fallback(any(respond))).await, receiver)
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn upstreams(limits: Limits) -> Upstreams {
    Upstreams::new(EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]), limits)
}

fn short() -> Limits {
    let short = Duration::from_millis(300);
    Limits {
        headers: short,
        idle: short,
        initialize: short,
        total: Duration::from_secs(2),
        max_message: 1 << 20,
        ..Limits::default()
    }
}

/// Where no answer is to come late.
fn patient() -> Limits {
    let long = Duration::from_secs(20);
    Limits {
        headers: long,
        idle: long,
        initialize: long,
        total: long,
        ..short()
    }
}

fn target(url: &str) -> Arc<Target> {
    target_of(url, 1)
}

fn target_of(url: &str, generation: i64) -> Arc<Target> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
    target_with(url, generation, headers)
}

fn target_with(url: &str, generation: i64, headers: HeaderMap) -> Arc<Target> {
    let endpoint = Endpoint::remote(&url.parse().unwrap()).unwrap();
    Arc::new(Target::new(
        endpoint,
        "inst".into(),
        [1, generation, 0],
        Revision::LATEST,
        headers,
        None,
    ))
}

async fn call(upstreams: &Upstreams, target: &Arc<Target>) -> Result<Reply, UpstreamError> {
    upstreams
        .ask(target, "tools/call", br#"{"name":"t","arguments":{}}"#)
        .await
}

fn events(pieces: Vec<String>) -> Response {
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    ([("content-type", "text/event-stream")], body).into_response()
}

fn json_text(text: impl Into<Bytes>) -> Response {
    (
        [("content-type", "application/json; charset=utf-8")],
        Body::from(text.into()),
    )
        .into_response()
}

fn invalid(result: Result<Reply, UpstreamError>) -> String {
    match result {
        Err(UpstreamError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn initializes_once_and_keeps_the_result_as_it_came() {
    let result = r#"{"content":[{"type":"text","text":"x","new":{"a":[1.0]}}],"structuredContent":{"n":98765432109876543210},"_meta":{"k":1e2}}"#;
    let (url, mut seen) = server(move |message, _| {
        json_text(format!(
            r#"{{"result":{result},"jsonrpc":"2.0","id":{}}}"#,
            message["id"]
        ))
    })
    .await;
    let (upstreams, target) = (upstreams(patient()), target(&url));
    assert_eq!(call(&upstreams, &target).await.unwrap().result().unwrap(), result);
    assert_eq!(call(&upstreams, &target).await.unwrap().result().unwrap(), result);
    let mut methods = Vec::new();
    while let Ok((message, headers)) = seen.try_recv() {
        assert_eq!(headers["authorization"], "Bearer secret");
        let first = message["method"] == "initialize";
        assert_eq!(headers.contains_key("mcp-session-id"), !first);
        if !first {
            assert_eq!(
                headers["mcp-protocol-version"], "2025-06-18",
                "what was agreed, not what was offered"
            );
        }
        methods.push(message["method"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        methods,
        ["initialize", "notifications/initialized", "tools/call", "tools/call"]
    );
}

#[tokio::test]
async fn a_lost_session_is_opened_again_once() {
    for status in [404, 400] {
        let (url, mut seen) = server(move |message, headers| {
            if headers["mcp-session-id"] == "s1" {
                return (
                    http::StatusCode::from_u16(status).unwrap(),
                    "No valid session ID provided",
                )
                    .into_response();
            }
            json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))
        })
        .await;
        let (upstreams, target) = (upstreams(patient()), target(&url));
        call(&upstreams, &target).await.unwrap();
        call(&upstreams, &target).await.unwrap();
        let mut initialized = 0;
        while let Ok((message, _)) = seen.try_recv() {
            initialized += usize::from(message["method"] == "initialize");
        }
        assert_eq!(initialized, 2);
    }
    let (url, _seen) = server(|_, _| http::StatusCode::NOT_FOUND.into_response()).await;
    assert!(invalid(call(&upstreams(patient()), &target(&url)).await).contains("forgets its session"));
}

/// Lesson 2: a session of an older credential is not used again.
#[tokio::test]
async fn another_credential_has_another_session() {
    let (url, _seen) = server(|message, headers| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"session":{:?}}}}}"#,
            message["id"], headers["mcp-session-id"]
        ))
    })
    .await;
    let upstreams = upstreams(patient());
    let of = |generation| target_of(&url, generation);
    let first = call(&upstreams, &of(1)).await.unwrap().result();
    assert_ne!(call(&upstreams, &of(2)).await.unwrap().result(), first);
    assert_eq!(call(&upstreams, &of(1)).await.unwrap().result(), first);
}

#[tokio::test]
async fn hostile_answers_are_typed_errors() {
    let hostile: Vec<(&str, Handler)> = vec![
        (
            "HTTP 500",
            Arc::new(|_, _| (http::StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response()),
        ),
        (
            "text/html",
            Arc::new(|_, _| axum::response::Html("<html>").into_response()),
        ),
        (
            "another id",
            Arc::new(|_, _| json_text(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#)),
        ),
        ("not JSON", Arc::new(|_, _| json_text("<html>"))),
        (
            "nested",
            Arc::new(|message, _| {
                json_text(format!(
                    r#"{{"jsonrpc":"2.0","id":{},"result":{{"a":{}"#,
                    message["id"],
                    "[".repeat(100_000)
                ))
            }),
        ),
        (
            "redirect",
            Arc::new(|_, _| axum::response::Redirect::temporary("http://127.0.0.1:1/").into_response()),
        ),
        ("HTTP 202", Arc::new(|_, _| http::StatusCode::ACCEPTED.into_response())),
        ("no content type", Arc::new(|_, _| Body::from("{}").into_response())),
        (
            "stream ended",
            Arc::new(|_, _| {
                events(vec![
                    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n".into(),
                ])
            }),
        ),
        (
            "another id",
            Arc::new(|_, _| events(vec!["data: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n".into()])),
        ),
        (
            "its content type is none",
            Arc::new(|_, _| ([("content-type", "text/<script>")], "").into_response()),
        ),
        ("larger than", Arc::new(|_, _| json_text(vec![b' '; 2 << 20]))),
        (
            "broke off",
            Arc::new(|_, _| {
                let pieces: Vec<Result<Bytes, std::io::Error>> = vec![
                    Ok(Bytes::from_static(b"{\"jsonrpc\"")),
                    Err(std::io::Error::other("gone")),
                ];
                (
                    [("content-type", "application/json")],
                    Body::from_stream(stream::iter(pieces)),
                )
                    .into_response()
            }),
        ),
    ];
    for (expected, handler) in hostile {
        let (url, _seen) = server(move |message, headers| handler(message, headers)).await;
        let why = invalid(call(&upstreams(patient()), &target(&url)).await);
        assert!(why.contains(expected), "{why} should say {expected}");
    }
}

#[tokio::test]
async fn secrets_do_not_go_by_plain_http_where_that_is_not_allowed() {
    let secret = |url: &str, sensitive| {
        let mut value = HeaderValue::from_static("Bearer secret");
        value.set_sensitive(sensitive);
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        let endpoint = Endpoint::remote(&url.parse().unwrap()).unwrap();
        Arc::new(Target::new(
            endpoint,
            "inst".into(),
            [1, 1, 0],
            Revision::LATEST,
            headers,
            None,
        ))
    };
    // A public address, by number or name: refused before anything is connected to.
    let refused = call(&upstreams(short()), &secret("http://1.1.1.1:9/mcp", true)).await;
    assert!(
        matches!(&refused, Err(UpstreamError::Unreachable(why)) if why.contains("must be https where a credential is sent")),
        "{refused:?}"
    );
    // One that is allowed, over a connection of its own also where one without secrets is there.
    let (url, mut seen) = server(|_, _| json_text(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)).await;
    let allowed = upstreams(short());
    for sensitive in [false, true] {
        let _answer = call(&allowed, &secret(&url, sensitive)).await;
        assert!(seen.recv().await.is_some());
    }
    // A name that leads elsewhere than when the entry was saved is as its address.
    let elsewhere = Upstreams::new(EgressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()]), short());
    let by_name = url.replace("127.0.0.1", "localhost");
    assert!(call(&elsewhere, &secret(&by_name, true)).await.is_err());
}

#[tokio::test]
async fn addresses_are_checked_at_connect_and_redirects_do_not_help() {
    let (url, mut seen) = server(|_, _| json_text("{}")).await;
    let strict = Upstreams::new(EgressPolicy::default(), short());
    let by_name = url.replace("127.0.0.1", "localhost");
    for url in [&url, &by_name] {
        let refused = call(&strict, &target(url)).await.unwrap_err();
        assert!(
            matches!(&refused, UpstreamError::Unreachable(why) if why.contains("--allow-upstream-cidr")),
            "{refused:?}"
        );
        let told = refused.to_string();
        assert_eq!(
            told.contains("127.0.0.1"),
            url.contains("127.0.0.1"),
            "a name's address is not told: {told}"
        );
    }
    assert!(seen.try_recv().is_err(), "nothing was sent");
    let hosted = Endpoint::hosted(&url).unwrap();
    let hosted = Arc::new(Target::new(
        hosted,
        "inst".into(),
        [1, 1, 0],
        Revision::LATEST,
        HeaderMap::new(),
        None,
    ));
    assert_eq!(
        invalid(call(&strict, &hosted).await),
        "it is not a JSON-RPC 2.0 message",
        "what the orchestrator started may be local"
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_a_401_is_unauthorized() {
    let gone = call(&upstreams(short()), &target("http://127.0.0.1:1/mcp")).await;
    assert!(matches!(gone, Err(UpstreamError::Unreachable(_))), "{gone:?}");
    let (url, _seen) = server(|_, _| http::StatusCode::UNAUTHORIZED.into_response()).await;
    assert_eq!(
        call(&upstreams(short()), &target(&url)).await.unwrap_err(),
        UpstreamError::Unauthorized
    );
}

#[tokio::test]
async fn errors_of_the_upstream_arrive_as_they_are() {
    for status in [200, 400] {
        let (url, _seen) = server(move |message, _| {
            let mut response = json_text(format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"no","data":{{"x":1}}}}}}"#,
                message["id"]
            ));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        })
        .await;
        let reply = call(&upstreams(short()), &target(&url)).await.unwrap();
        assert_eq!(
            reply.error().unwrap(),
            r#"{"code":-32602,"message":"no","data":{"x":1}}"#
        );
    }
}

#[tokio::test]
async fn a_stream_stays_a_stream_and_its_requests_are_answered() {
    let (url, mut seen) = server(|message, _| {
        let (id, token) = (&message["id"], &message["params"]["_meta"]["progressToken"]);
        events(vec![
            "id: 1\ndata:\n\n".to_owned(),
            format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":1}}}}\n\n"),
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"roots/list\"}\n\n".to_owned(),
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n".to_owned(),
            format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\ndata: \"result\":{{}}}}\n\n"),
        ])
    })
    .await;
    let (upstreams, target) = (upstreams(short()), target(&url));
    let request = upstreams.request_with_progress(
        "tools/call",
        Bytes::from_static(b"\"p\""),
        |id| format!(r#"{{"name":"t","_meta":{{"progressToken":{id}}}}}"#).into_bytes(),
        &[],
    );
    let Answer::Stream(mut answers) = upstreams
        .call(&target, request, CancellationToken::new())
        .await
        .unwrap()
    else {
        panic!()
    };
    let Event::Notification(progress) = answers.next().await.unwrap() else {
        panic!()
    };
    assert_eq!(
        progress,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#
    );
    assert!(matches!(answers.next().await.unwrap(), Event::ToolsChanged));
    assert!(matches!(answers.next().await.unwrap(), Event::Reply(_)));
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let (message, _) = seen.recv().await.unwrap();
        if message.get("method").is_none() {
            answered.push(message);
        }
    }
    answered.sort_by_key(|message| message["id"].is_number());
    assert_eq!(answered[0], json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    assert_eq!(answered[1]["error"]["code"], -32601);
}

/// However it is cut, whatever is before it.
#[tokio::test]
async fn bare_json_sent_as_a_stream_is_taken() {
    for begins in ["\n", "\n|", "\u{feff}|", "\u{feff}| |\r\n", "|"] {
        let (url, _seen) = server(move |message, _| {
            let text = format!(
                "{begins}{{\"jsonrpc\":\"2.0\",\"id\":{},|\"result\":{{}}}}",
                message["id"]
            );
            let pieces = text.split('|').map(str::to_owned).collect::<Vec<_>>();
            let pieces = futures::StreamExt::then(stream::iter(pieces), async |piece| {
                // Each comes by itself.
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, Infallible>(piece)
            });
            ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
        })
        .await;
        let reply = call(&upstreams(patient()), &target(&url)).await.expect(begins);
        assert_eq!(reply.result().unwrap(), "{}");
    }
}

#[tokio::test]
async fn data_without_anything_in_it_is_passed_over() {
    let (url, _seen) = server(|message, _| {
        let id = &message["id"];
        events(vec![format!(
            "data:\ndata:\n\ndata: \n\ndata:  \n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"
        )])
    })
    .await;
    call(&upstreams(patient()), &target(&url)).await.unwrap();
}

#[tokio::test]
async fn cancellation_reaches_the_upstream() {
    let (slow, mut slow_seen) = server(|_, _| {
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()),
        )
            .into_response()
    })
    .await;
    let upstreams = upstreams(Limits {
        idle: Duration::from_secs(60),
        ..short()
    });
    let cancel = CancellationToken::new();
    let request = upstreams.request("tools/call", b"{}", &[]);
    let id = request.id;
    let Answer::Stream(mut answers) = upstreams.call(&target(&slow), request, cancel.clone()).await.unwrap() else {
        panic!()
    };
    cancel.cancel();
    assert_eq!(answers.next().await.unwrap_err(), UpstreamError::Cancelled);
    loop {
        let (message, _) = slow_seen.recv().await.unwrap();
        if message["method"] == "notifications/cancelled" {
            assert_eq!(message["params"]["requestId"], id);
            break;
        }
    }
}

/// A connection that is closed says nothing to a server: it would work on, and take places, for nobody.
#[tokio::test]
async fn an_upstream_is_told_when_its_caller_has_gone() {
    for kind in ["text/event-stream", "application/json"] {
        let (slow, mut seen) = server(move |_, _| {
            let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            ([("content-type", kind)], body).into_response()
        })
        .await;
        let upstreams = upstreams(Limits {
            idle: Duration::from_secs(60),
            ..short()
        });
        let request = upstreams.request("tools/call", b"{}", &[]);
        let id = request.id;
        let aim = target(&slow);
        let call = tokio::spawn(async move {
            let answer = upstreams.call(&aim, request, CancellationToken::new()).await;
            std::future::pending::<()>().await;
            drop(answer);
        });
        while seen.recv().await.unwrap().0["method"] != "tools/call" {}
        call.abort();
        let (message, _) = seen.recv().await.unwrap();
        assert_eq!(message["method"], "notifications/cancelled", "{kind}");
        assert_eq!(message["params"]["requestId"], id);
    }
}

#[tokio::test]
async fn errors_do_not_repeat_the_secret_that_was_sent() {
    let (url, _seen) = server(|message, headers| {
        let key = headers["authorization"].to_str().unwrap().to_owned();
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"bad key {key}"}}}}"#,
            message["id"]
        ))
    })
    .await;
    let error = upstreams(short())
        .list_tools(&with_secret(&url, "Bearer s3cr3t-canary"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("bad key Bearer ***"), "{error}");
}

fn with_secret(url: &str, secret: &'static str) -> Arc<Target> {
    let mut secret = HeaderValue::from_static(secret);
    secret.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", secret);
    target_with(url, 1, headers)
}

/// Wherever it stands: where a text is cut off, in JSON, in a content type.
#[tokio::test]
async fn errors_do_not_repeat_a_part_of_the_secret() {
    const SECRET: &str = "S3cr3t horse/battery";
    let refuses = |request: Request| async move {
        let key = request.headers()["authorization"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap();
        let why = format!("{}{key}", "x".repeat(190));
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": 1, "message": why}}))
    };
    let refuses = serve(Router::new().fallback(any(refuses))).await;
    let (lists, _seen) = server(|message, headers| {
        let key = headers["authorization"].to_str().unwrap().replace('/', "\\/");
        let id = &message["id"];
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"{key}"}}}}"#
        ))
    })
    .await;
    let (typed, _also_seen) = server(|_, headers| {
        let key = headers["authorization"]
            .to_str()
            .unwrap()
            .split_once(' ')
            .unwrap()
            .1
            .to_owned();
        ([("content-type", format!("x/{key}"))], "").into_response()
    })
    .await;
    for (url, secret) in [(refuses, SECRET), (lists, SECRET), (typed, "Bearer S3cr3t-battery")] {
        let error = upstreams(short())
            .list_tools(&with_secret(&url, secret))
            .await
            .unwrap_err();
        let said = error.to_string().to_lowercase();
        assert!(!said.contains("s3c") && said.contains("***"), "{said}");
    }
}

#[tokio::test]
async fn a_list_of_more_tools_than_there_can_be_is_refused() {
    for (list, why) in [
        (format!("[{}0]", "0,".repeat(100_000)), "more than 4096 elements"),
        (
            format!(r#"[],"nextCursor":"{}""#, "c".repeat(5_000)),
            "cursor of its list of tools is too long",
        ),
    ] {
        let (url, _seen) = server(move |message, _| {
            json_text(format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":{list}}}}}"#,
                message["id"]
            ))
        })
        .await;
        let error = upstreams(short()).list_tools(&target(&url)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Lesson 11: all pages are read.
#[tokio::test]
async fn lists_tools_over_all_pages() {
    let (url, _seen) = server(|message, _| {
        let result = match message["params"]["cursor"].as_str() {
            None => r#"{"tools":[{"name":"a","inputSchema":{"x":1.0}}],"nextCursor":"2"}"#,
            _ => r#"{"tools":[{"name":"b", "y":9007199254740993}]}"#,
        };
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
            message["id"]
        ))
    })
    .await;
    let tools = upstreams(short()).list_tools(&target(&url)).await.unwrap();
    assert_eq!(tools[0].definition, r#"{"name":"a","inputSchema":{"x":1.0}}"#);
    assert_eq!(
        tools[1],
        ListedTool {
            name: "b".into(),
            definition: r#"{"name":"b", "y":9007199254740993}"#.into()
        }
    );
    let (url, _seen) = server(|message, _| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[],"nextCursor":"x"}}}}"#,
            message["id"]
        ))
    })
    .await;
    assert!(
        upstreams(short())
            .list_tools(&target(&url))
            .await
            .unwrap_err()
            .to_string()
            .contains("circles")
    );
}

/// One client would not read the list of a whole gateway, another would see other names in it.
#[tokio::test]
async fn tools_that_clients_would_not_read_alike_are_left_out() {
    let (url, _seen) = server(|message, _| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[
                {{"name":"half","description":"\ud800"}},
                {{"name":"large","inputSchema":{{"maximum":1e999}}}},
                {{"name":"innocent","NAME":"other__tool"}},
                {{"name":"twice","description":"a","description":"b"}},
                {{"name":"heir","__proto__":{{}}}},
                {{"name":"good","inputSchema":{{"maximum":18446744073709551615}}}}]}}}}"#,
            message["id"]
        ))
    })
    .await;
    let tools = upstreams(short()).list_tools(&target(&url)).await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
}

#[tokio::test]
async fn unix_sockets_of_the_bridge_are_upstreams() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("b.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let router = Router::new().fallback(any(|headers: HeaderMap, body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(headers["host"], "localhost");
        match message["method"].as_str().unwrap() {
            "initialize" => {
                axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25"}}))
                    .into_response()
            }
            "notifications/initialized" => http::StatusCode::ACCEPTED.into_response(),
            _ => axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"ok": true}})).into_response(),
        }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let endpoint = Endpoint::hosted(&format!("unix:{}", socket.display())).unwrap();
    let target = Arc::new(Target::new(
        endpoint,
        "inst".into(),
        [1, 0, 0],
        Revision::LATEST,
        HeaderMap::new(),
        None,
    ));
    let upstreams = Upstreams::new(EgressPolicy::default(), short());
    assert_eq!(
        call(&upstreams, &target).await.unwrap().result().unwrap(),
        r#"{"ok":true}"#
    );
}
