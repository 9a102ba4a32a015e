//! Builds the four services and connects them.

use std::{collections::BTreeMap, error::Error, net::SocketAddr, sync::Arc};

use credential_svc::{BuildError, Transit};
use orchestrator_svc::SandboxMode;
use registry_svc::Database;
use service_kit::{
    App, Clock, Quotas, Workload,
    egress::EgressPolicy,
    identity::Verifier,
    pipe::{PipeListener, pipe},
    roots::OwnRoots,
};
use tonic::transport::Channel;
use url::Url;

use crate::{
    config::{Config, Sandbox},
    data_dir::{DataDir, PAGE_TOKEN_KEY, SESSION_KEY},
    demo_server, health,
    keys::Keys,
    seed,
};

/// File in the data folder: the registry, unless it is on PostgreSQL.
pub(crate) const SQLITE: &str = "registry.db";

/// The services, and the listener of every pipe to them.
pub(crate) struct Services {
    /// The first is the registry, which the others call.
    pub(crate) apps: [App; 4],
    pub(crate) pipes: [Vec<PipeListener>; 4],
    /// The gateway's channel to the registry, which also carries people's requests.
    pub(crate) registry: Channel,
}

/// Where the registry keeps its data.
pub(crate) fn database(config: &Config, folder: &DataDir) -> Database {
    match &config.database_url {
        Some(url) => Database::Postgres(url.clone()),
        None => Database::Sqlite(folder.path().join(SQLITE)),
    }
}

/// Builds the four services and connects them with pipes.
pub(crate) async fn build(
    config: &Config,
    folder: &DataDir,
    database: Database,
    public_url: &Url,
    (http_address, grpc_address): (SocketAddr, SocketAddr),
    verifier: &Arc<Verifier>,
    quotas: &Arc<Quotas>,
) -> Result<Services, Box<dyn Error>> {
    use Workload::{Credential, Gateway, Orchestrator};
    let (credential_to_registry, r1) = pipe(Credential);
    let (orchestrator_to_registry, r2) = pipe(Orchestrator);
    let (gateway_to_registry, r3) = pipe(Gateway);
    let (orchestrator_to_credential, c1) = pipe(Orchestrator);
    let (gateway_to_credential, c2) = pipe(Gateway);
    let roots = OwnRoots::read(&config.upstream_ca).map_err(|error| format!("--upstream-ca {error}"))?;
    let egress = EgressPolicy::new(config.allow_upstream_cidr.clone()).trusting(roots);
    let transit = config.transit.clone();
    let transit = transit.map(|(vault, key)| Transit::new(vault, key)).transpose();
    let keys = Keys::of_server(folder, transit.map_err(BuildError::Vault)?);
    let (session_key, page_token_key) = (keys.open(SESSION_KEY).await?, keys.open(PAGE_TOKEN_KEY).await?);
    let program = std::env::current_exe()?;
    // The id stays the same after a crash. A registry on PostgreSQL then recognizes these watchers, and writes do not
    // wait for dead ones.
    let instance = Some(folder.instance()?);
    let public = config.issuers.is_some() || !http_address.ip().is_loopback() || !config.grpc.ip().is_loopback();

    let registry = registry_svc::build(
        registry_svc::Config {
            egress: egress.clone(),
            ..registry_svc::Config::new(database, &page_token_key)
        },
        registry_svc::Deps {
            verifier: Arc::clone(verifier),
            quotas: Arc::clone(quotas),
            clock: Clock::System,
        },
    )
    .await?;
    let credential = credential_svc::build(
        credential_svc::Config {
            store: config.store.clone(),
            instance: instance.clone(),
            public_url: Some(public_url.clone()),
            egress: egress.clone(),
        },
        credential_svc::Deps {
            registry: credential_to_registry,
            verifier: Arc::clone(verifier),
            quotas: Arc::clone(quotas),
            clock: Clock::System,
        },
    )
    .await?;
    let mut inherited_environment = orchestrator_svc::Config::default().inherited_environment;
    inherited_environment.extend(config.sandbox.environment.iter().cloned());
    let orchestrator = orchestrator_svc::build(
        orchestrator_svc::Config {
            data_dir: folder.path().join("runtimes"),
            hidden_dir: Some(folder.path().to_owned()),
            sandbox: sandbox(&config.sandbox, public),
            inherited_environment,
            program: program.clone(),
            bridge: Some(program.with_file_name(stdio_bridge::NAME)),
            builtin_commands: BTreeMap::from([(
                seed::DEMO_COMMAND.to_owned(),
                vec![program.to_string_lossy().into_owned(), demo_server::COMMAND.to_owned()],
            )]),
            instance: instance.clone(),
            ..orchestrator_svc::Config::default()
        },
        orchestrator_svc::Deps {
            registry: orchestrator_to_registry,
            credential: orchestrator_to_credential,
            verifier: Arc::clone(verifier),
            quotas: Arc::clone(quotas),
            clock: Clock::System,
        },
    )
    .await?;
    let gateway = gateway_svc::build(
        gateway_svc::Config {
            egress,
            client_documents: EgressPolicy::new(config.allow_client_document_cidr.clone()),
            call_timeout: config.call_timeout,
            drain: config.drain,
            http_path: config.http_path,
            allowed_hosts: own_names(http_address),
            grpc_port: Some(grpc_address.port()),
            probes: &health::PATHS,
            instance,
            ..gateway_svc::Config::new(public_url.clone(), session_key, page_token_key)
        },
        gateway_svc::Deps {
            registry: gateway_to_registry.clone(),
            credential: gateway_to_credential,
            verifier: Arc::clone(verifier),
            quotas: Arc::clone(quotas),
            clock: Clock::System,
        },
    )
    .await?;
    Ok(Services {
        apps: [registry, credential, orchestrator, gateway],
        pipes: [vec![r1, r2, r3], vec![c1, c2], vec![], vec![]],
        registry: gateway_to_registry,
    })
}

/// The sandbox of local servers. `public`: other machines can reach the process, or people sign in with other issuers.
fn sandbox(config: &Sandbox, public: bool) -> orchestrator_svc::Sandbox {
    let fitting = if public {
        SandboxMode::Required
    } else {
        SandboxMode::BestEffort
    };
    orchestrator_svc::Sandbox {
        mode: config.mode.unwrap_or(fitting),
        read: config.read.clone(),
        write: config.write.clone(),
        connect: config.connect.clone(),
        ..orchestrator_svc::Sandbox::default()
    }
}

/// The host names of the HTTP address, in addition to that of the public URL.
pub(crate) fn own_names(http_address: SocketAddr) -> Vec<String> {
    vec![http_address.to_string(), format!("localhost:{}", http_address.port())]
}
