//! Requests over connections that are kept.

use std::{future::poll_fn, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use service_kit::http1::request_head;
use thread_local::ThreadLocal;
use tokio::task::coop::unconstrained;
use tower::ServiceExt as _;

use super::{
    body::OwnBody,
    connection::{Connection, Server},
    exchange::{ExchangeError, exchange},
    kept::{Kept, Limits},
};
use crate::upstream::{connect::Connector, pool_error::PoolError, response::Response};

/// The connections of all threads.
#[derive(Clone)]
pub(crate) struct Client {
    connector: Connector,
    threads: Arc<ThreadLocal<Arc<Kept>>>,
    limits: Limits,
}

impl Client {
    /// Each thread keeps connections within `limits`.
    pub(crate) fn new(connector: Connector, limits: Limits) -> Self {
        Self {
            connector,
            threads: Arc::default(),
            limits,
        }
    }

    /// Sends a request to an absolute URI. It is sent again only if a kept connection turns out to be closed before anything of it can have reached
    /// the server.
    pub(crate) async fn request(&self, uri: &Uri, request: Request<Bytes>) -> Result<Response<OwnBody>, PoolError> {
        let (request, body) = request.into_parts();
        let head = request_head(&request.method, uri, &request.headers, body.len());
        let head = head.map_err(|error| PoolError::Exchange(error.into()))?;
        let server = Server::of(uri).ok_or_else(|| PoolError::Connect("its URL has no host".into()))?;
        self.send(uri, &server, &request.method, head, body).await
    }

    /// Sends what is written already.
    pub(super) async fn send(
        &self,
        uri: &Uri,
        server: &Server,
        method: &Method,
        head: Bytes,
        body: Bytes,
    ) -> Result<Response<OwnBody>, PoolError> {
        let kept = self.threads.get_or(|| Kept::new(self.limits));
        while let Some(mut connection) = kept.take(server) {
            let quiet = poll_fn(|cx| Poll::Ready(connection.is_quiet(cx)));
            if !unconstrained(quiet).await {
                continue;
            }
            match exchange(connection, kept, method, head.clone(), body.clone()).await {
                Err(ExchangeError::Untouched(_)) => {}
                exchanged => return exchanged.map_err(PoolError::from),
            }
        }
        // Few requests connect, and a TLS handshake takes much memory.
        let connection = Box::pin(self.connect(uri, server)).await?;
        let exchanged = exchange(connection, kept, method, head, body).await;
        exchanged.map_err(PoolError::from)
    }

    async fn connect(&self, uri: &Uri, server: &Server) -> Result<Box<Connection>, PoolError> {
        let connected = self.connector.clone().oneshot(uri.clone()).await;
        let io = connected.map_err(PoolError::Connect)?;
        Ok(Box::new(Connection::new(TokioIo::new(io), server.clone())))
    }
}

impl From<ExchangeError> for PoolError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Malformed(malformed) => Self::Malformed(malformed),
            broken => Self::Exchange(broken.into()),
        }
    }
}
