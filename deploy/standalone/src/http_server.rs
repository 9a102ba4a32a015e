//! Serves HTTP. Each connection stays on one of several single-threaded runtimes.
//!
//! A tool call waits for two sockets in turn, its client's and its upstream's. On a work-stealing runtime, like that of
//! the rest of the process, one thread wakes another for every response, which costs more than everything else the
//! gateway does for a call: with all connections on that runtime, 64 callers got 11 % fewer responses a second on a busy machine (as
//! many on a quiet one), and the median of what the gateway adds was 20 % longer (`just bench` on two cores, 20 rounds each).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::future::RouteFuture,
};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use service_kit::{
    Hosts, Peer,
    app::Direct,
    edge::{Acceptor, Gate, Guarded, KeepOpen, Permit, Served, request_body, response_body},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::{guard, headers, health};

/// How long open requests may continue after the server begins to stop. What takes longer is cut off, unless it holds its connection open.
const DRAIN: Duration = Duration::from_secs(3);
/// How long a response that has held its connection open may take to be written.
const WRITE: Duration = Duration::from_secs(1);
/// Connections that wait for a thread. The kernel keeps further ones in its backlog.
const QUEUE: usize = 64;
/// The response to a connection for which there is no place.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\nx-content-type-options: nosniff\r\ncontent-length: 28\r\n\r\ntoo many connections; retry\n";
/// The size of a request head, and of the part of a body that is read at once.
const MAX_BUFFER: usize = 64 << 10;
/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// The size of all header fields of an HTTP/2 request. A session's cookies have up to 20 KB.
const MAX_HEADERS: u32 = 32 << 10;
/// How much an HTTP/2 client may send before any of it is read.
const WINDOW: u32 = 256 << 10;
/// How much of the response of an HTTP/2 stream is buffered for the client.
const SEND_BUFFER: usize = 64 << 10;
/// How many streams a client may reset before the server has accepted them (CVE-2023-44487), and how many the server
/// may reset because of the client's errors, before the connection is closed.
const MAX_RESETS: usize = 64;
const MAX_FAULTS: usize = 1024;
/// An HTTP/2 connection that is silent for `PING` is pinged, and closed if it does not respond within `PONG`. A client
/// in the middle of a frame cannot respond, so this also limits slow request heads.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// What the listener serves.
#[derive(Clone)]
pub(crate) struct Site {
    /// All routes.
    pub(crate) router: Router,
    /// What most requests go to, without the router.
    pub(crate) direct: Arc<[Direct]>,
    /// The hosts for which requests are accepted.
    pub(crate) hosts: Arc<Hosts>,
    /// Whether browsers use https.
    pub(crate) https: bool,
}

/// When connections end.
#[derive(Clone)]
struct Stop {
    begun: CancellationToken,
    drain: Duration,
}

/// Serves `site` on `listener` until `stop` is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    site: Site,
    stop: CancellationToken,
) -> io::Result<()> {
    let stop = Stop {
        begun: stop,
        drain: DRAIN,
    };
    serve_until(listener, gate, site, stop).await
}

async fn serve_until(listener: TcpListener, gate: Arc<Gate>, site: Site, stop: Stop) -> io::Result<()> {
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let (mut lanes, ends): (Vec<_>, Vec<_>) = (0..lanes)
        .map(|_| lane(site.clone(), gate.limits().client_timeout, stop.clone()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let mut acceptor = Acceptor::new(listener, gate, REFUSAL);
    loop {
        let (connection, peer, permit) = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.begun.cancelled() => break,
        };
        let connection = match connection.into_std() {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(error = %error, "a connection was gone before it was served");
                continue;
            }
        };
        // Threads take turns, except those whose queue is full. If all are full, nothing more is accepted.
        lanes.rotate_left(1);
        let free = lanes.iter().position(|lane| lane.capacity() > 0).unwrap_or_default();
        let accepted = Accepted {
            connection,
            peer,
            permit,
        };
        let given = tokio::select! {
            given = lanes[free].send(accepted) => given,
            () = stop.begun.cancelled() => break,
        };
        if given.is_err() {
            return Err(io::Error::other("a thread that serves connections has ended"));
        }
    }
    drop((acceptor, lanes));
    for end in ends {
        end.await
            .map_err(|_| io::Error::other("a thread that serves connections has failed"))?;
    }
    Ok(())
}

