//! The health endpoints `/livez` and `/readyz`.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    routing::get,
};
use serde::Serialize;
use service_kit::Readiness;
use tokio::sync::watch;

/// The name and readiness of each service.
pub(crate) type Services = Vec<(&'static str, watch::Receiver<Readiness>)>;

#[derive(Serialize)]
struct Service {
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The paths of both endpoints.
pub(crate) const PATHS: [&str; 2] = [LIVE, READY];
const LIVE: &str = "/livez";
const READY: &str = "/readyz";

/// Routes for both endpoints.
pub(crate) fn router(services: Services) -> Router {
    Router::new()
        .route(LIVE, get(async || "ok\n"))
        .route(READY, get(readyz))
        .with_state(services)
}

/// Whether a request is for one of the endpoints.
pub(crate) fn is_asked(uri: &Uri) -> bool {
    PATHS.contains(&uri.path())
}

/// Returns 200 if every service is ready, otherwise 503; with the readiness and detail of each service as JSON.
async fn readyz(State(services): State<Services>) -> (StatusCode, Json<Vec<impl Serialize>>) {
    let services: Vec<Service> = services
        .iter()
        .map(|(name, ready)| match &*ready.borrow() {
            Readiness::Ready => Service {
                name,
                ready: true,
                detail: None,
            },
            Readiness::Degraded(detail) => Service {
                name,
                ready: true,
                detail: Some(detail.clone()),
            },
            Readiness::NotReady(detail) => Service {
                name,
                ready: false,
                detail: Some(detail.clone()),
            },
        })
        .collect();
    let ready = services.iter().all(|service| service.ready);
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        Json(services),
    )
}

/// Waits until every service is ready.
pub(crate) async fn all_ready(services: &Services) {
    for (_, ready) in services {
        // A closed channel means that the service has stopped, which its task reports.
        let _ = ready
            .clone()
            .wait_for(|ready| !matches!(ready, Readiness::NotReady(_)))
            .await;
    }
}
