//! Streams that end before the reply.

use axum::routing::post;
use pretty_assertions::assert_eq;

use super::*;

/// A server whose answer to a call is `first`, and to each GET the next of `then`. Returns the headers of those.
async fn server_of_streams(
    first: &'static str,
    then: Vec<fn(&Value) -> Response>,
) -> (String, mpsc::UnboundedReceiver<HeaderMap>) {
    let (seen, receiver) = mpsc::unbounded_channel();
    let called: Arc<std::sync::Mutex<Option<Value>>> = Arc::default();
    let (answered, calls) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&called));
    let answer = async move |request: Request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap();
        match message["method"].as_str().unwrap() {
            "initialize" => {
                let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                let answer = axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
                ([("mcp-session-id", "s1")], answer).into_response()
            }
            "tools/call" => {
                let before = calls.lock().unwrap().replace(message);
                assert_eq!(before, None, "a call is sent once");
                events(vec![first.to_owned()])
            }
            _ => http::StatusCode::ACCEPTED.into_response(),
        }
    };
    let go_on = async move |request: Request| {
        seen.send(request.headers().clone()).unwrap();
        let next = then[answered.fetch_add(1, Ordering::SeqCst).min(then.len() - 1)];
        let id = called.lock().unwrap().as_ref().unwrap()["id"].clone();
        next(&id)
    };
    let url = serve(Router::new().route("/mcp", post(answer).get(go_on))).await;
    (url, receiver)
}

fn reply(id: &Value) -> Response {
    let text = format!("id: e3\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n");
    events(vec![text])
}

fn nothing(_: &Value) -> Response {
    events(Vec::new())
}

fn one_more(_: &Value) -> Response {
    events(vec!["id: e2\nretry: 2\ndata:\n\n".to_owned()])
}

#[tokio::test]
async fn a_stream_that_ends_goes_on_where_it_ended() {
    let cut_off = "id: e1\nretry: 1\ndata:\n\nid: lost\ndata: {\"jsonrpc\":";
    let (url, mut seen) = server_of_streams(cut_off, vec![nothing, one_more, nothing, reply]).await;
    let answer = call(&upstreams(patient()), &target(&url)).await.unwrap();
    assert_eq!(answer.result().unwrap(), "{}");
    let mut behind = Vec::new();
    while let Ok(headers) = seen.try_recv() {
        behind.push(headers["last-event-id"].to_str().unwrap().to_owned());
        for (name, value) in [
            ("accept", "text/event-stream"),
            ("mcp-session-id", "s1"),
            ("mcp-protocol-version", "2025-11-25"),
            ("authorization", "Bearer secret"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("content-type"));
    }
    assert_eq!(behind, ["e1", "e1", "e2", "e2"]);
}

#[tokio::test]
async fn a_server_that_brings_nothing_more_is_given_up() {
    let numbered = "id: e1\nretry: 0\ndata:\n\n";
    let refused: fn(&Value) -> Response = |_| http::StatusCode::METHOD_NOT_ALLOWED.into_response();
    let unauthorized: fn(&Value) -> Response = |_| http::StatusCode::UNAUTHORIZED.into_response();
    for (first, then, asked) in [
        ("data:\n\n", nothing as fn(&Value) -> Response, 0),
        (numbered, nothing, 3),
        (numbered, refused, 1),
        (numbered, unauthorized, 1),
    ] {
        let (url, mut seen) = server_of_streams(first, vec![then]).await;
        let why = invalid(call(&upstreams(patient()), &target(&url)).await);
        assert!(why.contains("its stream ended before the answer"), "{why}");
        let count = std::iter::from_fn(|| seen.try_recv().ok()).count();
        assert_eq!(count, asked, "{first}");
    }
}

#[tokio::test]
async fn a_pause_beyond_the_time_of_the_call_ends_it() {
    let (url, _seen) = server_of_streams("id: e1\nretry: 60000\ndata:\n\n", vec![reply]).await;
    let late = call(&upstreams(short()), &target(&url)).await;
    assert!(matches!(late, Err(UpstreamError::Timeout { .. })), "{late:?}");
}
