//! Wires the service together, and is the only place that does.

use std::sync::Arc;

use registry_client::watch::follow;
use service_kit::{App, Clock, Task, identity::Verifier};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    calls::Calls,
    config::Config,
    discovery::{Asker, Discovery, Reports},
    domain::{Installation, Links},
    identity::{self, Identity, TokenUses},
    mcp::{self, Mcp},
    pages::{self, PagesConfig, PagesDeps},
    snapshot::{Feed, Store},
    upstream::{Limits, Upstreams},
    vend::Vendor,
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
        PagesConfig {
            public_url: config.public_url.clone(),
            allowed_hosts: config.allowed_hosts.clone(),
            cookie_key: config.session_key,
        },
        PagesDeps {
            registry: deps.registry.clone(),
            credential: deps.credential.clone(),
            verifier: Arc::clone(&deps.verifier),
            clock: deps.clock.clone(),
        },
    );
    let links = Links::new(config.public_url.clone());
    let store = Store::new(config.staleness, deps.clock.clone());
    let vendor = Arc::new(Vendor::new(deps.credential.clone(), deps.clock.clone()));
    let upstreams = Upstreams::new(config.egress.clone(), limits(&config));
    let servers = Arc::new(Asker::new(Arc::clone(&vendor), upstreams.clone()));
    let (discovery, announced) = Discovery::new(
        Arc::clone(&store),
        servers,
        Reports::new(deps.registry.clone()),
        config.discovery_concurrency,
        config.discovery_timeout,
    );
    let tools_changed = {
        let discovery = Arc::clone(&discovery);
        Arc::new(move |installation: &Arc<Installation>| discovery.changed(&installation.uid))
    };
    let calls =
        Arc::new(Calls::new(Arc::clone(&store), Arc::clone(&vendor), upstreams.clone(), links.clone(), tools_changed));
    let uses = Arc::new(TokenUses::default());
    let identity = Arc::new(Identity::new(
        Arc::clone(&deps.verifier),
        Arc::clone(&store),
        Arc::clone(&uses),
        deps.clock.clone(),
    ));
    let streams = CancellationToken::new();
    let mcp = Arc::new(Mcp::new(
        &config,
        Arc::clone(&calls),
        Arc::clone(&identity),
        Arc::clone(&store),
        deps.clock.clone(),
        streams.clone(),
    ));
    let http = pages.merge(mcp::routes(mcp)).merge(identity::metadata_routes(&deps.verifier, &links));
    let (changed, changes) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Arc::clone(&store), changed);
    let (registry, freshness) = (deps.registry.clone(), Arc::clone(&store));
    let registry_of_uses = deps.registry.clone();
    let tasks = vec![
        Task::new("watch", async move |stop| follow(registry, &[], &mut feed, stop).await),
        Task::new("freshness", async move |stop| freshness.watch_freshness(stop).await),
        Task::new("discovery", async move |stop| discovery.run(changes, announced, stop).await),
        Task::new("token uses", async move |stop| uses.report(registry_of_uses, stop).await),
        Task::new("streams", async move |stop: CancellationToken| {
            // Streams that clients hold open would keep the server from ending.
            stop.cancelled().await;
            streams.cancel();
        }),
    ];
    Ok(App {
        name: "gateway-svc",
        grpc: axum::Router::new(),
        services: Vec::new(),
        descriptors: contracts::gateway::FILE_DESCRIPTOR_SET,
        http,
        tasks,
        ready: store.readiness(),
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        connect: config.connect_timeout,
        initialize: config.discovery_timeout,
        headers: config.call_timeout,
        idle: config.call_timeout.max(Limits::default().idle),
        ..Limits::default()
    }
}
