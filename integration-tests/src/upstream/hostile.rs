//! An MCP server that misbehaves, in a different way on each path.
//!
//! At `/{behaviour}` it misbehaves only in `tools/call`; at `/always/{behaviour}` in every request.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::Path,
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Served;

/// The ways to misbehave. A refused connection is not one of them: see [`refusing_url`].
pub const BEHAVIOURS: [&str; 16] = [
    "hang",
    "hang-body",
    "close",
    "500",
    "html",
    "empty",
    "huge",
    "nested",
    "wrong-id",
    "redirect",
    "not-json-rpc",
    "huge-headers",
    "endless",
    "drip",
    "giant-member",
    "endless-events",
];

/// A running server that misbehaves.
#[derive(Debug)]
pub struct HostileUpstream(Served);

impl HostileUpstream {
    /// Starts the server.
    pub async fn start() -> Self {
        let router = Router::new()
            .route("/{behaviour}", any(polite))
            .route("/always/{behaviour}", any(hostile));
        Self(Served::start(router).await)
    }

    /// An endpoint that misbehaves only in tool calls.
    pub fn url(&self, behaviour: &str) -> String {
        self.0.url(&format!("/{behaviour}"))
    }

    /// An endpoint that misbehaves in every request.
    pub fn always(&self, behaviour: &str) -> String {
        self.0.url(&format!("/always/{behaviour}"))
    }
}

/// An endpoint on a port on which nobody listens.
pub fn refusing_url() -> String {
    format!("http://127.0.0.1:{}/mcp", crate::process::free_port())
}

async fn polite(Path(behaviour): Path<String>, method: Method, body: Bytes) -> Response {
    if method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = message["id"].clone();
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "hostile", "version": "1"},
        }),
        "tools/list" => json!({"tools": [super::recording::tool("go", "Misbehaves")]}),
        "tools/call" => return misbehave(&behaviour, &id).await,
        _ => json!({}),
    };
    Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}

async fn hostile(Path(behaviour): Path<String>, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    misbehave(&behaviour, &message["id"]).await
}

async fn misbehave(behaviour: &str, id: &Value) -> Response {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
    match behaviour {
        "hang" => std::future::pending().await,
        "hang-body" => {
            let begun = stream::once(async move { Ok::<_, Infallible>(Bytes::from(head)) });
            json_body(Body::from_stream(begun.chain(stream::pending())))
        }
        "close" => {
            let begun = stream::once(async move { Ok(Bytes::from(head)) });
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err::<Bytes, _>(std::io::Error::other("gone"))
            });
            json_body(Body::from_stream(begun.chain(broken)))
        }
        "500" => (StatusCode::INTERNAL_SERVER_ERROR, "panic at secret_internals.py:42").into_response(),
        "html" => (
            [("content-type", "text/html")],
            "<!doctype html><title>Sign in</title><p>Welcome",
        )
            .into_response(),
        "empty" => json_body(Body::empty()),
        "huge" => {
            let filler = Bytes::from(vec![b'a'; 1 << 20]);
            let begun = stream::once(async move { Ok::<_, Infallible>(Bytes::from(head)) });
            let middle = stream::repeat(filler).take(100).map(Ok);
            let end = stream::once(async { Ok(Bytes::from_static(br#""}]}}"#)) });
            json_body(Body::from_stream(begun.chain(middle).chain(end)))
        }
        "endless" => {
            let filler = Bytes::from(vec![b'a'; 64 << 10]);
            let begun = stream::once(async move { Ok::<_, Infallible>(Bytes::from(head)) });
            json_body(Body::from_stream(begun.chain(stream::repeat(filler).map(Ok))))
        }
        "drip" => {
            let begun = stream::once(async move { Ok::<_, Infallible>(Bytes::from(head)) });
            let drops = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok(Bytes::from_static(b"a")), ()))
            });
            json_body(Body::from_stream(begun.chain(drops)))
        }
        "giant-member" => json_body(Body::from(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"{}":1,"result":{{"content":[]}}}}"#,
            "m".repeat(15 << 20)
        ))),
        "endless-events" => {
            let event = Bytes::from(format!(
                "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"data\":\"{}\"}}}}\n\n",
                "e".repeat(1000)
            ));
            let events = stream::repeat(event).map(Ok::<_, Infallible>);
            ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
        }
        "nested" => {
            let depth = 100_000;
            let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            json_body(Body::from(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"structuredContent":{{"deep":{nest}}}}}}}"#
            )))
        }
        "wrong-id" => Json(json!({"jsonrpc": "2.0", "id": "somebody-else", "result": {"content": []}})).into_response(),
        "redirect" => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", "http://169.254.169.254/latest/meta-data/")],
        )
            .into_response(),
        "not-json-rpc" => Json(json!({"hello": "world"})).into_response(),
        "huge-headers" => {
            let mut response = Json(json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}})).into_response();
            let value = http::HeaderValue::from_bytes(&vec![b'x'; 1 << 20]).expect("it is ASCII");
            response.headers_mut().insert("x-huge", value);
            response
        }
        other => (StatusCode::NOT_FOUND, format!("no behaviour {other}")).into_response(),
    }
}

fn json_body(body: Body) -> Response {
    ([("content-type", "application/json")], body).into_response()
}
