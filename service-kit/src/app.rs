//! What a service crate's `build` returns: everything to serve, nothing started yet.

use std::fmt;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A service, built and wired, not yet running.
pub struct App {
    /// `registry-svc`, for example.
    pub name: &'static str,
    /// Its gRPC services, with authentication around them (see `identity::authenticate`).
    pub grpc: axum::Router,
    /// Full names of those gRPC services, for health: `chandlery.registry.v1.EntryService`.
    pub services: Vec<&'static str>,
    /// Its encoded file descriptor set, for reflection.
    pub descriptors: &'static [u8],
    /// Its HTTP pages and endpoints; an empty router where it has none.
    pub http: axum::Router,
    /// What runs beside the serving: watches, reconcilers.
    pub tasks: Vec<Task>,
    /// Whether it can do its work.
    pub ready: watch::Receiver<Readiness>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a service can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can, but something is amiss: for people, such as `registry out of reach for 12 s; serving the last snapshot`.
    Degraded(String),
    /// It cannot; for people, why.
    NotReady(String),
}

/// A future that runs as long as the service does, and ends soon after the token it was made with is cancelled.
pub struct Task {
    /// What it does, for logs: `watch`.
    pub name: &'static str,
    /// Makes it run until the token is cancelled. To end before is a fault.
    pub run: Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>,
}

impl Task {
    /// A task from an async closure.
    pub fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            run: Box::new(move |token| Box::pin(run(token))),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}
