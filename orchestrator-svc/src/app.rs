//! The wiring.

use std::sync::Arc;

use contracts::orchestrator::{FILE_DESCRIPTOR_SET, runtime_service_server::RuntimeServiceServer};
use registry_client::{
    access::Access,
    watch::{Watcher, follow},
};
use service_kit::{
    App, Clock, Quotas, Readiness, Task,
    identity::{Admitted, Verifier, admit, authenticate},
    quota::charge,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Channel};

use crate::{
    api::RuntimeApi,
    config::Config,
    domain::runtime::Runtime,
    reconcile::{Context, Controller, Follower, KINDS, Leases},
    runtime::local::{LocalError, LocalRuntime},
};

/// What the service depends on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// A channel of this workload to registry-svc.
    pub registry: Channel,
    /// A channel of this workload to credential-svc.
    pub credential: Channel,
    /// Verifies people's tokens.
    pub verifier: Arc<Verifier>,
    /// Limits what each caller may do.
    pub quotas: Arc<Quotas>,
    /// The clock.
    pub clock: Clock,
}

fn admitted(service: &str) -> Option<Admitted> {
    service
        .starts_with("chandlery.orchestrator.")
        .then_some(Admitted::People)
}

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The local runtime cannot be used on this machine.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Creates the runtime, which ends processes that an earlier run may have left, and wires the service.
///
/// # Errors
/// If the data folder cannot be used, or servers cannot be sandboxed as the configuration requires.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    let instance = config
        .instance
        .clone()
        .unwrap_or_else(|| service_kit::random::uuid().to_string());
    let local = LocalRuntime::new(config, deps.clock.clone()).await?;
    let mut leases = Leases::new(deps.registry.clone(), local.holder().to_owned());
    let runtime: Arc<dyn Runtime> = Arc::new(local);
    let (readiness, ready) = watch::channel(Readiness::NotReady(
        "waiting for the registry's first snapshot".to_owned(),
    ));
    let api = RuntimeApi::new(Arc::clone(&runtime), Access::new(deps.registry.clone()), deps.clock);
    let (verifier, quotas) = (deps.verifier, deps.quotas);
    let mut routes = Routes::builder();
    routes.add_service(RuntimeServiceServer::new(api));
    let grpc = routes
        .routes()
        .into_axum_router()
        .reset_fallback()
        .layer(axum::middleware::from_fn(|request, next| {
            admit(admitted, request, next)
        }))
        .layer(axum::middleware::from_fn(move |request, next| {
            charge(Arc::clone(&quotas), request, next)
        }))
        .layer(axum::middleware::from_fn(move |request, next| {
            authenticate(Arc::clone(&verifier), request, next)
        }));
    let (registry, credential) = (deps.registry, deps.credential);
    let watcher = Watcher {
        instance,
        address: String::new(),
    };
    let run = move |stop: CancellationToken| async move {
        let waits = |holder: &str| {
            let text =
                format!("another orchestrator ({holder}) holds the lease and runs the servers; this one is on standby");
            readiness.send_replace(Readiness::Degraded(text));
        };
        while let Some(held) = leases.acquire(&stop, waits).await {
            let lease = held.lease.clone();
            let context = Context::new(
                registry.clone(),
                credential.clone(),
                Arc::clone(&runtime),
                lease.clone(),
            );
            let controller = Arc::new(Controller::new(context));
            let mut follower = Follower::new(Arc::clone(&controller), readiness.clone());
            let lost = stop.child_token();
            tokio::join!(
                follow(registry.clone(), &watcher, &KINDS, &mut follower, lost.clone()),
                async {
                    let _ = lost.run_until_cancelled(leases.keep(held)).await;
                    lost.cancel();
                }
            );
            controller.shut_down().await;
            if stop.is_cancelled() {
                return leases.release(lease).await;
            }
        }
    };
    Ok(App {
        name: "orchestrator-svc",
        grpc,
        services: vec!["chandlery.orchestrator.v1.RuntimeService"],
        descriptors: FILE_DESCRIPTOR_SET,
        http: axum::Router::new(),
        direct: None,
        tasks: vec![Task::new("reconcile", run)],
        ready,
    })
}
