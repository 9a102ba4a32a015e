//! Where connections go.

use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::upstream::post::{CALLER, NOT_TAKEN};

#[tokio::test]
async fn secrets_do_not_go_by_plain_http_where_that_is_not_allowed() {
    let secret = |url: &str, sensitive| {
        let mut value = HeaderValue::from_static("Bearer secret");
        value.set_sensitive(sensitive);
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        target_with(url, 1, headers)
    };
    // A public address, by number or name: refused before anything is connected to.
    let refused = call(&upstreams(short()), &secret("http://1.1.1.1:9/mcp", true)).await;
    assert!(
        matches!(&refused, Err(UpstreamError::Unreachable(why)) if why.contains("must be https where a credential is sent")),
        "{refused:?}"
    );
    // An address that is allowed, over a separate connection also where one without secrets exists.
    let (url, mut seen) = server(|_, _| json_text(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)).await;
    let allowed = upstreams(short());
    for sensitive in [false, true] {
        let _answer = call(&allowed, &secret(&url, sensitive)).await;
        assert!(seen.recv().await.is_some());
    }
    // A name that resolves differently than when the entry was saved is judged by its address.
    let elsewhere = Upstreams::new(
        EgressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()]),
        short(),
        HttpPath::default(),
        Clock::System,
    );
    let by_name = url.replace("127.0.0.1", "localhost");
    assert!(call(&elsewhere, &secret(&by_name, true)).await.is_err());
}

#[tokio::test]
async fn addresses_are_checked_at_connect_and_redirects_do_not_help() {
    let (url, mut seen) = server(|_, _| json_text("{}")).await;
    let strict = Upstreams::new(EgressPolicy::default(), short(), HttpPath::default(), Clock::System);
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
    let hosted = target_at(hosted, 1, HeaderMap::new(), Scope::Shared);
    assert_eq!(
        invalid(call(&strict, &hosted).await),
        "it is not a JSON-RPC 2.0 message",
        "what the orchestrator started may be local"
    );
}

/// A connection per call would cost more than the call.
#[tokio::test]
async fn a_connection_is_used_again_after_a_stream() {
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let message: Value = serde_json::from_slice(&body).unwrap();
                let id = &message["id"];
                Ok::<_, std::convert::Infallible>(match message["method"].as_str() {
                    Some("server/discover") => unknown(&message),
                    Some("initialize") => json_text(format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-06-18","capabilities":{{}}}}}}"#
                    )),
                    Some("tools/call") => {
                        let event = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n");
                        // The end comes later than the reply.
                        let events = futures::stream::iter([event]).chain(futures::stream::once(async {
                            tokio::task::yield_now().await;
                            ": end\n\n".to_owned()
                        }));
                        let body = Body::from_stream(events.map(Ok::<_, std::convert::Infallible>));
                        ([("content-type", "text/event-stream")], body).into_response()
                    }
                    _ => http::StatusCode::ACCEPTED.into_response(),
                })
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, answer));
        }
    });
    let (upstreams, target) = (upstreams(patient()), target(&url));
    for _ in 0..20 {
        call(&upstreams, &target).await.unwrap();
        // The rest is read in the background.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    let used = connections.load(Ordering::SeqCst);
    // As long as the rest of one is read, the next call opens another.
    assert!(used < 20, "{used} connections for 20 calls");
}

