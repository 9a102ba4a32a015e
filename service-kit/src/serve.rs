//! Serves gRPC over any stream of connections, with health and reflection.

use std::{io, time::Duration};

use futures::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::health_reporter};

use crate::{
    app::{App, Readiness},
    pipe::Connection,
};

/// How long open requests may go on once the server stops. Streams that never end are cut then.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves `routes` on `connections` until `stop` is cancelled.
pub async fn serve<S>(routes: Routes, connections: S, stop: CancellationToken) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = io::Result<Connection>> + Send + 'static,
{
    let serving = Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    tokio::select! {
        served = serving => served,
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// The gRPC routes of some services together, with one health and one reflection service for all of them.
///
/// The returned future keeps the health service true to the services' readiness; run it beside the server.
pub fn routes(apps: &[&App]) -> (Routes, impl Future<Output = ()> + Send + use<>) {
    let (reporter, health) = health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With these, grpcurl shows what the details of an error say.
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

/// What gRPC answers for a method that does not exist.
async fn unknown_method() -> http::Response<tonic::body::Body> {
    tonic::Status::unimplemented("there is no such method; reflection lists all of them").into_http()
}
