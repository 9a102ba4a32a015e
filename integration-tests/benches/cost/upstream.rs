//! An MCP server that answers each call with a given response.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use integration_tests::upstream::Served;
use serde_json::{Value, json};

/// The response to a call: the text before and after the request's id.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) before: Bytes,
    pub(crate) after: Bytes,
}

/// The server and its current response.
pub(crate) struct Upstream {
    served: Served,
    told: Arc<Mutex<Told>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let told = Arc::new(Mutex::new(Told::nothing()));
        let router = Router::new()
            .route("/mcp", post(answer))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&told));
        Self {
            served: Served::start(router).await,
            told,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.served.url("/mcp")
    }

    pub(crate) fn tell(&self, told: Told) {
        *self.told.lock().expect("nothing panics while it is held") = told;
    }
}

impl Told {
    /// An empty response.
    pub(crate) fn nothing() -> Self {
        Self::json(b"{\"content\":[]}", b"")
    }

    /// A response with this result and these additional members.
    pub(crate) fn json(result: &[u8], members: &[u8]) -> Self {
        Self {
            kind: "application/json",
            before: Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":"),
            after: [b",\"result\":", result, members, b"}"].concat().into(),
        }
    }

    /// An event stream with this text before the response.
    pub(crate) fn events(first: &[u8]) -> Self {
        Self {
            kind: "text/event-stream",
            before: [first, b"\ndata:{\"jsonrpc\":\"2.0\",\"id\":"].concat().into(),
            after: Bytes::from_static(b",\"result\":{\"content\":[]}}\n\n"),
        }
    }

    /// A response with this result, as one event.
    pub(crate) fn event(result: &[u8]) -> Self {
        Self {
            kind: "text/event-stream",
            before: Bytes::from_static(b"data:{\"jsonrpc\":\"2.0\",\"id\":"),
            after: [b",\"result\":", result, b"}\n\n"].concat().into(),
        }
    }
}

async fn answer(State(told): State<Arc<Mutex<Told>>>, body: Bytes) -> Response {
    // A large call has its id in the first bytes.
    let head = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    let Some(id) = head
        .split("\"id\":")
        .nth(1)
        .and_then(|rest| rest.split([',', '}']).next())
    else {
        return StatusCode::ACCEPTED.into_response();
    };
    if head.contains("\"tools/call\"") {
        let told = told.lock().expect("nothing panics while it is held").clone();
        let pieces = [told.before, Bytes::copy_from_slice(id.as_bytes()), told.after];
        let pieces = futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>));
        return ([("content-type", told.kind)], Body::from_stream(pieces)).into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "told", "version": "1"},
        }),
        "tools/list" => json!({"tools": [{"name": "go", "inputSchema": {"type": "object"}}]}),
        _ => json!({}),
    };
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}
