//! Wires the service together, and is the only place that does.

use std::sync::Arc;

use service_kit::{App, Clock, Readiness, identity::Verifier};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::{
    config::Config,
    pages::{self, PagesConfig, PagesDeps},
};

/// What gateway-svc is given to work with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// registry-svc.
    pub registry: Channel,
    /// credential-svc.
    pub credential: Channel,
    /// orchestrator-svc.
    pub orchestrator: Channel,
    /// Verifies the tokens of people.
    pub verifier: Arc<Verifier>,
    /// Tells the time.
    pub clock: Clock,
}

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The public URL cannot be one.
    #[error("the public URL must be an http or https URL with a host")]
    PublicUrl,
}

/// Builds the service; starts nothing.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    if !matches!(config.public_url.scheme(), "http" | "https") || !config.public_url.has_host() {
        return Err(BuildError::PublicUrl);
    }
    let pages = pages::router(
        PagesConfig { public_url: config.public_url.clone(), cookie_key: config.session_key },
        PagesDeps {
            registry: deps.registry.clone(),
            credential: deps.credential.clone(),
            verifier: Arc::clone(&deps.verifier),
            clock: deps.clock.clone(),
        },
    );
    let (_, ready) = watch::channel(Readiness::NotReady("the registry has not been reached yet".to_owned()));
    Ok(App {
        name: "gateway-svc",
        grpc: axum::Router::new(),
        services: Vec::new(),
        descriptors: contracts::gateway::FILE_DESCRIPTOR_SET,
        http: pages,
        tasks: Vec::new(),
        ready,
    })
}
