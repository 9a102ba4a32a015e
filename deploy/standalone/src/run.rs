//! Starts the four services in one process, and stops them.

use std::{
    error::Error,
    io::{self, Write as _},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use registry_svc::Claim;
use secrecy::ExposeSecret as _;
use service_kit::{
    App, Clock, Hosts, Quotas, Readiness,
    edge::{self, Gate, Limits},
    egress,
    identity::Verifier,
    pipe::PipeListener,
    serve, telemetry,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    banner::Banner,
    config::Config,
    data_dir::DataDir,
    descriptors,
    dev_issuer::{self, DevIssuer, RouterConfig, SignInCode},
    grpc_tls::GrpcTls,
    health,
    http_server::{self, Site},
    http_tls::HttpTls,
    issuers, not_found, own_code, public_url, seed,
    services::{self, SQLITE, Services, own_names},
};

/// Mark in the data folder: the first start has added the demo; see [`seeded`].
const SEEDED: &str = "seeded";
/// File in the data folder: the addresses on which the process listens.
const ADDRESSES: &str = "addresses.json";
/// After the calls in progress have had their time, how long the rest of the connections may take: callers are told that their calls were
/// interrupted.
const INTERRUPTION: Duration = Duration::from_secs(1);
/// How long everything but the registry may take to end after that. A local server is killed 7 s after it was told to end.
const END: Duration = Duration::from_secs(8);
/// How long the parts may take that complete what would be lost: an authorization server answers a request for a token within 22 s, and a token
/// that is not wanted is revoked within 5 s. This begins with the stop. MCP clients and browsers get what an identity provider answers them meanwhile.
const COMPLETION: Duration = Duration::from_secs(27);
/// How long the registry may take in the end.
const REGISTRY_END: Duration = Duration::from_secs(2);

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(config: Config) -> Result<(), Box<dyn Error>> {
    telemetry::init(config.log_format, "info,hyper=warn,h2=warn,tower=warn,rustify=off");
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve_all(config))
}

