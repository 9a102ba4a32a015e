//! The wiring.

use std::{path::PathBuf, sync::Arc};

use contracts::credential::{
    FILE_DESCRIPTOR_SET, credential_service_server::CredentialServiceServer, vend_service_server::VendServiceServer,
};
use registry_client::{
    access::Access,
    watch::{Watcher, follow},
};
use service_kit::{
    App, Clock, Quotas, Task, Workload,
    identity::{Admitted, Verifier, admit, authenticate},
    quota::charge,
};
use tonic::{service::Routes, transport::Channel};
use url::Url;
use uuid::Uuid;

use crate::{
    api::{People, Workloads},
    config::{Config, StoreConfig},
    domain::{
        authorization::servers::AuthorizationServers,
        credentials::{Credentials, complete},
        ports::Store,
        reconcile::reconcile,
        sweep::sweep,
    },
    health::{Health, watch_store},
    oauth::HttpServers,
    registry::{
        follow::{Follower, KINDS},
        report::Reporter,
    },
    store::{
        local::{LocalStore, OpenError, secrets_in},
        vault::{SettingsError, VaultStore},
    },
};

/// What the service gets from its environment.
#[derive(Clone, Debug)]
pub struct Deps {
    /// A channel of this workload to registry-svc.
    pub registry: Channel,
    /// Verifies people's tokens.
    pub verifier: Arc<Verifier>,
    /// Limits what one caller may do.
    pub quotas: Arc<Quotas>,
    /// The source of time.
    pub clock: Clock,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The secret store cannot be opened.
    #[error("the secret store cannot be opened: {0}")]
    Store(#[from] OpenError),
    /// The settings for Vault are wrong: a line for each fault.
    #[error("Vault cannot be used:\n{0}")]
    Vault(#[from] SettingsError),
    /// Secrets would be missing in Vault.
    #[error(
        "{} has secrets, and nothing moves them to Vault; start without vault-address to keep using them, or move credentials.db and credential.key away: then people must enter their secrets again",
        .0.join("credentials.db").display()
    )]
    NotMoved(PathBuf),
}

/// The secrets of one owner (bytes): an entry has at most 64 fields, and a secret 64 KiB.
const MAX_MESSAGE: usize = 5 << 20;

fn admitted(service: &str) -> Option<Admitted> {
    const WORKLOADS: [Workload; 2] = [Workload::Gateway, Workload::Orchestrator];
    match service {
        "chandlery.credential.v1.VendService" => Some(Admitted::Workloads(&WORKLOADS)),
        service => service.starts_with("chandlery.credential.").then_some(Admitted::People),
    }
}

/// Opens the store and wires the service.
pub async fn build(config: Config, deps: Deps) -> Result<App, BuildError> {
    let instance = config
        .instance
        .unwrap_or_else(|| service_kit::random::uuid().to_string());
    let servers = HttpServers::new(config.egress, deps.clock.clone());
    let public_url = config.public_url;
    match config.store {
        StoreConfig::Local { data_dir } => {
            let store = LocalStore::open(&data_dir).await?;
            // No other process has the folder: whoever has a lease in it is this one, or one that has ended.
            Ok(assemble(store, servers, public_url, Uuid::nil(), instance, deps))
        }
        StoreConfig::Vault(config) => {
            let former = config.former_data_dir.clone();
            let store = VaultStore::new(config)?;
            if let Some(folder) = former
                && secrets_in(&folder).await?
            {
                return Err(BuildError::NotMoved(folder));
            }
            let session = Task::new("vault session", store.keep_session());
            let holder = service_kit::random::uuid();
            let mut app = assemble(store, servers, public_url, holder, instance, deps);
            app.tasks.push(session);
            Ok(app)
        }
    }
}

/// Wires the service to any store.
fn assemble(
    store: impl Store,
    servers: impl AuthorizationServers,
    public_url: Option<Url>,
    holder: Uuid,
    instance: String,
    deps: Deps,
) -> App {
    let reporter = Reporter::new(deps.registry.clone());
    let credentials = Arc::new(Credentials::new(
        store, reporter, servers, public_url, holder, deps.clock,
    ));
    let (health, ready) = Health::new();

    let people = People::new(Arc::clone(&credentials), Access::new(deps.registry.clone()));
    let workloads = Workloads::new(Arc::clone(&credentials));
    let mut routes = Routes::builder();
    routes
        .add_service(CredentialServiceServer::new(people).max_decoding_message_size(MAX_MESSAGE))
        .add_service(VendServiceServer::new(workloads));
    let (verifier, quotas) = (deps.verifier, deps.quotas);
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

    let mut follower = Follower::new(Arc::clone(&credentials), health.clone());
    let registry = deps.registry;
    let watcher = Watcher {
        instance,
        address: String::new(),
    };
    let tasks = vec![
        Task::new("watch", move |stop| async move {
            follow(registry, &watcher, &KINDS, &mut follower, stop).await
        }),
        Task::new("reconcile", {
            let credentials = Arc::clone(&credentials);
            move |stop| reconcile(credentials, stop)
        }),
        Task::new("store", {
            let credentials = Arc::clone(&credentials);
            move |stop| watch_store(credentials, health, stop)
        }),
        Task::new("complete", {
            let credentials = Arc::clone(&credentials);
            move |stop| complete(credentials, stop)
        })
        .completing(),
        Task::new("sweep", move |stop| sweep(credentials, stop)),
    ];
    App {
        name: "credential-svc",
        grpc,
        services: vec![
            "chandlery.credential.v1.CredentialService",
            "chandlery.credential.v1.VendService",
        ],
        descriptors: FILE_DESCRIPTOR_SET,
        http: axum::Router::new(),
        direct: None,
        tasks,
        ready,
    }
}