/// A connection that was accepted on another thread.
struct Accepted {
    connection: std::net::TcpStream,
    peer: SocketAddr,
    permit: Permit,
}

type Lane = (mpsc::Sender<Accepted>, oneshot::Receiver<()>);

/// Starts a thread that serves the connections sent to it, and returns a receiver that resolves when it has ended.
fn lane(site: Site, client_timeout: Duration, stop: Stop) -> io::Result<Lane> {
    let (give, mut connections) = mpsc::channel::<Accepted>(QUEUE);
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let builder = builder();
            // Each connection holds a sender; the channel closes when all connections have ended.
            let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
            while let Some(accepted) = connections.recv().await {
                let Accepted {
                    connection,
                    peer,
                    permit,
                } = accepted;
                let Ok(connection) = TcpStream::from_std(connection) else {
                    continue;
                };
                let served = connection_of(
                    &builder,
                    connection,
                    permit,
                    Peer::External(peer),
                    &site,
                    client_timeout,
                    &stop,
                );
                let open = open.clone();
                tokio::spawn(async move {
                    served.await;
                    drop(open);
                });
            }
            drop(open);
            // Each ends in time by itself.
            let _ = all_closed.recv().await;
        });
        // If the receiver is gone, the process is ending.
        let _ = end.send(());
    })?;
    Ok((give, ended))
}

/// Accepts HTTP/1.1, and HTTP/2 with prior knowledge.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `Guarded` limits the time for a request head, because it can tell an idle connection from a slow one.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// Serves one connection until it ends.
fn connection_of(
    builder: &auto::Builder<TokioExecutor>,
    connection: TcpStream,
    permit: Permit,
    peer: Peer,
    site: &Site,
    client_timeout: Duration,
    stop: &Stop,
) -> impl Future<Output = ()> + Send + use<> {
    let phase = Arc::clone(permit.phase());
    let site = site.clone();
    let keep_open = KeepOpen::new();
    let held = keep_open.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let served = Served::begin(Arc::clone(&phase));
        let answer = if let Some(refusal) = guard::refusal(&site.hosts, request.uri(), request.headers()) {
            Coming::Refused(Box::new(refusal))
        } else if phase.is_spare() && !health::is_asked(request.uri()) {
            Coming::Refused(Box::new(busy()))
        } else {
            let request = request.map(|body| Body::new(request_body(body, client_timeout, Arc::clone(&phase))));
            answer(&site, request, peer, &keep_open)
        };
        let (last, https) = (phase.is_spare(), site.https);
        async move {
            let mut response = match answer {
                Coming::Direct(answer) => answer.await,
                Coming::Routed(answer) => answer.await.unwrap_or_else(|never| match never {}),
                Coming::Refused(refusal) => *refusal,
            };
            headers::harden(&mut response, https);
            if last {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| response_body(body, served)))
        }
    });
    let builder = builder.clone();
    let stop = stop.clone();
    async move {
        let mut serving = pin!(builder.serve_connection(TokioIo::new(Guarded::new(connection, permit)), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop.begun.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving => ended,
                    () = is_cut_off(&held, stop.drain) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "a connection has failed");
        }
    }
}

/// An answer that is to come. What serves a stream of HTTP/2 has room for it until the body is sent: it is small.
enum Coming {
    Direct(Pin<Box<dyn Future<Output = Response> + Send>>),
    Routed(Pin<Box<RouteFuture<Infallible>>>),
    Refused(Box<Response>),
}

fn answer(site: &Site, mut request: Request<Body>, peer: Peer, keep_open: &KeepOpen) -> Coming {
    for direct in &*site.direct {
        request = match direct(request) {
            ControlFlow::Break(answer) => return Coming::Direct(answer),
            ControlFlow::Continue(request) => request,
        };
    }
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(keep_open.clone());
    Coming::Routed(Box::pin(site.router.clone().call(request)))
}

/// Ends when a connection has had its time after a stop.
async fn is_cut_off(held: &KeepOpen, drain: Duration) {
    sleep(drain).await;
    if held.is_held() {
        held.released().await;
        sleep(WRITE).await;
    }
}

fn busy() -> Response {
    let retry = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry, "too many connections; retry\n").into_response()
}

#[cfg(test)]
mod tests;