async fn serve_all(mut config: Config) -> Result<(), Box<dyn Error>> {
    // Other processes of this user must not read the memory, which contains secrets.
    nix::sys::prctl::set_dumpable(false)?;
    let folder = DataDir::open(&config.data_dir)?;
    let _lock = folder.lock()?;
    let limits = limits(config.limits.clone());
    let grpc_tls = GrpcTls::configured(config.grpc, std::mem::take(&mut config.grpc_tls))?;
    let http_tls = config.http_tls.take().map(HttpTls::configured).transpose()?;
    let http = bind(config.http, "--http").await?;
    let grpc = bind(config.grpc, "--grpc").await?;
    let (http_address, grpc_address) = (http.local_addr()?, grpc.local_addr()?);
    let public_url = public_url::of(config.public_url.as_ref(), http_address, http_tls.is_some())?;
    if public_url::is_unencrypted(&public_url) {
        tracing::warn!(
            "--public-url {public_url}: tokens, secrets and session cookies cross the network unencrypted; let a reverse proxy terminate TLS, and \
             give its https URL"
        );
    }
    for network in config
        .allow_upstream_cidr
        .iter()
        .filter(|net| egress::includes_public(net))
    {
        tracing::warn!(
            "--allow-upstream-cidr {network} includes public addresses: secrets may be sent there over plain http, which others can read; name \
             only private networks"
        );
    }
    // Where the services reach the development issuer.
    let local = match &http_tls {
        Some(_) => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?),
        None => None,
    };
    let local_address = local.as_ref().map_or(Ok(http_address), TcpListener::local_addr)?;
    let local_url = Url::parse(&format!("http://{local_address}"))?;

    let mut issuers = match &config.issuers {
        Some(path) => issuers::read(path)?,
        None => Vec::new(),
    };
    let development = match dev_issuer::refuse_public(http_address, grpc_address, &public_url) {
        Ok(()) => Some(Arc::new(DevIssuer::open(folder.path())?)),
        Err(refusal) if issuers.is_empty() => {
            return Err(format!(
                "{refusal}: configure an OIDC issuer of your own (--issuers FILE), or let --http, --grpc and --public-url name only this machine"
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

    let seeded = seeded(&config);
    if config.database_url.is_some() && folder.has(SQLITE) {
        tracing::warn!(
            "{SQLITE} in the data folder is not used: --database-url names another registry, and nothing is moved to it"
        );
    }
    let database = services::database(&config, &folder);
    // Two processes with data folders of their own would erase each other's credentials: neither has what the other reports.
    let mut claim = Claim::make(&database).await?;
    let quotas = Quotas::new(config.allowance.clone());
    let services = services::build(
        &config,
        &folder,
        database,
        &public_url,
        (http_address, grpc_address),
        &verifier,
        &quotas,
    )
    .await?;
    let Services { apps, pipes, registry } = services;
    // Calls in progress are carried out by the services that the gateway calls, which stop after it, and the registry last of all.
    let [stop, stop_callees, stop_registry] = std::array::from_fn(|_| CancellationToken::new());
    let [mut serving, mut running, mut completing, mut running_registry] = std::array::from_fn(|_| JoinSet::new());
    let drain = config.drain + INTERRUPTION;

    spawn(&mut running, "quotas", quotas.forget_idle(stop.clone()));
    let readiness: health::Services = apps.iter().map(|app| (app.name, app.ready.clone())).collect();
    // `/readyz` also waits until the first start has added the demo, so that a client that waits for it finds the
    // gateway `default`.
    let (set_up, setup) = watch::channel(Readiness::NotReady("the first start adds the demo".to_owned()));
    let mut router = health::router(readiness.iter().cloned().chain([("setup", setup)]).collect());
    let code = SignInCode::random(&mut service_kit::random::rng());
    if let Some(development) = &development {
        let routes = Arc::clone(development).router(RouterConfig {
            http_base_url: local_url.clone(),
            public_url: public_url.clone(),
            code: code.clone(),
            clock: Clock::System,
        });
        router = router.merge(routes.clone());
        if let Some(local) = local {
            let hosts = Arc::new(Hosts::new(local_url.clone(), &[]));
            let serving = dev_issuer::serve_locally(local, routes, hosts, stop.clone());
            spawn(
                &mut running,
                "development issuer",
                failing(serving, "the development issuer"),
            );
        }
    }
    for app in &apps {
        router = router.merge(app.http.clone());
    }
    router = router.fallback(not_found::answer);
    let direct = apps.iter().filter_map(|app| app.direct.clone()).collect();
    let (all, report_health) = serve::routes(&apps.iter().collect::<Vec<_>>());
    spawn(&mut running, "health", {
        let stop = stop.clone();
        async move {
            tokio::select! { () = report_health => {}, () = stop.cancelled() => {} }
        }
    });
    let site = Site {
        router,
        direct,
        hosts: Arc::new(Hosts::new(public_url.clone(), &own_names(http_address))),
        https: public_url.scheme() == "https",
        http_path: config.http_path,
    };
    // Both end with their last connections.
    let stopped = http_server::Stop {
        begun: stop.clone(),
        drain,
    };
    spawn(
        &mut serving,
        "http",
        failing(
            http_server::serve(
                http,
                Gate::new(limits.clone()),
                site,
                http_tls.as_ref().map(HttpTls::config),
                stopped,
            ),
            "HTTP",
        ),
    );
    if let Some(tls) = http_tls {
        spawn(&mut running, "certificate", tls.follow(stop.clone()));
    }
    let grpc_serves_tls = matches!(grpc_tls, GrpcTls::Ours(_));
    let all = grpc_tls.guard(all);
    let (clients, stopped) = (edge::connections(grpc, Gate::new(limits)), stop.clone());
    let tls = match grpc_tls {
        GrpcTls::Ours(tls) => Some(*tls),
        GrpcTls::Loopback | GrpcTls::Proxies(_) => None,
    };
    spawn(
        &mut serving,
        "grpc",
        failing(serve::serve_clients(tls, all, clients, stopped, drain), "gRPC"),
    );
    let [registry_app, callees @ .., gateway] = apps;
    let [pipes_to_registry, pipes @ .., pipes_to_gateway] = pipes;
    start_app(
        &mut running_registry,
        &mut completing,
        registry_app,
        pipes_to_registry,
        &stop_registry,
    );
    for (app, pipes) in callees.into_iter().zip(pipes) {
        start_app(&mut running, &mut completing, app, pipes, &stop_callees);
    }
    start_app(&mut running, &mut completing, gateway, pipes_to_gateway, &stop);

    let addresses = serde_json::json!({ "http": http_address.to_string(), "grpc": grpc_address.to_string() });
    folder.write(ADDRESSES, addresses.to_string().as_bytes())?;
    let mut signals = Signals::new()?;
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
                Clock::System.now(),
            )?;
            seed::seed(registry, &token, dev_issuer::ISSUER)
                .await
                .map_err(|status| format!("the demo could not be added: {}", status.message()))?;
            folder.write(&seeded, b"").map_err(|error| error.to_string())?;
        }
        set_up.send_replace(Readiness::Ready);
        let data_dir = config.data_dir.to_string_lossy();
        let banner = Banner {
            public_url: &public_url,
            has_default_gateway: development.is_some() || folder.has(&seeded),
            grpc: grpc_address,
            grpc_serves_tls,
            sign_in_code: development.is_some().then_some(&code),
            data_dir: (data_dir != "./.chandlery").then_some(&data_dir),
            program: &config.program,
        };
        write!(std::io::stdout(), "{banner}").map_err(|error| error.to_string())?;
        if let Err(error) = own_code::unmap() {
            tracing::debug!(error = %error, "the code that only the start uses stays in memory");
        }
        Ok::<_, String>(())
    };

    let ended: Result<(), Box<dyn Error>> = tokio::select! {
        Err(error) = start => Err(error.into()),
        lost = claim.keep() => Err(lost.into()),
        Some(ended) = serving.join_next() => Err(describe(ended).into()),
        Some(ended) = running.join_next() => Err(describe(ended).into()),
        Some(ended) = completing.join_next() => Err(describe(ended).into()),
        Some(ended) = running_registry.join_next() => Err(describe(ended).into()),
        () = signals.next() => Ok(()),
    };
    let stopped = async {
        let completed = Instant::now() + COMPLETION;
        if ended.is_ok() {
            tracing::info!(
                drain.seconds = config.drain.as_secs(),
                "stopping: tool calls in progress are waited for; a second signal ends it at once"
            );
        }
        stop.cancel();
        // If something has failed, such as the claim to the registry, the process must not go on for long.
        if ended.is_ok() {
            end(&mut serving, Instant::now() + drain).await;
        }
        stop_callees.cancel();
        let rest = Instant::now() + END;
        // A connection may be held open by what completes.
        let completed = completed.max(rest);
        tokio::join!(
            end(&mut running, rest),
            end(&mut serving, completed),
            end(&mut completing, completed)
        );
        // The orchestrator has told it that the servers have ended, and released its lease.
        stop_registry.cancel();
        end(&mut running_registry, Instant::now() + REGISTRY_END).await;
    };
    tokio::select! {
        () = stopped => ended,
        () = signals.next() => Err("a second signal has ended it: what was in progress may be lost".into()),
    }
}

