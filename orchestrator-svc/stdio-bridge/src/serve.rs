//! Serves the socket that the gateway connects to.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::unistd::Pid;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    answer::Body,
    http::{Endpoint, not_taken},
    in_flight::InFlight,
    proxy::Proxy,
    sessions::Sessions,
};

/// What answers requests.
#[derive(Clone)]
pub(crate) enum Service {
    Stdio(Arc<Endpoint>),
    Sessions(Arc<Sessions>),
    Http(Arc<Proxy>),
}

impl Service {
    async fn handle(self, request: Request<Incoming>, in_flight: InFlight) -> Result<Response<Body>, Infallible> {
        // A stop does not wait for streams of notifications.
        if request.method() != Method::POST {
            return Ok(self.answer(request, &in_flight).await);
        }
        match self {
            // These admit a request once they have read it: not every message is one.
            Self::Stdio(_) | Self::Sessions(_) => Ok(self.answer(request, &in_flight).await),
            Self::Http(_) => Ok(match in_flight.admit() {
                Some(admitted) => admitted.until_answered(self.answer(request, &in_flight).await),
                None => not_taken("null"),
            }),
        }
    }

    async fn answer(self, request: Request<Incoming>, in_flight: &InFlight) -> Response<Body> {
        match self {
            Self::Stdio(endpoint) => endpoint.handle(request, in_flight).await,
            Self::Sessions(sessions) => sessions.handle(request, in_flight).await,
            Self::Http(proxy) => proxy.handle(request).await,
        }
    }
}

/// Serves until `finishing` is set, and then until the last answers are sent. Only the process `parent` may call. `connections` is the most at
/// one time.
pub(crate) async fn serve(
    listener: UnixListener,
    service: Service,
    parent: Pid,
    in_flight: InFlight,
    mut finishing: watch::Receiver<bool>,
    connections: usize,
) {
    let places = Arc::new(Semaphore::new(connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = finishing.wait_for(|f| *f) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Other processes of this user can connect, too.
        if stream.peer_cred().ok().and_then(|peer| peer.pid()) != Some(parent.as_raw()) {
            continue;
        }
        // A connection beyond the limit is closed, instead of waiting.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (service, in_flight) = (service.clone(), in_flight.clone());
        let mut finishing = finishing.clone();
        connections.spawn(async move {
            let _place = place;
            let handler = service_fn(move |request| service.clone().handle(request, in_flight.clone()));
            // No timeouts: only the gateway is connected, and it keeps idle connections.
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), handler);
            let mut connection = pin!(connection);
            let finished = tokio::select! {
                _ = connection.as_mut() => true,
                _ = finishing.wait_for(|f| *f) => false,
            };
            if !finished {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
