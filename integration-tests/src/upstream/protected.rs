//! An MCP server that requires an access token: it names its authorization server (RFC 9728), asks it about each token (RFC 7662), and requires
//! a scope of some tools.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::AUTHORIZATION};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Served, recording::RecordingUpstream};
use crate::tls::install_crypto;

/// Enough for a test.
const MAX_BODY: usize = 1 << 20;

/// A running server that requires tokens of an authorization server.
#[derive(Debug)]
pub struct ProtectedUpstream {
    /// What it gets after a token was accepted.
    pub recording: RecordingUpstream,
    checks: Arc<Checks>,
}

#[derive(Debug)]
struct Checks {
    resource: String,
    issuer: String,
    http: reqwest::Client,
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    /// The scope that a tool requires.
    scopes: HashMap<String, String>,
    /// Tokens that are no longer accepted, whatever the authorization server says.
    refused: HashSet<String>,
    /// The account and the token of each accepted `tools/call`.
    calls: Vec<(String, String)>,
}

impl ProtectedUpstream {
    /// Binds a port first: the authorization server must know the resource before it starts.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn bind() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback interface has free ports");
        let address = listener.local_addr().expect("it is bound");
        (listener, format!("http://{address}/mcp"))
    }

    /// Starts the server on the port that [`Self::bind`] bound.
    pub async fn start(listener: TcpListener, resource: &str, issuer: &str) -> Self {
        install_crypto();
        let checks = Arc::new(Checks {
            resource: resource.to_owned(),
            issuer: issuer.to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client without TLS settings"),
            rules: Mutex::default(),
        });
        let metadata = json!({
            "resource": resource,
            "authorization_servers": [issuer],
            "scopes_supported": ["read"],
            "bearer_methods_supported": ["header"],
        });
        let metadata = get(move || async move { Json(metadata) });
        let (inner, recorded) = RecordingUpstream::router();
        let router = inner
            .layer(from_fn_with_state(Arc::clone(&checks), check))
            .route("/.well-known/oauth-protected-resource/mcp", metadata);
        let served = Served::on(listener, router);
        Self {
            recording: RecordingUpstream::on(served, recorded),
            checks,
        }
    }

    /// Its MCP endpoint, which is the resource.
    pub fn url(&self) -> &str {
        &self.checks.resource
    }

    /// Requires this scope of calls of this tool.
    ///
    /// # Panics
    /// Never.
    pub fn require_scope(&self, tool: &str, scope: &str) {
        self.rules().scopes.insert(tool.to_owned(), scope.to_owned());
    }

    /// Accepts none of the tokens that it has accepted so far.
    ///
    /// # Panics
    /// Never.
    pub fn refuse_known_tokens(&self) {
        let mut rules = self.rules();
        let known: Vec<_> = rules.calls.iter().map(|(_, token)| token.clone()).collect();
        rules.refused.extend(known);
    }

    /// The account, or the client where there is none, of each accepted `tools/call`.
    ///
    /// # Panics
    /// Never.
    pub fn callers(&self) -> Vec<String> {
        self.rules().calls.iter().map(|(account, _)| account.clone()).collect()
    }

    /// The token of each accepted `tools/call`.
    ///
    /// # Panics
    /// Never.
    pub fn tokens(&self) -> Vec<String> {
        self.rules().calls.iter().map(|(_, token)| token.clone()).collect()
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.checks.rules.lock().expect("no holder of this lock panics")
    }
}

impl Checks {
    /// What the authorization server says of a token; `None`: it is not valid here.
    async fn introspect(&self, token: &str) -> Option<Value> {
        let form = [
            ("token", token),
            ("client_id", "machine-post"),
            ("client_secret", "machine-secret:+/%"),
        ];
        let asked = self
            .http
            .post(format!("{}/token/introspection", self.issuer))
            .form(&form);
        let said: Value = asked.send().await.ok()?.json().await.ok()?;
        let audience = &said["aud"];
        let here = *audience == self.resource.as_str()
            || audience
                .as_array()
                .is_some_and(|all| all.iter().any(|one| *one == self.resource.as_str()));
        (said["active"] == true && here).then_some(said)
    }

    fn challenge(&self, status: StatusCode, error: &str) -> Response {
        let origin = self.resource.trim_end_matches("/mcp");
        let value = format!("Bearer {error}resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\"");
        (status, [("www-authenticate", value)], "a token is required").into_response()
    }
}

async fn check(State(checks): State<Arc<Checks>>, request: Request, next: Next) -> Response {
    let token = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned) else {
        return checks.challenge(StatusCode::UNAUTHORIZED, "");
    };
    let refused = checks
        .rules
        .lock()
        .expect("no holder of this lock panics")
        .refused
        .contains(&token);
    let said = if refused { None } else { checks.introspect(&token).await };
    let Some(said) = said else {
        return checks.challenge(StatusCode::UNAUTHORIZED, "error=\"invalid_token\", ");
    };
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    if message["method"] == "tools/call" {
        let mut rules = checks.rules.lock().expect("no holder of this lock panics");
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        let granted: HashSet<&str> = said["scope"].as_str().unwrap_or_default().split(' ').collect();
        if let Some(scope) = rules.scopes.get(tool)
            && !granted.contains(scope.as_str())
        {
            let error = format!("error=\"insufficient_scope\", scope=\"{scope}\", ");
            drop(rules);
            return checks.challenge(StatusCode::FORBIDDEN, &error);
        }
        let account = said["sub"].as_str().or(said["client_id"].as_str()).unwrap_or_default();
        rules.calls.push((account.to_owned(), token));
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}
