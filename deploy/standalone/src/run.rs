//! Builds the four services, connects them, serves them, and stops them.

use std::{
    collections::BTreeMap,
    error::Error,
    io::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::ExposeSecret as _;
use service_kit::{
    App, Clock, Hosts, Quotas, Readiness, Workload,
    edge::{self, Gate, Limits},
    egress::{self, EgressPolicy},
    identity::Verifier,
    pipe::{PipeListener, pipe},
    serve, telemetry,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use url::Url;

use crate::{
    banner::Banner,
    cli::{self, Port, SandboxMode, Serve},
    config,
    data_dir::{DataDir, PAGE_TOKEN_KEY, SESSION_KEY},
    descriptors,
    dev_issuer::{self, DevIssuer, RouterConfig, SignInCode},
    grpc_tls::GrpcTls,
    health,
    http_server::{self, Site},
    nowhere, public_url, seed,
};

/// In the data folder: the first start has added what it adds; see [`seeded`].
const SEEDED: &str = "seeded";
/// In the data folder: the registry, where it is not on PostgreSQL.
const SQLITE: &str = "registry.db";
/// In the data folder: where the process listens.
const ADDRESSES: &str = "addresses.json";

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: Serve) -> Result<(), Box<dyn Error>> {
    telemetry::init(arguments.log_format.into(), "info,hyper=warn,h2=warn,tower=warn");
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve_all(arguments))
}

/// The services, and the listening end of every pipe to them.
struct Services {
    apps: [App; 4],
    pipes: [Vec<PipeListener>; 4],
    /// The gateway's own channel to the registry, for people's requests.
    registry: Channel,
}

