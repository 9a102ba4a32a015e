//! The wiring.

use std::sync::Arc;

use axum::middleware;
use service_kit::{App, Readiness, Task, identity, page_token::PageTokens, quota};
use tokio::sync::watch;

use crate::{
    api,
    config::{Config, Deps, Retention},
    operate::{Registry, housekeeping, propagation::Propagation, rollout},
    store,
};

/// Why the registry cannot be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(#[from] store::OpenError);

/// Opens and migrates the database, and wires the services.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    let db = store::open(&config.database).await?;
    let propagation = Propagation::new(db.clone(), config.watcher_lease);
    propagation.begin().await.map_err(store::OpenError::from)?;
    let registry = Arc::new(Registry {
        db,
        clock: deps.clock.clone(),
        pages: PageTokens::new(&config.page_token_key),
        egress: config.egress,
        pending_expiry: config.pending_expiry,
        propagation,
        rollouts: rollout::Rollouts::default(),
    });
    let (services, routes) = api::routes(&registry);
    let Deps { verifier, quotas, .. } = deps;
    let grpc = routes
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::from_fn(|request, next| {
            identity::admit(api::admitted, request, next)
        }))
        .layer(middleware::from_fn(move |request, next| {
            quota::charge(Arc::clone(&quotas), request, next)
        }))
        .layer(middleware::from_fn(move |request, next| {
            identity::authenticate(Arc::clone(&verifier), request, next)
        }));
    let (ready_sender, ready) = watch::channel(Readiness::Ready);
    Ok(App {
        name: "registry-svc",
        grpc,
        services,
        descriptors: contracts::registry::FILE_DESCRIPTOR_SET,
        http: axum::Router::new(),
        direct: None,
        tasks: tasks(&registry, config.retention, ready_sender),
        ready,
    })
}

fn tasks(registry: &Arc<Registry>, retention: Retention, ready: watch::Sender<Readiness>) -> Vec<Task> {
    let db = registry.db.clone();
    let propagation = registry.propagation.clone();
    let of = || Arc::clone(registry);
    let (looking, expiring, forgetting, gateways, rolling_out) = (of(), of(), of(), of(), of());
    vec![
        Task::new("follow", move |stop| store::follow(db, stop)),
        Task::new("propagation", move |stop| propagation.run(stop)),
        Task::new("readiness", move |stop| housekeeping::look(looking, ready, stop)),
        Task::new("expiry", move |stop| housekeeping::expire(expiring, stop)),
        Task::new("retention", move |stop| {
            housekeeping::forget(forgetting, retention, stop)
        }),
        Task::new("gateways", move |stop| housekeeping::know_gateways(gateways, stop)),
        Task::new("rollout", move |stop| rollout::run(rolling_out, stop)),
    ]
}
