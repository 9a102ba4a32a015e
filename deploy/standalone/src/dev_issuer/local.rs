//! The development issuer for the services of this process, where clients reach it over TLS: the services do not know the certificate.

use std::{io, sync::Arc};

use axum::{Router, extract::Request, middleware, response::IntoResponse as _};
use service_kit::Hosts;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::guard;

/// Serves the routes of the issuer over plain HTTP, on an address that is loopback, until `stop` is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    hosts: Arc<Hosts>,
    stop: CancellationToken,
) -> io::Result<()> {
    let guarded = routes.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
        let refusal = guard::refusal(&hosts, request.uri(), request.headers());
        async move {
            match refusal {
                Some(refusal) => refusal.into_response(),
                None => next.run(request).await,
            }
        }
    }));
    axum::serve(listener, guarded)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}
