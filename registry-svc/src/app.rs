//! The wiring.

use std::sync::Arc;

use axum::middleware;
use service_kit::{App, Readiness, Task, identity, page_token::PageTokens};
use tokio::sync::watch;

use crate::{
    api::{self, Registry, propagation::Propagation},
    config::{Config, Deps},
    housekeeping, store,
};

/// Why the registry cannot be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(#[from] store::OpenError);

/// Opens and migrates the database, and wires the services.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    let db = store::open(&config.database).await?;
    let propagation = Propagation::new(db.clone(), deps.clock.clone());
    let registry = Arc::new(Registry {
        db: db.clone(),
        clock: deps.clock,
        pages: PageTokens::new(&config.page_token_key),
        egress: config.egress,
        pending_expiry: config.pending_expiry,
        propagation: propagation.clone(),
    });
    let (services, routes) = api::routes(&registry);
    let verifier = deps.verifier;
    let grpc = routes
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::from_fn(move |request, next| {
            identity::authenticate(Arc::clone(&verifier), request, next)
        }));
    let (ready_sender, ready) = watch::channel(Readiness::Ready);
    let followed = db.clone();
    let acked = propagation.acked();
    let tasks = vec![
        Task::new("follow", move |stop| store::follow(followed, acked, stop)),
        Task::new("housekeeping", move |stop| {
            housekeeping::run(registry, ready_sender, stop)
        }),
    ];
    Ok(App {
        name: "registry-svc",
        grpc,
        services,
        descriptors: contracts::registry::FILE_DESCRIPTOR_SET,
        http: axum::Router::new(),
        tasks,
        ready,
    })
}
