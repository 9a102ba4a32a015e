//! Serves a connection over hyper.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt as _;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use service_kit::{app::RequestBody, edge::response_body};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{answering::Answering, stop::LaneStop};

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

/// Accepts HTTP/1.1, and HTTP/2 with prior knowledge.
pub(super) fn builder() -> auto::Builder<TokioExecutor> {
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

/// Serves a connection until it ends.
pub(super) async fn serve<I>(builder: auto::Builder<TokioExecutor>, io: I, answering: Answering, stop: LaneStop)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let held = answering.keep_open.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let answer = answering.respond(
            answering.way(Arc::new(head)),
            RequestBody::Coming(answering.limited(body)),
        );
        answer.map(|(response, served)| Ok::<_, Infallible>(response.map(|body| response_body(body, served))))
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.begins() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving => ended,
                () = stop.cuts_off(&held) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection has failed");
    }
}
