//! What an upstream may cost: time, memory, connections.

use std::sync::atomic::AtomicBool;

use pretty_assertions::assert_eq;
use tokio::io::AsyncWriteExt as _;

use super::*;

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let (url, _seen) = server(move |_, _| {
        let counter = Arc::clone(&counter);
        let pieces = stream::iter(0..1600).map(move |_| {
            counter.fetch_add(64 << 10, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 << 10]))
        });
        use futures::StreamExt as _;
        ([("content-type", "application/json")], Body::from_stream(pieces)).into_response()
    })
    .await;
    let why = invalid(call(&upstreams(patient()), &target(&url)).await);
    assert!(why.contains("larger than"), "{why}");
    assert!(sent.load(Ordering::SeqCst) < 50 << 20, "it was not read to its end");
}

#[tokio::test]
async fn a_server_that_hangs_times_out_and_delays_no_other() {
    let (hanging, _seen) = server(|_, _| {
        (
            [("content-type", "application/json")],
            Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()),
        )
            .into_response()
    })
    .await;
    let (good, _seen) =
        server(|message, _| json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))).await;
    let mute = serve(Router::new().fallback(any(|| async { std::future::pending::<String>().await }))).await;
    let upstreams = upstreams(short());
    let (hanging, mute, good) = (target(&hanging), target(&mute), target(&good));
    let fine = async {
        for _ in 0..20 {
            call(&upstreams, &good).await.unwrap();
        }
    };
    let (first, second, ()) = tokio::join!(call(&upstreams, &hanging), call(&upstreams, &mute), fine);
    assert!(
        matches!(
            first,
            Err(UpstreamError::Timeout {
                what: "finish its answer",
                ..
            })
        ),
        "{first:?}"
    );
    assert!(matches!(second, Err(UpstreamError::Timeout { .. })), "{second:?}");
}

