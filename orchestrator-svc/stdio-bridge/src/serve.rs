//! Serves the socket that the gateway connects to.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Pid;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    answer::{Body, until_sent},
    http::{Endpoint, busy, not_taken},
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
    async fn handle(self, request: Request<Incoming>, in_flight: InFlight) -> Response<Body> {
        // A stop does not wait for streams of notifications.
        if request.method() != Method::POST {
            return self.answer(request, &in_flight).await;
        }
        match self {
            // These admit a request once they have read it: not every message is one.
            Self::Stdio(_) | Self::Sessions(_) => self.answer(request, &in_flight).await,
            Self::Http(_) => match in_flight.admit() {
                Some(admitted) => admitted.until_answered(self.answer(request, &in_flight).await),
                None => not_taken("null"),
            },
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

/// Requests beyond the limit that are refused at one time. Further ones wait in the socket.
const REFUSED: usize = 64;
/// How long a connection that is not kept may take to send its request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

/// The requests that may be in progress.
#[derive(Clone)]
struct Places(Arc<Semaphore>);

impl Places {
    /// Answers a request, or refuses it.
    async fn handle(
        self,
        request: Request<Incoming>,
        service: Service,
        in_flight: InFlight,
    ) -> Result<Response<Body>, Infallible> {
        let Ok(place) = self.0.try_acquire_owned() else {
            return Ok(refuse(request, &in_flight).await);
        };
        Ok(until_sent(service.handle(request, in_flight).await, place))
    }
}

/// Refuses a request that has no place.
async fn refuse(request: Request<Incoming>, in_flight: &InFlight) -> Response<Body> {
    // Where a connection ends before the request has been read, its client may get no answer.
    let mut body = request.into_body();
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(FIRST_REQUEST, read).await;
    if in_flight.is_closed() {
        return not_taken("null");
    }
    let why = "The MCP server has as many requests in progress as it may. Try again when some of them have ended.";
    busy("null", "calls", why)
}

/// Serves until `finishing` is set, and then until the last answers are sent. Only the process `parent` may call. `requests` is the most in progress
/// at one time.
///
/// A client keeps connections between requests, and one that has many of them idle may open others. So connections beyond as many as there may be
/// requests are served, too, each for one request.
pub(crate) async fn serve(
    listener: UnixListener,
    service: Service,
    parent: Pid,
    in_flight: InFlight,
    mut finishing: watch::Receiver<bool>,
    requests: usize,
) {
    let places = Places(Arc::new(Semaphore::new(requests)));
    let kept = Arc::new(Semaphore::new(requests));
    // Some of these have no request in progress, so that one is soon free.
    let others = Arc::new(Semaphore::new(requests + REFUSED));
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
        let mut http = http1::Builder::new();
        let kept = Arc::clone(&kept).try_acquire_owned();
        let open = if let Ok(kept) = kept {
            // No timeouts: only the gateway is connected, and it keeps idle connections.
            kept
        } else {
            http.keep_alive(false);
            http.timer(TokioTimer::new()).header_read_timeout(FIRST_REQUEST);
            let other = Arc::clone(&others).acquire_owned();
            tokio::select! {
                _ = finishing.wait_for(|f| *f) => break,
                other = other => other.expect("it is not closed"),
            }
        };
        let (places, service, in_flight) = (places.clone(), service.clone(), in_flight.clone());
        let mut finishing = finishing.clone();
        connections.spawn(async move {
            let _open = open;
            let handler = service_fn(|request| places.clone().handle(request, service.clone(), in_flight.clone()));
            let connection = http.serve_connection(TokioIo::new(stream), handler);
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
