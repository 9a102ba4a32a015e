//! A server on loopback that answers as a test says, and records what it is asked.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};

type Handler = Arc<dyn Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync>;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

pub(super) struct Server {
    url: String,
    handler: Arc<Mutex<Handler>>,
    seen: watch::Sender<Vec<Seen>>,
}

impl Server {
    /// Starts a server that has nothing.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            handler: Arc::new(Mutex::new(Arc::new(|_| {
                async { StatusCode::NOT_FOUND.into_response() }.boxed()
            }))),
            seen: watch::Sender::default(),
        };
        let (handler, seen) = (Arc::clone(&server.handler), server.seen.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (handler, seen) = (Arc::clone(&handler), seen.clone());
            async move {
                let request = read(request).await;
                seen.send_modify(|seen| seen.push(request.clone()));
                let answer = handler.lock().unwrap()(request);
                answer.await
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Starts a server with these documents.
    pub(super) async fn with(documents: impl Fn(&Self) -> Vec<(&'static str, Value)>) -> Self {
        let server = Self::start().await;
        let documents = documents(&server);
        server.answer(move |seen| {
            let found = documents.iter().find(|(path, _)| *path == seen.path);
            found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |(_, document)| json(document))
        });
        server
    }

    pub(super) fn answer(&self, handler: impl Fn(Seen) -> Response + Send + Sync + 'static) {
        self.answer_later(move |seen| std::future::ready(handler(seen)).boxed());
    }

    pub(super) fn answer_later(&self, handler: impl Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync + 'static) {
        *self.handler.lock().unwrap() = Arc::new(handler);
    }

    /// A URL of it, without a slash at the end where `path` is empty.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until it was asked this often.
    pub(super) async fn asked(&self, times: usize) {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= times).await.unwrap();
    }
}

pub(super) fn json(document: &Value) -> Response {
    with_status(200, document)
}

pub(super) fn with_status(status: u16, document: &Value) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(document.to_string()))
        .unwrap()
}

pub(super) fn html(status: u16) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html")
        .body(Body::from("<!doctype html><title>Sign in</title>"))
        .unwrap()
}

pub(super) fn redirect(status: u16, location: &str) -> Response {
    Response::builder()
        .status(status)
        .header(header::LOCATION, location)
        .body(Body::empty())
        .unwrap()
}

async fn read(request: Request) -> Seen {
    let (parts, body) = request.into_parts();
    Seen {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap(),
    }
}
