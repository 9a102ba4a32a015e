//! Serves gRPC over any stream of connections, with health and reflection.

use std::{io, sync::Arc, time::Duration};

use futures::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, ServerTlsConfig},
};
use tonic_health::{ServingStatus, server::health_reporter};

use crate::{
    app::{App, Readiness},
    connection::{Connection, Link},
    edge::{Served, request_body, response_body},
    pipe::PipeListener,
};

/// How long open requests of services may continue after the server begins to stop. Longer streams are cut.
const DRAIN: Duration = Duration::from_secs(5);
/// A connection that is silent for `PING` is pinged, and closed if it does not respond within `PONG`. A client in the
/// middle of a frame cannot respond, so this also limits slow request heads.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// Concurrent calls on one connection of a client.
const MAX_STREAMS: u32 = 256;
/// Concurrent calls of one service to another, which share one connection: those that wait for somebody's slow server must not hold up all
/// others. No client opens these streams; the service that does limits them by caller and by installation.
const MAX_WORKLOAD_STREAMS: u32 = 4_096;
/// The size of all header fields of one request, in bytes. Tokens are the largest of them.
const MAX_HEADERS: u32 = 32 << 10;
/// How many streams a client may reset before the server has accepted them (CVE-2023-44487), and how many the server
/// may reset because of the client's errors, before the connection is closed.
const MAX_RESETS: usize = 64;
const MAX_FAULTS: usize = 1024;
/// The timeout of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves `routes` on `connections` until `stop` is cancelled.
pub async fn serve<S>(routes: Routes, connections: S, stop: CancellationToken) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<Connection>> + Send + 'static,
{
    serve_with(Server::builder(), MAX_STREAMS, routes, connections, stop, DRAIN).await
}

/// Like [`serve`], for another service of this process.
pub async fn serve_pipe(
    routes: Routes,
    pipe: PipeListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    serve_with(Server::builder(), MAX_WORKLOAD_STREAMS, routes, pipe, stop, DRAIN).await
}

/// Like [`serve`], for people and their programs: over TLS if it is configured. Open requests may continue for `drain`.
pub async fn serve_clients<S>(
    tls: Option<ServerTlsConfig>,
    routes: Routes,
    connections: S,
    stop: CancellationToken,
    drain: Duration,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<Connection>> + Send + 'static,
{
    let server = match tls {
        Some(tls) => Server::builder().tls_config(tls.timeout(HANDSHAKE))?,
        None => Server::builder(),
    };
    serve_with(server, MAX_STREAMS, routes, connections, stop, drain).await
}

async fn serve_with<S>(
    server: Server,
    streams: u32,
    routes: Routes,
    connections: S,
    stop: CancellationToken,
    drain: Duration,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<Connection>> + Send + 'static,
{
    let serving = server
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .max_concurrent_streams(streams)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_FAULTS))
        .add_routes(Routes::from(
            routes.into_axum_router().layer(axum::middleware::from_fn(over_link)),
        ))
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => served,
        () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => Ok(()),
    }
}

/// Adds the peer to the request, and reports the progress of request and response to the connection.
async fn over_link(mut request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let Some(link) = request.extensions_mut().remove::<Link>() else {
        return next.run(request).await;
    };
    request.extensions_mut().insert(link.peer);
    let Some((phase, client_timeout)) = link.guard else {
        return next.run(request).await;
    };
    let served = Served::begin(Arc::clone(&phase));
    let request = request.map(|body| axum::body::Body::new(request_body(body, client_timeout, phase)));
    let response = next.run(request).await;
    response.map(|body| axum::body::Body::new(response_body(body, served)))
}

/// Merges the gRPC routes of several services, with one health and one reflection service for all.
///
/// The returned future updates the health service when the readiness of a service changes. Run it beside the server.
pub fn routes(apps: &[&App]) -> (Routes, impl Future<Output = ()> + Send + use<>) {
    let (reporter, health) = health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With these, grpcurl decodes the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let (mut v1, mut v1alpha) = (reflection(), reflection());
    let mut router = axum::Router::new();
    let mut watched: Vec<(Vec<&'static str>, watch::Receiver<Readiness>)> = Vec::new();
    for app in apps {
        v1 = v1.register_encoded_file_descriptor_set(app.descriptors);
        v1alpha = v1alpha.register_encoded_file_descriptor_set(app.descriptors);
        router = router.merge(app.grpc.clone());
        watched.push((app.services.clone(), app.ready.clone()));
    }
    let mut builder = Routes::builder();
    builder.add_service(health);
    builder.add_service(v1.build_v1().expect("the descriptors were compiled with the program"));
    builder.add_service(
        v1alpha
            .build_v1alpha()
            .expect("the descriptors were compiled with the program"),
    );
    let router = router
        .merge(builder.routes().into_axum_router().reset_fallback())
        .fallback(unknown_method);
    let report = async move {
        let followers = watched.into_iter().map(|(services, mut ready)| {
            let reporter = reporter.clone();
            async move {
                loop {
                    let status = match *ready.borrow_and_update() {
                        Readiness::NotReady(_) => ServingStatus::NotServing,
                        Readiness::Ready | Readiness::Degraded(_) => ServingStatus::Serving,
                    };
                    for service in &services {
                        reporter.set_service_status(*service, status).await;
                    }
                    if ready.changed().await.is_err() {
                        return;
                    }
                }
            }
        });
        futures::future::join_all(followers).await;
    };
    (Routes::from(router), report)
}

/// The response for a method that does not exist.
async fn unknown_method() -> http::Response<tonic::body::Body> {
    tonic::Status::unimplemented("there is no such method; reflection lists all of them").into_http()
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use tokio::sync::Semaphore;
    use tower::Service as _;

    use super::*;
    use crate::{peer::Workload, pipe::pipe};

    #[tokio::test]
    async fn calls_that_wait_hold_up_no_other_call_of_a_service() {
        let (channel, listener) = pipe(Workload::Gateway);
        let arrived = Arc::new(Semaphore::new(0));
        let arriving = Arc::clone(&arrived);
        let waits = async move || {
            arriving.add_permits(1);
            std::future::pending::<()>().await;
        };
        let router = Router::new()
            .route("/waits", post(waits))
            .route("/answers", post(async || ()));
        tokio::spawn(serve_pipe(Routes::from(router), listener, CancellationToken::new()));
        let call = |path: &str| {
            let mut channel = channel.clone();
            let request = http::Request::post(path).body(tonic::body::Body::empty()).unwrap();
            async move {
                std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
                channel.call(request).await.unwrap()
            }
        };
        let waiting = 4 * MAX_STREAMS;
        for _ in 0..waiting {
            tokio::spawn(call("/waits"));
        }
        let all = tokio::time::timeout(Duration::from_secs(20), arrived.acquire_many(waiting)).await;
        drop(all.expect("none waits for a stream").unwrap());
        assert_eq!(call("/answers").await.status(), http::StatusCode::OK);
    }
}