/// The signals that tell the process to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Serves the pipes to a service, and runs its tasks.
fn start_app(
    parts: &mut JoinSet<&'static str>,
    completing: &mut JoinSet<&'static str>,
    app: App,
    pipes: Vec<PipeListener>,
    stop: &CancellationToken,
) {
    for pipe in pipes {
        let routes = tonic::service::Routes::from(app.grpc.clone());
        let serving = serve::serve_pipe(routes, pipe, stop.clone());
        spawn(parts, app.name, failing(serving, app.name));
    }
    for task in app.tasks {
        let parts = if task.completes { &mut *completing } else { &mut *parts };
        spawn(parts, task.name, (task.run)(stop.clone()));
    }
}

/// Waits until the parts have ended. Each ends its own work within its time limit. What has not ended in the end is
/// aborted: no accepted request depends on it.
async fn end(parts: &mut JoinSet<&'static str>, until: Instant) {
    let ended = async { while parts.join_next().await.is_some() {} };
    let _ = timeout_at(until, ended).await;
}

/// The limits of each listener, reduced to what the descriptor limit allows.
fn limits(mut limits: Limits) -> Limits {
    let descriptors = descriptors::raise(limits.connections);
    let possible = descriptors::connections(descriptors);
    if possible < limits.connections {
        tracing::warn!(
            descriptors,
            connections = possible,
            "--max-connections is lowered to {possible}: this process may open {descriptors} descriptors. For more connections, raise that \
             limit (ulimit -n, LimitNOFILE=)"
        );
        limits.connections = possible;
    }
    limits
}

/// The name of the mark for this database that says that the first start has added the demo.
fn seeded(config: &Config) -> String {
    match &config.database_url {
        None => SEEDED.to_owned(),
        Some(url) => {
            // Without the password, which may change and must not be stored in the folder.
            let mut url = Url::parse(url.expose_secret()).ok();
            if let Some(url) = &mut url {
                let _ = url.set_password(None);
            }
            let database = url.map(String::from).unwrap_or_default();
            format!("{SEEDED}-{}", hex::encode(Sha256::digest(database)))
        }
    }
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} cannot be bound: {error}; choose another with {flag}"))
}

/// Spawns a part of the process, which returns its name when it ends.
fn spawn(running: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    running.spawn(async move {
        part.await;
        name
    });
}

/// Logs the error of a server.
async fn failing<E: std::fmt::Display>(server: impl Future<Output = Result<(), E>>, name: &'static str) {
    if let Err(error) = server.await {
        tracing::error!(error = %error, "{name} failed");
    }
}

fn describe(ended: Result<&'static str, tokio::task::JoinError>) -> String {
    match ended {
        Ok(name) => format!("{name} ended unexpectedly; see the log"),
        Err(error) => format!("a part of the program failed: {error}"),
    }
}
