//! Requests over connections that are kept.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use service_kit::http1::request_head;
use thread_local::ThreadLocal;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, timeout_at},
};
use tower::ServiceExt as _;

use super::{
    body::OwnBody,
    connection::{Connection, Message, Server},
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
        self.send(uri, &server, &request.method, [head, body], None).await
    }

    /// Sends what is written already. The answer begins `within` this time, if any.
    pub(super) async fn send(
        &self,
        uri: &Uri,
        server: &Server,
        method: &Method,
        mut message: Message,
        within: Option<Duration>,
    ) -> Result<Response<OwnBody>, PoolError> {
        let now = Instant::now();
        let deadline = within.and_then(|within| now.checked_add(within));
        let kept = self.threads.get_or(|| Kept::new(self.limits));
        while let Some(mut connection) = kept.take(server, now) {
            let quiet = poll_fn(|cx| Poll::Ready(connection.is_quiet(cx)));
            if !unconstrained(quiet).await {
                continue;
            }
            match exchange(connection, kept, method, &mut message, deadline).await {
                Err(ExchangeError::Untouched(_)) => {}
                exchanged => return exchanged.map_err(PoolError::from),
            }
        }
        // Few requests connect, and a TLS handshake takes much memory.
        let connecting = Box::pin(self.connect(uri, server));
        let connection = match deadline {
            Some(deadline) => timeout_at(deadline, connecting).await.map_err(|_| PoolError::Late)?,
            None => connecting.await,
        };
        let exchanged = exchange(connection?, kept, method, &mut message, deadline).await;
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
            ExchangeError::Late => Self::Late,
            broken => Self::Exchange(broken.into()),
        }
    }
}