async fn serve_all(arguments: Serve) -> Result<(), Box<dyn Error>> {
    // No other process of this user reads its memory, which has secrets.
    nix::sys::prctl::set_dumpable(false)?;
    let folder = DataDir::open(&arguments.data_dir)?;
    let _lock = folder.lock()?;
    let limits = limits(&arguments, descriptors::raise(arguments.max_connections));
    let grpc_tls = GrpcTls::configured(&arguments)?;
    let http = bind(arguments.http, "--http").await?;
    let grpc = bind(arguments.grpc, "--grpc").await?;
    let (http_address, grpc_address) = (http.local_addr()?, grpc.local_addr()?);
    let public_url = public_url::of(arguments.public_url.as_ref(), http_address)?;
    if public_url::is_in_the_clear(&public_url) {
        tracing::warn!(
            "--public-url {public_url}: tokens, secrets and session cookies cross the network in the clear; let a reverse proxy end TLS, and \
             give its https URL"
        );
    }
    for network in arguments
        .allow_upstream_cidr
        .iter()
        .filter(|net| egress::includes_public(net))
    {
        tracing::warn!(
            "--allow-upstream-cidr {network} includes public addresses: secrets may go there by plain http, for all on the way to read; name \
             private networks alone"
        );
    }
    let local_url = Url::parse(&format!("http://{http_address}"))?;

    let mut issuers = match &arguments.issuers {
        Some(path) => config::issuers(path)?,
        None => Vec::new(),
    };
    let development = match dev_issuer::refuse_public(http_address, grpc_address, &public_url) {
        Ok(()) => Some(Arc::new(DevIssuer::open(folder.path())?)),
        Err(refusal) if issuers.is_empty() => {
            return Err(format!(
                "{refusal}: configure an OIDC issuer of your own (--issuers FILE), or let --http, --grpc and --public-url name this machine alone"
            )
            .into());
        }
        Err(refusal) => {
            tracing::info!("the development issuer is off: {refusal}");
            None
        }
    };
    if development.is_some() {
        issuers.push(DevIssuer::issuer_config(&local_url));
    }
    let verifier = Arc::new(Verifier::new(issuers, Clock::System)?);

    let seeded = seeded(&arguments);
    if arguments.database_url.is_some() && folder.has(SQLITE) {
        tracing::warn!(
            "{SQLITE} in the data folder is not used: --database-url names another registry, and nothing is moved to it"
        );
    }
    let quotas = Quotas::new(arguments.caller_limits.allowance(&arguments.proxies));
    let services = build(&arguments, &folder, &public_url, http_address, &verifier, &quotas).await?;
    let Services { apps, pipes, registry } = services;
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();

    spawn(&mut running, "quotas", quotas.forget_idle(stop.clone()));
    let readiness: health::Services = apps.iter().map(|app| (app.name, app.ready.clone())).collect();
    // Not ready before what the first start adds is there: whoever waits for readiness finds the gateway `default`.
    let (set_up, setup) = watch::channel(Readiness::NotReady("the first start adds the demo".to_owned()));
    let mut router = health::router(readiness.iter().cloned().chain([("setup", setup)]).collect());
    let code = SignInCode::random();
    if let Some(development) = &development {
        router = router.merge(Arc::clone(development).router(RouterConfig {
            http_base_url: local_url.clone(),
            public_url: public_url.clone(),
            code: code.clone(),
            clock: Clock::System,
        }));
    }
    for app in &apps {
        router = router.merge(app.http.clone());
    }
    router = router.fallback(nowhere::answer);
    let (all, report_health) = serve::routes(&apps.iter().collect::<Vec<_>>());
    spawn(&mut running, "health", {
        let stop = stop.clone();
        async move {
            tokio::select! { () = report_health => {}, () = stop.cancelled() => {} }
        }
    });
    let site = Site {
        router,
        hosts: Arc::new(Hosts::new(public_url.clone(), &own_names(http_address))),
        https: public_url.scheme() == "https",
    };
    spawn(
        &mut running,
        "http",
        failing(
            http_server::serve(http, Gate::new(limits.clone()), site, stop.clone()),
            "HTTP",
        ),
    );
    let grpc_serves_tls = matches!(grpc_tls, GrpcTls::Ours(_));
    let all = grpc_tls.guard(all);
    let (strangers, stopped) = (edge::connections(grpc, Gate::new(limits)), stop.clone());
    spawn(
        &mut running,
        "grpc",
        failing(
            async move {
                match grpc_tls {
                    GrpcTls::Ours(tls) => serve::serve_tls(*tls, all, strangers, stopped).await,
                    GrpcTls::Loopback | GrpcTls::Proxies(_) => serve::serve(all, strangers, stopped).await,
                }
            },
            "gRPC",
        ),
    );
    for (app, listeners) in apps.into_iter().zip(pipes) {
        for listener in listeners {
            let routes = tonic::service::Routes::from(app.grpc.clone());
            spawn(
                &mut running,
                app.name,
                failing(serve::serve(routes, listener, stop.clone()), app.name),
            );
        }
        for task in app.tasks {
            spawn(&mut running, task.name, (task.run)(stop.clone()));
        }
    }

    let addresses = serde_json::json!({ "http": http_address.to_string(), "grpc": grpc_address.to_string() });
    folder.write(ADDRESSES, addresses.to_string().as_bytes())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let start = async {
        health::all_ready(&readiness).await;
        if let Some(development) = &development
            && !folder.has(&seeded)
        {
            let token = development.mint(
                "the first start",
                "setup@chandlery.localhost",
                &[],
                true,
                Duration::from_secs(60),
                SystemTime::now(),
            )?;
            seed::seed(registry, &token, dev_issuer::ISSUER)
                .await
                .map_err(|status| format!("the demo could not be added: {}", status.message()))?;
            folder.write(&seeded, b"").map_err(|error| error.to_string())?;
        }
        set_up.send_replace(Readiness::Ready);
        let data_dir = arguments.data_dir.to_string_lossy();
        let banner = Banner {
            public_url: &public_url,
            has_default_gateway: development.is_some() || folder.has(&seeded),
            grpc: grpc_address,
            grpc_serves_tls,
            sign_in_code: development.is_some().then_some(&code),
            data_dir: (data_dir != "./.chandlery").then_some(&data_dir),
            program: &cli::program(),
        };
        write!(std::io::stdout(), "{banner}").map_err(|error| error.to_string())
    };

    let ended: Result<(), Box<dyn Error>> = tokio::select! {
        Err(error) = start => Err(error.into()),
        ended = running.join_next() => Err(ended.map_or_else(|| "nothing runs".to_owned(), describe).into()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    stop.cancel();
    // Each part gives up its own work in time; whatever has not by then is cut off: nothing accepted depends on it.
    let drained = async { while running.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), drained).await;
    ended
}

/// What clients may have of each listener, where the process may have so many descriptors.
fn limits(arguments: &Serve, descriptors: u64) -> Limits {
    let wanted = usize::try_from(arguments.max_connections).unwrap_or(usize::MAX);
    let possible = descriptors::connections(descriptors);
    if possible < wanted {
        tracing::warn!(
            descriptors,
            connections = possible,
            "fewer connections than --max-connections says can be open: the process may have no more descriptors; raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    Limits {
        connections: wanted.min(possible),
        per_address: usize::try_from(arguments.max_connections_per_address).unwrap_or(usize::MAX),
        proxies: arguments.proxies.clone(),
        patience: Duration::from_secs(arguments.client_timeout),
        idle: Duration::from_secs(arguments.idle_timeout),
    }
}

/// The name of the mark that the registry has what the first start adds: one for each database.
fn seeded(arguments: &Serve) -> String {
    match &arguments.database_url {
        None => SEEDED.to_owned(),
        Some(url) => {
            // The password may change, and nothing of it is to be left in the folder.
            let mut url = Url::parse(url.expose_secret()).ok();
            if let Some(url) = &mut url {
                let _ = url.set_password(None);
            }
            let database = url.map(String::from).unwrap_or_default();
            format!("{SEEDED}-{}", hex::encode(Sha256::digest(database)))
        }
    }
}

async fn build(
    arguments: &Serve,
    folder: &DataDir,
    public_url: &Url,
    http_address: std::net::SocketAddr,
    verifier: &Arc<Verifier>,
    quotas: &Arc<Quotas>,
) -> Result<Services, Box<dyn Error>> {
    use Workload::{Credential, Gateway, Orchestrator};
    let (credential_to_registry, r1) = pipe(Credential);
    let (orchestrator_to_registry, r2) = pipe(Orchestrator);
    let (gateway_to_registry, r3) = pipe(Gateway);
    let (orchestrator_to_credential, c1) = pipe(Orchestrator);
    let (gateway_to_credential, c2) = pipe(Gateway);
    let egress = EgressPolicy::new(arguments.allow_upstream_cidr.clone());
    let page_token_key = folder.key(PAGE_TOKEN_KEY)?;
    let program = std::env::current_exe()?;
    // The same after a crash: to a registry on PostgreSQL these watchers are then those of before, and no write waits for the dead.
    let instance = Some(folder.instance()?);
    let public = arguments.issuers.is_some() || !http_address.ip().is_loopback() || !arguments.grpc.ip().is_loopback();

    let database = match &arguments.database_url {
        Some(url) => registry_svc::Database::Postgres(url.clone()),
        None => registry_svc::Database::Sqlite(folder.path().join(SQLITE)),
    };
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
            data_dir: folder.path().to_owned(),
            instance: instance.clone(),
        },
        credential_svc::Deps {
            registry: credential_to_registry,
            verifier: Arc::clone(verifier),
            quotas: Arc::clone(quotas),
            clock: Clock::System,
        },
    )
    .await?;
    let orchestrator = orchestrator_svc::build(
        orchestrator_svc::Config {
            data_dir: folder.path().join("runtimes"),
            hidden_dir: Some(folder.path().to_owned()),
            sandbox: sandbox(arguments, public),
            program: program.clone(),
            builtin_commands: BTreeMap::from([(
                seed::DEMO_COMMAND.to_owned(),
                vec![program.to_string_lossy().into_owned(), cli::DEMO_SERVER.to_owned()],
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
            call_timeout: Duration::from_secs(arguments.call_timeout),
            allowed_hosts: own_names(http_address),
            instance,
            ..gateway_svc::Config::new(public_url.clone(), folder.key(SESSION_KEY)?, page_token_key)
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

/// How local servers are held. `public`: others than this machine's users can reach us, or people sign in elsewhere.
fn sandbox(arguments: &Serve, public: bool) -> orchestrator_svc::Sandbox {
    use orchestrator_svc::SandboxMode as Mode;
    let mode = match arguments.sandbox {
        Some(SandboxMode::Required) => Mode::Required,
        Some(SandboxMode::BestEffort) => Mode::BestEffort,
        Some(SandboxMode::Off) => Mode::Off,
        None if public => Mode::Required,
        None => Mode::BestEffort,
    };
    let ports = arguments.server_connect.iter().map(|port| match port {
        Port::Any => None,
        Port::Number(number) => Some(*number),
    });
    orchestrator_svc::Sandbox {
        mode,
        read: arguments.server_read.clone(),
        write: arguments.server_write.clone(),
        connect: ports.collect(),
        ..orchestrator_svc::Sandbox::default()
    }
}

/// The names of the HTTP address itself, besides that of the public URL.
fn own_names(http_address: std::net::SocketAddr) -> Vec<String> {
    vec![http_address.to_string(), format!("localhost:{}", http_address.port())]
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} cannot be listened on: {error}; choose another with {flag}"))
}

/// Runs a part of the process; its name comes back when it ends.
fn spawn(running: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    running.spawn(async move {
        part.await;
        name
    });
}

/// Logs how a server failed.
async fn failing<E: std::fmt::Display>(server: impl Future<Output = Result<(), E>>, name: &'static str) {
    if let Err(error) = server.await {
        tracing::error!(error = %error, "{name} failed");
    }
}

fn describe(ended: Result<&'static str, tokio::task::JoinError>) -> String {
    match ended {
        Ok(name) => format!("{name} has ended though it should go on; the log says why"),
        Err(error) => format!("a part of the program failed: {error}"),
    }
}
