//! Upstreams that are odd, slow or hostile, in this process.

mod answers;
mod away;
mod bounds;
mod cancellation;
mod connections;
mod modern;
mod own_sessions;
mod resume;
mod runtime_ends;
mod secrets;
mod sessions;
mod tenants;
mod tools;

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
use serde_json::{Value, json};
use service_kit::{Clock, cancel::Cancel, egress::EgressPolicy, http1::HttpPath};
use tokio::sync::mpsc;

use super::*;

type Handler = Arc<dyn Fn(Value, HeaderMap) -> Response + Send + Sync>;

/// What a server answers that does not know the method.
fn unknown(message: &Value) -> Response {
    let error = json!({"code": -32601, "message": "Method not found"});
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error})).into_response()
}

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
            if message["method"] == "server/discover" {
                return unknown(&message);
            }
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
    Upstreams::new(
        EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]),
        limits,
        HttpPath::default(),
        Clock::System,
    )
}

fn short() -> Limits {
    let short = Duration::from_millis(300);
    Limits {
        headers: short,
        idle: short,
        discover: short,
        initialize: short,
        reconnect: Duration::from_millis(1),
        total: Duration::from_secs(2),
        max_message: 1 << 20,
        ..Limits::default()
    }
}

/// For tests in which nothing times out.
fn patient() -> Limits {
    let long = Duration::from_secs(20);
    Limits {
        headers: long,
        idle: long,
        discover: long,
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
    target_at(endpoint, generation, headers, Scope::Shared)
}

fn target_at(endpoint: Endpoint, generation: i64, headers: HeaderMap, scope: Scope) -> Arc<Target> {
    Arc::new(Target::new(
        endpoint,
        "inst".into(),
        [1, generation, 0],
        Revision::LATEST,
        headers,
        scope,
    ))
}

/// What calls of an installation go to, without anything that its server gets.
pub(super) fn target_for(installation: &str, endpoint: Endpoint, scope: Scope) -> Target {
    let generations = [1, 1, 0];
    Target::new(
        endpoint,
        installation.into(),
        generations,
        Revision::LATEST,
        HeaderMap::new(),
        scope,
    )
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