/// Each server does something all the time, or keeps the connection open.
#[tokio::test]
async fn a_server_that_begins_no_answer_is_given_up() {
    for reads in [false, true] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let is_open = Arc::new(AtomicBool::new(false));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let is_open = Arc::clone(&is_open);
                tokio::spawn(async move {
                    while let Some(message) = super::runtime_ends::read(&mut stream).await {
                        let mut answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned();
                        match message["method"].as_str() {
                            Some("initialize") => {
                                let result = json!({"protocolVersion": "2025-11-25"});
                                let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                                answer = format!("{head}: {}\r\n\r\n{body}", body.len());
                            }
                            Some("notifications/initialized") => is_open.store(true, Ordering::SeqCst),
                            Some("tools/call") => {
                                stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
                                while stream.write_all(b"a: b\r\n").await.is_ok() {
                                    tokio::time::sleep(Duration::from_millis(10)).await;
                                }
                                return;
                            }
                            _ => {}
                        }
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if !reads && is_open.load(Ordering::SeqCst) {
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        let (upstreams, target) = (upstreams(short()), target(&url));
        let much = format!(r#"{{"name":"t","arguments":{{"x":"{}"}}}}"#, "x".repeat(16 << 20));
        let params = if reads { r#"{"name":"t"}"# } else { &much };
        let error = upstreams
            .ask(&target, "tools/call", params.as_bytes())
            .await
            .unwrap_err();
        let timeout = UpstreamError::Timeout {
            what: "begin to answer",
            within: short().headers,
        };
        assert_eq!(error, timeout, "{reads}");
    }
}

/// Data is always there, so the client never waits for any.
#[tokio::test]
async fn a_server_that_never_stops_is_limited_in_time() {
    let (url, _seen) = server(|_, _| {
        let comment = Bytes::from(format!(": {}\n\n", "x".repeat(16 << 10)));
        let endless = stream::repeat_with(move || Ok::<_, Infallible>(comment.clone()));
        ([("content-type", "text/event-stream")], Body::from_stream(endless)).into_response()
    })
    .await;
    let limits = Limits {
        total: Duration::from_millis(300),
        max_stream: usize::MAX,
        ..patient()
    };
    let error = call(&upstreams(limits), &target(&url)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Timeout { .. }), "{error}");
}

/// Some servers send pings, as many as they like.
#[tokio::test]
async fn a_server_that_asks_often_is_answered_now_and_then() {
    let (url, mut seen) = server(|message, _| {
        let ping = |n| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{n},\"method\":\"ping\"}}\n\n");
        let mut pieces: Vec<String> = (0..300).map(ping).collect();
        let id = &message["id"];
        pieces.push(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"));
        events(pieces)
    })
    .await;
    let target = target(&url);
    call(&upstreams(patient()), &target).await.unwrap();
    // What answers in the background holds the target.
    while Arc::strong_count(&target) > 1 {
        tokio::task::yield_now().await;
    }
    let mut answered = 0;
    while let Ok((message, _)) = seen.try_recv() {
        answered += usize::from(message.get("method").is_none());
    }
    assert!((1..200).contains(&answered), "{answered}");
}

/// A server that sends pings without end and accepts no answers gets a few connections for them.
#[tokio::test]
async fn a_server_that_takes_no_answers_gets_a_few_at_a_time() {
    let (open, seen) = tokio::sync::watch::channel(0);
    let open = Arc::new(open);
    let respond = move |request: Request| {
        let open = Arc::clone(&open);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let message: Value = serde_json::from_slice(&body).unwrap();
            let id = &message["id"];
            match message["method"].as_str() {
                Some("initialize") => {
                    let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                    axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
                }
                Some("tools/call") => {
                    let ping = |n| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{n},\"method\":\"ping\"}}\n\n");
                    let mut pieces: Vec<String> = (0..50).map(ping).collect();
                    pieces.push(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"));
                    events(pieces)
                }
                Some(_) => http::StatusCode::ACCEPTED.into_response(),
                None => {
                    open.send_modify(|open| *open += 1);
                    std::future::pending().await
                }
            }
        }
    };
    let target = target(&serve(Router::new().fallback(any(respond))).await);
    let upstreams = upstreams(Limits {
        side_message: Duration::from_secs(60),
        ..patient()
    });
    let mut all = seen.clone();
    call(&upstreams, &target).await.unwrap();
    all.wait_for(|open| *open >= 8).await.unwrap();
    // No permit is left for the pings during further calls.
    for _ in 0..5 {
        call(&upstreams, &target).await.unwrap();
    }
    assert_eq!(*seen.borrow(), 8);
}

/// A caller cannot make the gateway hold all the large answers of a server.
#[tokio::test]
async fn a_callers_large_answers_wait_for_those_that_are_not_read() {
    let wait = Duration::from_millis(100);
    for kind in [
        "of known length",
        "of unknown length",
        "as an event",
        "as JSON in a stream",
    ] {
        let (url, _seen) = server(move |message, _| {
            let padding = "x".repeat(600 << 10);
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":"{padding}"}}}}"#,
                message["id"]
            );
            let pieces = |text: String| {
                let pieces: Vec<Bytes> = text.as_bytes().chunks(32 << 10).map(Bytes::copy_from_slice).collect();
                Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
            };
            let (kind, body) = match kind {
                "of known length" => ("application/json", Body::from(text)),
                "of unknown length" => ("application/json", pieces(text)),
                "as an event" => ("text/event-stream", pieces(format!(": first\n\ndata: {text}\n\n"))),
                _ => ("text/event-stream", pieces(text)),
            };
            ([("content-type", kind)], body).into_response()
        })
        .await;
        let upstreams = upstreams(Limits {
            room: 2 << 20,
            room_each: 1 << 20,
            room_wait: wait,
            ..patient()
        });
        let target = target(&url);
        let call = |caller: &str| {
            let request = upstreams
                .request("tools/call", b"{}", &[])
                .made_for(&Arc::from(caller), None);
            let call = upstreams.call(&target, request, Cancel::default());
            async move {
                match call.await? {
                    Answer::Whole(reply) => Ok::<_, UpstreamError>(reply),
                    Answer::Stream(mut answers) => match answers.next().await? {
                        Event::Reply(reply) => Ok(reply),
                        other => panic!("{other:?}"),
                    },
                }
            }
        };
        let first = call("users/alice").await.unwrap();
        let refused = UpstreamError::NoRoom { within: wait };
        assert_eq!(call("users/alice").await.unwrap_err(), refused, "{kind}");
        call("users/bob").await.expect(kind);
        let pieces = first.with_id(b"1");
        drop(first);
        assert_eq!(call("users/alice").await.unwrap_err(), refused, "{kind}");
        drop(pieces);
        call("users/alice").await.expect(kind);
    }
}
