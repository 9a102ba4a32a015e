//! Wires the service together, and is the only place that does.

use std::sync::Arc;

use axum::middleware;
use contracts::{
    gateway::tool_service_server::{self, ToolServiceServer},
    registry::user_service_client::UserServiceClient,
};
use registry_client::{
    access::Access,
    watch::{self, Watcher},
};
use service_kit::{App, Clock, Quotas, Task, identity::Verifier, page_token::PageTokens};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Channel};

use crate::{
    api::{Admission, Tools},
    calls::{Calls, Late, ToolsChanged},
    config::Config,
    discovery::{Asker, Discovery, Reports},
    domain::Links,
    facade::{AccessTokens, Facade, FacadeConfig},
    identity::{Identity, Metadata, TokenUses},
    listing::Listings,
    mcp::{self, Mcp},
    pages::{self, PagesConfig, PagesDeps},
    snapshot::{Feed, Store},
    upstream::{Limits, Upstreams},
    vend::Vendor,
};

/// The longest request taken over gRPC: as much as MCP clients may send.
const MAX_MESSAGE: usize = 16 << 20;

/// What gateway-svc is given to work with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// registry-svc.
    pub registry: Channel,
    /// credential-svc.
    pub credential: Channel,
    /// Verifies the tokens of people.
    pub verifier: Arc<Verifier>,
    /// Counts what callers do.
    pub quotas: Arc<Quotas>,
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
    let links = Links::new(config.public_url.clone());
    let store = Store::new(config.staleness, deps.clock.clone());
    let (changed, changes) = mpsc::unbounded_channel();
    let feed = Feed::new(Arc::clone(&store), changed);

    let uses = Arc::new(TokenUses::default());
    let identity = Arc::new(Identity::new(
        Arc::clone(&deps.verifier),
        Arc::clone(&store),
        Arc::clone(&uses),
        AccessTokens::new(config.session_key.clone()),
        deps.clock.clone(),
    ));
    let vendor = Arc::new(Vendor::new(deps.credential.clone(), deps.clock.clone()));
    let upstreams = Upstreams::new(
        config.egress.clone(),
        limits(&config),
        config.http_path,
        deps.clock.clone(),
    );
    let (discovery, announced) = Discovery::new(
        Arc::clone(&store),
        Arc::new(Asker::new(Arc::clone(&vendor), upstreams.clone())),
        Reports::new(deps.registry.clone()),
        config.discovery_concurrency,
        config.discovery_timeout,
    );
    let tools_changed: ToolsChanged = {
        let discovery = Arc::clone(&discovery);
        Arc::new(move |installation| discovery.changed(installation))
    };
    // Ends what clients would hold open for longer than the service takes to stop; and then the calls that are still in progress.
    let (stopping, late) = (CancellationToken::new(), Late::default());
    let calls = Arc::new(Calls::new(
        Arc::clone(&store),
        vendor,
        upstreams.clone(),
        links.clone(),
        tools_changed,
        stopping.clone(),
        late.clone(),
    ));
    let listings: Arc<Listings> = Arc::default();
    let metadata = Arc::new(Metadata::new(&deps.verifier, links.clone(), Arc::clone(&store)));
    let mcp = Arc::new(Mcp::new(
        &config,
        Arc::clone(&calls),
        Arc::clone(&identity),
        Arc::clone(&metadata),
        Arc::clone(&store),
        Arc::clone(&listings),
        Arc::clone(&deps.quotas),
        deps.clock.clone(),
        stopping.clone(),
    ));
    let admission = Admission {
        identity: Arc::clone(&identity),
        quotas: Arc::clone(&deps.quotas),
    };
    let tools = Tools {
        store: Arc::clone(&store),
        listings,
        calls,
        discovery: Arc::clone(&discovery),
        links: links.clone(),
        pages: PageTokens::new(&config.page_token_key),
        access: Access::new(deps.registry.clone()),
        users: UserServiceClient::new(deps.registry.clone()),
    };
    let facade = Facade::new(
        FacadeConfig {
            links: links.clone(),
            documents: config.client_documents.clone(),
            key: config.session_key.clone(),
        },
        Arc::clone(&deps.verifier),
        Arc::clone(&store),
        Arc::clone(&deps.quotas),
        deps.clock.clone(),
    );
    let refreshes = facade.clone();
    let pages = pages::router(
        PagesConfig {
            public_url: config.public_url.clone(),
            allowed_hosts: config.allowed_hosts.clone(),
            cookie_key: config.session_key.clone(),
            grpc_port: config.grpc_port,
            probes: config.probes,
        },
        PagesDeps {
            registry: deps.registry.clone(),
            credential: deps.credential.clone(),
            facade: facade.clone(),
            verifier: Arc::clone(&deps.verifier),
            quotas: deps.quotas,
            clock: deps.clock.clone(),
        },
    );
    Ok(App {
        name: "gateway-svc",
        grpc: grpc(tools, admission, &deps.verifier),
        services: vec![tool_service_server::SERVICE_NAME],
        descriptors: contracts::gateway::FILE_DESCRIPTOR_SET,
        direct: Some(mcp::direct(Arc::clone(&mcp))),
        http: mcp::routes(mcp)
            .merge(metadata.routes())
            .merge(facade.map(Facade::routes).unwrap_or_default())
            .merge(pages),
        ready: store.readiness(),
        tasks: vec![
            watch_task(deps.registry.clone(), watcher(&config), feed),
            Task::new(
                "freshness",
                move |stop| async move { store.watch_freshness(stop).await },
            ),
            Task::new("discovery", move |stop| discovery.run(changes, announced, stop)),
            Task::new("refreshes", move |stop| async move {
                match refreshes {
                    Some(facade) => facade.complete(stop).await,
                    None => stop.cancelled().await,
                }
            })
            .completing(),
            Task::new("token uses", move |stop| uses.report(deps.registry, stop)),
            Task::new("stopping", move |stop| async move {
                stop.cancelled().await;
                stopping.cancel();
                tokio::spawn(async move {
                    sleep(config.drain).await;
                    late.come();
                });
                // Those that are cancelled, too: their servers are told.
                upstreams.idle().await;
            }),
        ],
    })
}

fn grpc(tools: Tools, admission: Admission, verifier: &Arc<Verifier>) -> axum::Router {
    let service = ToolServiceServer::new(tools).max_decoding_message_size(MAX_MESSAGE);
    let mut routes = Routes::builder();
    routes.add_service(service);
    let verifier = Arc::clone(verifier);
    routes
        .routes()
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::from_fn(move |request, next| {
            admission.clone().admit(request, next)
        }))
        .layer(middleware::from_fn(move |request, next| {
            service_kit::identity::authenticate(Arc::clone(&verifier), request, next)
        }))
}

fn watcher(config: &Config) -> Watcher {
    let random = || service_kit::random::uuid().to_string();
    Watcher {
        instance: config.instance.clone().unwrap_or_else(random),
        // It has no peers.
        address: String::new(),
    }
}

fn watch_task(registry: Channel, watcher: Watcher, mut feed: Feed) -> Task {
    Task::new("watch", move |stop| async move {
        watch::follow(registry, &watcher, &[], &mut feed, stop).await
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        connect: config.connect_timeout,
        initialize: config.discovery_timeout,
        headers: config.call_timeout,
        idle: config.call_timeout * 2,
        ..Limits::default()
    }
}
