//! Starts parts in child processes, so that their memory can be measured separately. A child is this program again; it
//! prints its address and serves until its parent is gone.
//!
//! A service identifies workloads by connection. Between processes, each workload therefore has its own port on
//! 127.0.0.1: whoever connects to it is that workload.

use std::{
    convert::Infallible,
    env,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::parent_id,
    sync::Arc,
    time::Duration,
};

use integration_tests::{Result, Stack, process::Program, wait::eventually_within};
use registry_svc::Database;
use secrecy::ExposeSecret as _;
use serde_json::json;
use service_kit::{
    Clock, Workload,
    identity::Verifier,
    pipe,
    serve::serve,
    testing::{AUDIENCE, install_tls_provider},
};
use tokio::{net::TcpListener, process::Command};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Status,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::ServiceExt as _;

use crate::{
    report::memory,
    stack::{Gateway, Registry},
};

/// The variables that are passed to a child: its part, the issuer, the database, and the registry's address.
const PART: &str = "CHANDLERY_BENCH_PART";
const ISSUER: &str = "CHANDLERY_BENCH_ISSUER";
const DATABASE: &str = "CHANDLERY_BENCH_DATABASE";
const REGISTRY: &str = "CHANDLERY_BENCH_REGISTRY";

/// The timeout of a child's start.
const START: Duration = Duration::from_secs(150);

/// A child process that serves.
pub(crate) struct Child {
    program: Program,
    /// The address on which it listens.
    pub(crate) address: String,
    /// Its memory before its service was built, in MB.
    pub(crate) before: f64,
    /// The time until it was ready, in seconds.
    pub(crate) start: f64,
}

impl Child {
    /// Starts a registry on this database. Whoever connects to its address is a gateway.
    pub(crate) async fn registry(database: &Database, issuer: &str) -> Self {
        let url = match database {
            Database::Sqlite(path) => path.to_string_lossy().into_owned(),
            Database::Postgres(url) => url.expose_secret().to_owned(),
        };
        Self::start("registry", issuer, (DATABASE, &url)).await
    }

    /// Starts a gateway that connects to this address of a registry.
    pub(crate) async fn gateway(registry: SocketAddr, issuer: &str) -> Self {
        Self::start("gateway", issuer, (REGISTRY, &registry.to_string())).await
    }

    async fn start(part: &str, issuer: &str, (variable, value): (&str, &str)) -> Self {
        let mut command = again();
        command.env(PART, part).env(ISSUER, issuer).env(variable, value);
        let program = Program::start(command);
        let lines = program.lines().clone();
        let told = eventually_within(START, "the child serves", || async {
            let all = lines.all();
            let line = all.iter().find_map(|line| line.strip_prefix("serves "))?;
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .await;
        Self {
            program,
            address: told.0,
            before: told.1,
            start: told.2,
        }
    }

    /// A line of its `/proc/PID/status`, in MB.
    pub(crate) fn memory(&self, line: &str) -> f64 {
        memory(u32::try_from(self.program.pid()).unwrap_or_default(), line)
    }
}

/// A command that starts this program again.
pub(crate) fn again() -> Command {
    Command::new(env::current_exe().expect("this program has a path"))
}

/// Runs the part for which this process was started, if it is a child.
pub(crate) async fn play() -> Option<Result<()>> {
    let part = env::var(PART).ok()?;
    Some(match part.as_str() {
        "registry" => be_registry().await,
        "gateway" => be_gateway().await,
        _ => be_program().await,
    })
}

async fn be_registry() -> Result<()> {
    let before = memory(std::process::id(), "VmRSS");
    let database = env::var(DATABASE)?;
    let database = if database.starts_with("postgres") {
        Database::Postgres(database.into())
    } else {
        Database::Sqlite(database.into())
    };
    let registry = Registry::start(&database, verifier()?).await?;
    let granted = Granted::to(registry.pipe(Workload::Gateway)).await?;
    tell(&format!("serves {} {before} 0", granted.address)).await
}

async fn be_gateway() -> Result<()> {
    let registry = Endpoint::from_shared(format!("http://{}", env::var(REGISTRY)?))?.connect_lazy();
    let verifier = verifier()?;
    let before = memory(std::process::id(), "VmRSS");
    let gateway = Gateway::start(registry, verifier).await?;
    tell(&format!(
        "serves {} {before} {}",
        gateway.address(),
        gateway.start.as_secs_f64()
    ))
    .await
}

/// Prints a line, and returns when the parent is gone.
async fn tell(line: &str) -> Result<()> {
    let parent = parent_id();
    writeln!(std::io::stdout(), "{line}")?;
    while parent_id() == parent {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn verifier() -> Result<Arc<Verifier>> {
    install_tls_provider();
    let issuer = serde_json::from_value(json!({ "issuer": env::var(ISSUER)?, "audiences": [AUDIENCE] }))?;
    Ok(Arc::new(Verifier::new(vec![issuer], Clock::System)?))
}

/// Starts the program with its demo, and prints the seconds until it was ready and its memory in MB.
async fn be_program() -> Result<()> {
    let begin = std::time::Instant::now();
    let stack = Stack::builder().variable("RUST_LOG", "info").start().await;
    let start = begin.elapsed().as_secs_f64();
    // The program is idle only after the demo is running and its tools are discovered.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resident = memory(u32::try_from(stack.pid())?, "VmRSS");
    writeln!(std::io::stdout(), "started {start} {resident}")?;
    Ok(())
}

/// Start time (s) and memory (MB) of a separate `chandlery` process.
pub(crate) async fn program(binary: &std::path::Path) -> Result<(f64, f64)> {
    let output = again()
        .env(PART, "program")
        .env("CHANDLERY_BIN", binary)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("started "));
    let told = line.and_then(|line| line.split_once(' '));
    let (start, resident) = told.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((start.parse()?, resident.parse()?))
}

/// A port on which whoever connects is the workload of a channel.
pub(crate) struct Granted {
    pub(crate) address: SocketAddr,
    _serving: DropGuard,
}

impl Granted {
    pub(crate) async fn to(channel: Channel) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let forward = tower::service_fn(move |request: http::Request<axum::body::Body>| {
            let channel = channel.clone();
            async move {
                let answer = channel.oneshot(request.map(tonic::body::Body::new)).await;
                Ok::<_, Infallible>(match answer {
                    Ok(answer) => answer.map(axum::body::Body::new),
                    Err(error) => Status::unavailable(error.to_string())
                        .into_http::<tonic::body::Body>()
                        .map(axum::body::Body::new),
                })
            }
        });
        let routes = Routes::from(axum::Router::new().fallback_service(forward));
        let stop = CancellationToken::new();
        tokio::spawn(serve(routes, pipe::tcp(listener), stop.clone()));
        Ok(Self {
            address,
            _serving: stop.drop_guard(),
        })
    }
}
