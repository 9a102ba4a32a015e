//! What the `build` function of a service crate returns: everything to serve, with nothing started.

use std::{fmt, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::json_answer::JsonAnswer;

/// A service that is built and wired, but not running.
pub struct App {
    /// The name of the crate, such as `registry-svc`.
    pub name: &'static str,
    /// Its gRPC services, with authentication around them (see `identity::authenticate`).
    pub grpc: axum::Router,
    /// Full names of those gRPC services, for health: `chandlery.registry.v1.EntryService`.
    pub services: Vec<&'static str>,
    /// Its encoded file descriptor set, for reflection.
    pub descriptors: &'static [u8],
    /// Its HTTP pages and endpoints; an empty router if it has none.
    pub http: axum::Router,
    /// What most requests for these go to, without the router.
    pub direct: Option<Direct>,
    /// Background work: watches, reconcilers.
    pub tasks: Vec<Task>,
    /// Whether the service can do its work.
    pub ready: watch::Receiver<Readiness>,
}

/// Requests that are answered without the router.
#[derive(Clone)]
pub struct Direct {
    /// How the requests begin that most are: `POST /mcp/`.
    pub begins: &'static [&'static str],
    /// Finds what answers a request, by its head.
    pub find: FindEndpoint,
}

/// Finds what answers the requests with this head; `None`: the router does. The head may lack `Content-Length`.
pub type FindEndpoint = Arc<dyn Fn(&Arc<Parts>) -> Option<Arc<dyn Endpoint>> + Send + Sync>;

/// Answers requests with one head: all that come with it on a connection, as long as no other comes in between. So it can keep what follows from the head.
pub trait Endpoint: Send + Sync {
    /// Answers a request with this body.
    fn answer(self: Arc<Self>, body: RequestBody) -> BoxFuture<'static, Answer>;
}

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// All of it has come.
    Whole(Bytes),
    /// It may still come.
    Coming(Body),
}

impl From<Body> for RequestBody {
    fn from(body: Body) -> Self {
        Self::Coming(body)
    }
}

impl From<RequestBody> for Body {
    fn from(body: RequestBody) -> Self {
        match body {
            RequestBody::Whole(whole) => whole.into(),
            RequestBody::Coming(body) => body,
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// What most are.
    Json(JsonAnswer),
    /// Any other.
    Other(Response),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Other(response)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Json(json) => json.into(),
            Answer::Other(response) => response,
        }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct")
            .field("begins", &self.begins)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a service can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The service works.
    Ready,
    /// The service works, but something is wrong. The text is for people, such as `registry unreachable for 12 s;
    /// serving the last snapshot`.
    Degraded(String),
    /// The service cannot work. The text tells people why.
    NotReady(String),
}

/// A future that runs for the lifetime of the service, and ends soon after its token is cancelled.
pub struct Task {
    /// What it does, for logs: `watch`.
    pub name: &'static str,
    /// It ends later than others where it completes what would be lost otherwise: give it time.
    pub completes: bool,
    /// Starts the task with its token. A task that ends before the token is cancelled is a fault.
    pub run: Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>,
}

impl Task {
    /// Makes a task of an async closure.
    pub fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            completes: false,
            run: Box::new(move |token| Box::pin(run(token))),
        }
    }

    /// The same, which completes what would be lost.
    #[must_use]
    pub fn completing(self) -> Self {
        Self {
            completes: true,
            ..self
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}
