//! Requests of clients, and the messages in them.

use axum::{body::Body, extract::Request};
use serde_json::{Value, json};

pub(super) const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
pub(super) const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// A call of `mail__send` under the id `c1`.
pub(super) const CALL: &str = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":12345678901234567890}}}"#;

pub(super) fn initialize(id: impl Into<Value>, revision: &str, capabilities: &Value) -> String {
    let client = json!({"name": "t", "version": "1"});
    let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "initialize", "params": params}).to_string()
}

/// A call of `mail__send`, with further members of `params`.
pub(super) fn call_with(id: impl Into<Value>, arguments: &Value, further: Value) -> Value {
    let mut params = json!({"name": "mail__send", "arguments": arguments});
    if let Value::Object(further) = further {
        params.as_object_mut().unwrap().extend(further);
    }
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params})
}

pub(super) fn cancel(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

/// A request at the gateway `default`, anonymous and of no session.
pub(super) struct Ask {
    request: http::request::Builder,
    body: Body,
}

pub(super) fn post(body: impl Into<Body>) -> Ask {
    let json = method("POST").header("content-type", "application/json");
    Ask {
        body: body.into(),
        ..json
    }
}

pub(super) fn method(method: &str) -> Ask {
    let request = http::Request::builder().method(method).uri("/mcp/default");
    Ask {
        request,
        body: Body::empty(),
    }
}

impl Ask {
    pub(super) fn at(self, path: &str) -> Self {
        let request = self.request.uri(path);
        Self { request, ..self }
    }

    /// With the gateway token of this name.
    pub(super) fn by(self, who: &str) -> Self {
        self.header("authorization", &format!("Bearer cht_{who}"))
    }

    pub(super) fn session(self, handle: &str) -> Self {
        self.header("mcp-session-id", handle)
    }

    pub(super) fn header(self, name: &str, value: &str) -> Self {
        let request = self.request.header(name, value);
        Self { request, ..self }
    }
}

impl From<Ask> for Request {
    fn from(ask: Ask) -> Self {
        let mut request = ask.request.body(ask.body).unwrap();
        let host = http::HeaderValue::from_static("127.0.0.1:8080");
        request.headers_mut().entry("host").or_insert(host);
        request
    }
}
