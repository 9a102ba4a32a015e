//! An MCP server that records every request unchanged, and whose responses a test controls.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, response::IntoResponse, routing::any};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Served;

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// GET, POST or DELETE.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Every header, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Recorded {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// All values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

#[derive(Debug, Default)]
struct Inner {
    requests: Vec<Recorded>,
    /// If set, requests without one of these values in this header get 401.
    required: Option<(String, Vec<String>)>,
    tools: Vec<Value>,
    /// Whether calls wait for their answers.
    held: watch::Sender<bool>,
}

/// What a server records.
pub(super) struct Recordings(Arc<Mutex<Inner>>);

/// A running server that records.
#[derive(Debug)]
pub struct RecordingUpstream {
    served: Served,
    inner: Arc<Mutex<Inner>>,
}

impl RecordingUpstream {
    /// Starts the server with the tools `echo` (returns its argument `text`) and `headers` (returns the request's
    /// headers).
    pub async fn start() -> Self {
        let (router, recorded) = Self::router();
        Self::on(Served::start(router).await, recorded)
    }

    /// Its routes, to be served by [`Self::on`].
    pub(super) fn router() -> (Router, Recordings) {
        let tools = vec![
            tool("echo", "Gives its text back"),
            tool("headers", "Gives the headers it got"),
        ];
        let inner = Arc::new(Mutex::new(Inner {
            tools,
            ..Inner::default()
        }));
        let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&inner));
        (router, Recordings(inner))
    }

    /// The server of these routes.
    pub(super) fn on(served: Served, Recordings(inner): Recordings) -> Self {
        Self { served, inner }
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        self.served.url("/mcp")
    }

    /// Responds with 401 to requests without one of these values in this header.
    ///
    /// # Panics
    /// Never.
    pub fn require(&self, header: &str, values: &[&str]) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.lock().required = Some((header.to_owned(), values));
    }

    /// Answers no call until it is told otherwise.
    pub fn hold(&self, held: bool) {
        self.lock().held.send_replace(held);
    }

    /// Replaces the tools.
    pub fn set_tools(&self, names: &[&str]) {
        self.lock().tools = names.iter().map(|name| tool(name, "A tool")).collect();
    }

    /// Replaces the tools' definitions.
    pub fn set_definitions(&self, tools: Vec<Value>) {
        self.lock().tools = tools;
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// All `tools/call` requests so far.
    pub fn calls(&self) -> Vec<Recorded> {
        self.requests()
            .into_iter()
            .filter(|request| request.json()["method"] == "tools/call")
            .collect()
    }

    /// The last `tools/call` request.
    ///
    /// # Panics
    /// If there is none.
    pub fn last_call(&self) -> Recorded {
        self.calls().pop().expect("a call reached the upstream")
    }

    /// Forgets all requests.
    pub fn forget(&self) {
        self.lock().requests.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

/// A tool's definition, with fields that a typed model would lose.
pub fn tool(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "title": format!("The {name} tool"),
        "description": description,
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "x-vendor": {"kept": true},
        },
        "_meta": {"dev.example/kept": [1, 2, 3]},
    })
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let recorded = Recorded {
        method: method.clone(),
        uri,
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: body.clone(),
    };
    let (refused, tools, mut held) = {
        let mut inner = inner.lock().expect("no holder of this lock panics");
        let refused = inner.required.as_ref().is_some_and(|(header, values)| {
            !recorded
                .values(header)
                .iter()
                .any(|value| values.iter().any(|wanted| wanted == value))
        });
        inner.requests.push(recorded.clone());
        (refused, inner.tools.clone(), inner.held.subscribe())
    };
    if refused {
        let challenge = [("www-authenticate", "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "who are you?").into_response();
    }
    if method == Method::DELETE {
        return StatusCode::NO_CONTENT.into_response();
    }
    if method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message = recorded.json();
    let id = message["id"].clone();
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": false}},
            "serverInfo": {"name": "recording", "version": "1"},
        }),
        "ping" => json!({}),
        "tools/list" => json!({"tools": tools}),
        "tools/call" => {
            // The server ends with the test.
            let _ = held.wait_for(|held| !held).await;
            called(&message, &recorded)
        }
        other => {
            let error = json!({"code": -32601, "message": format!("no method {other}")});
            return axum::Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response();
        }
    };
    axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}

fn called(message: &Value, recorded: &Recorded) -> Value {
    let text = match message["params"]["name"].as_str().unwrap_or_default() {
        "headers" => json!(recorded.headers).to_string(),
        _ => message["params"]["arguments"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    };
    json!({
        "content": [{"type": "text", "text": text, "annotations": {"priority": 0.5}}],
        "_meta": {"dev.example/kept": 9_007_199_254_740_993_u64},
    })
}