/// Some servers send the head of an answer first, and the end of its body, which is empty, later.
#[tokio::test]
async fn a_connection_is_used_again_after_a_notification() {
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Some(message) = super::runtime_ends::read(&mut stream).await {
                    if message["method"] == "initialize" {
                        let result = json!({"protocolVersion": "2025-11-25"});
                        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                        let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        continue;
                    }
                    let head = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
                    stream.write_all(head).await.unwrap();
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    // Who does not wait for it has closed the connection.
                    let _ = stream.write_all(b"0\r\n\r\n").await;
                }
            });
        }
    });
    let (upstreams, target) = (upstreams(patient()), target(&url));
    let session = upstreams.session(&target).await.unwrap();
    for _ in 0..20 {
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
        upstreams.send(&target, &session, notification.into()).await;
        // The rest is read in the background.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    let used = connections.load(Ordering::SeqCst);
    assert!(used < 20, "{used} connections for 20 notifications");
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_a_401_is_unauthorized() {
    let gone = call(&upstreams(short()), &target("http://127.0.0.1:1/mcp")).await;
    assert!(matches!(gone, Err(UpstreamError::Unreachable(_))), "{gone:?}");
    let (url, _seen) = server(|_, _| http::StatusCode::UNAUTHORIZED.into_response()).await;
    assert_eq!(
        call(&upstreams(short()), &target(&url)).await.unwrap_err(),
        UpstreamError::Unauthorized
    );
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
    let target = target_at(endpoint, 0, HeaderMap::new(), Scope::Shared);
    let upstreams = Upstreams::new(EgressPolicy::default(), short(), HttpPath::default(), Clock::System);
    assert_eq!(
        call(&upstreams, &target).await.unwrap().result().unwrap(),
        r#"{"ok":true}"#
    );
}

/// A bridge that is stopping says that it did not pass a request on. Only a bridge is trusted to say that.
#[tokio::test]
async fn a_request_that_a_bridge_did_not_pass_on_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let router = |why: &'static str| {
        Router::new().fallback(any(move || async move {
            let refusal = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32006, "message": "Try again."}});
            (
                http::StatusCode::SERVICE_UNAVAILABLE,
                [(NOT_TAKEN, why)],
                axum::Json(refusal),
            )
                .into_response()
        }))
    };
    for (why, expected) in [
        ("stopping", UpstreamError::NotTaken),
        ("calls", UpstreamError::TooManyRequests),
        ("full", UpstreamError::Full),
        ("share", UpstreamError::ShareUsed),
    ] {
        let socket = folder.path().join(why);
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, router(why)).await });
        let endpoint = Endpoint::hosted(&format!("unix:{}", socket.display())).unwrap();
        let hosted = target_at(endpoint, 0, HeaderMap::new(), Scope::Shared);
        let error = call(&upstreams(short()), &hosted).await.unwrap_err();
        assert_eq!(error, expected);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(why)).await });
        let error = call(&upstreams(short()), &target(&url)).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Invalid(_)), "{error:?}");
    }
}

/// Bridges share their processes fairly among callers, and servers must not learn who those are.
#[tokio::test]
async fn a_bridge_can_tell_callers_apart_and_not_who_they_are() {
    let (url, mut seen) =
        server(|message, _| axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": {}})).into_response())
            .await;
    let upstreams = upstreams(short());
    let mut callers = Vec::new();
    for (installation, subject) in [
        ("a", "users/alice"),
        ("a", "users/bob"),
        ("b", "users/alice"),
        ("a", "users/alice"),
    ] {
        let scope = Scope::Client(Client::Session([callers.len() as u8; 12]));
        let endpoint = Endpoint::hosted(&url).unwrap();
        let target = target_for(installation, endpoint, scope);
        call(&upstreams, &Arc::new(target.made_for(subject))).await.unwrap();
        for method in ["initialize", "notifications/initialized", "tools/call"] {
            let (message, headers) = seen.recv().await.unwrap();
            assert_eq!(message["method"], method);
            assert_eq!(headers.contains_key(CALLER), method == "initialize");
            callers.extend(headers.get(CALLER).map(|caller| caller.to_str().unwrap().to_owned()));
        }
    }
    let [alice, bob, elsewhere, again] = callers.try_into().unwrap();
    assert_eq!(alice, again);
    assert!(alice != bob && alice != elsewhere);
    assert!(!alice.contains("alice"));
    let remote = Endpoint::remote(&url.parse().unwrap()).unwrap();
    let remote = target_for("a", remote, Scope::Shared);
    call(&upstreams, &Arc::new(remote.made_for("users/alice")))
        .await
        .unwrap();
    assert!(!seen.recv().await.unwrap().1.contains_key(CALLER));
}
