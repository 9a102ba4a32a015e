//! orchestrator-svc as it is deployed, with real processes and fakes of the services it calls.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses its part of it")]

pub mod fakes;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contracts::{
    orchestrator::{GetRuntimeRequest, Runtime as RuntimeMessage, runtime_service_client::RuntimeServiceClient},
    registry::{
        Condition, ConditionStatus, ConditionType, EntryRevision, EnvironmentVariableTarget, InstallField,
        InstallFieldType, Installation, NoCredential, RemoteServer, Runtime, RuntimeState, SelfHostedServer,
        StdioTransport,
        entry_revision::{CredentialModel, Server},
        install_field::Target,
        self_hosted_server,
    },
};
use fakes::Fakes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use orchestrator_svc::{Backoff, Config, Deps, Limits};
use serde_json::{Value, json};
use service_kit::{
    Clock, Readiness, Workload,
    pipe::{pipe, tcp},
    serve::serve,
    testing::TestIssuer,
};
use tokio::{net::UnixStream, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    service::Routes,
    transport::{Channel, Endpoint},
};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stack {
    pub fakes: Fakes,
    pub issuer: TestIssuer,
    pub people: RuntimeServiceClient<Channel>,
    pub folder: PathBuf,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _running: JoinSet<()>,
}

impl Stack {
    /// Starts one that holds the lease.
    pub async fn start(folder: &Path, fakes: &Fakes) -> Self {
        Self::start_until(folder, fakes, |ready| *ready == Readiness::Ready).await
    }

    /// Starts one that is on standby, since another orchestrator holds the lease.
    pub async fn start_waiting(folder: &Path, fakes: &Fakes) -> Self {
        Self::start_until(
            folder,
            fakes,
            |ready| matches!(ready, Readiness::Degraded(text) if text.contains("standby")),
        )
        .await
    }

    async fn start_until(folder: &Path, fakes: &Fakes, is_ready: fn(&Readiness) -> bool) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let stop = CancellationToken::new();
        let (mut running, mut tasks) = (JoinSet::new(), JoinSet::new());
        let mut channel = || {
            let (channel, listener) = pipe(Workload::Orchestrator);
            let routes = fakes.routes().prepare();
            running.spawn(async move { drop(serve(routes, listener, CancellationToken::new()).await) });
            channel
        };
        let config = Config {
            data_dir: folder.to_owned(),
            program: env!("CARGO_BIN_EXE_bridge-for-tests").into(),
            limits: Limits {
                ready_millis: 20_000,
                grace_millis: 500,
                ..Limits::default()
            },
            backoff: Backoff {
                first: Duration::from_millis(20),
                longest: Duration::from_millis(100),
                stable: Duration::from_secs(60),
            },
            builtin_commands: [("builtin".to_owned(), vec!["python3".to_owned(), server()])].into(),
            ..Config::default()
        };
        let deps = Deps {
            registry: channel(),
            credential: channel(),
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        };
        let app = orchestrator_svc::build(config, deps).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::from(app.grpc.clone());
        running.spawn(async move { drop(serve(routes, tcp(listener), CancellationToken::new()).await) });
        for task in app.tasks {
            tasks.spawn((task.run)(stop.clone()));
        }
        let mut ready = app.ready.clone();
        ready.wait_for(is_ready).await.unwrap();
        let people = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            fakes: fakes.clone(),
            issuer,
            people: RuntimeServiceClient::new(people),
            folder: folder.canonicalize().unwrap(),
            stop,
            tasks,
            _running: running,
        }
    }

    /// A request of a person; `admin` is one.
    pub fn of<T>(&self, subject: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.issuer.token(subject, &[], subject == "admin"));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }

    /// Stops the service and waits until it has.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits until the registry shows this reason.
    pub async fn reason(&self, uid: &str, reason: &str) -> Runtime {
        eventually(|| self.fakes.runtime(uid).is_some_and(|r| r.reason == reason)).await;
        self.fakes.runtime(uid).unwrap()
    }

    /// Waits until the server runs and its endpoint is reported by this service, not by an earlier one.
    pub async fn running(&self, uid: &str) -> String {
        let here = |runtime: &Runtime| {
            let socket = runtime.endpoint.strip_prefix("unix:");
            runtime.state() == RuntimeState::Running && socket.is_some_and(|socket| Path::new(socket).exists())
        };
        eventually(|| self.fakes.runtime(uid).as_ref().is_some_and(here)).await;
        self.fakes.runtime(uid).unwrap().endpoint
    }

    /// Waits until the status of the installation's current generation is reported.
    pub async fn observed(&self, uid: &str) -> Runtime {
        let runtime = || self.fakes.runtime(uid).unwrap_or_default();
        eventually(|| runtime().observed_generation == self.fakes.generation(uid)).await;
        runtime()
    }

    /// Waits until the server runs with another endpoint.
    pub async fn moved(&self, uid: &str, from: &str) -> String {
        let endpoint = || self.fakes.runtime(uid).unwrap().endpoint;
        eventually(|| !endpoint().is_empty() && endpoint() != from).await;
        endpoint()
    }

    /// Waits for the outcome of the restarts so far.
    pub async fn restarted(&self, name: &str) -> RuntimeMessage {
        let start = Instant::now();
        loop {
            let get = GetRuntimeRequest { name: name.to_owned() };
            let runtime = self.people.clone().get_runtime(self.of("alice", get)).await.unwrap();
            let runtime = runtime.into_inner();
            if runtime.observed_restart_id == runtime.restart_id {
                return runtime;
            }
            assert!(start.elapsed() < PATIENCE, "the restart has no outcome: {runtime:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Processes of servers of this stack.
    pub fn processes(&self) -> Vec<i32> {
        let wanted = format!("CHANDLERY_RUNTIME={}:", self.folder.display());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|v| v.starts_with(wanted.as_bytes()))
        })
        .collect()
    }
}

pub fn server() -> String {
    format!("{}/tests/programs/server.py", env!("CARGO_MANIFEST_DIR"))
}

/// An entry revision with this command, and an installation of it, as watchers get them.
pub fn installation(
    uid: &str,
    command: &str,
    arguments: &[&str],
    fields: Vec<InstallField>,
) -> (EntryRevision, Installation) {
    let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
    let server = SelfHostedServer {
        command: command.to_owned(),
        arguments,
        transport: Some(self_hosted_server::Transport::Stdio(StdioTransport::default())),
        ..SelfHostedServer::default()
    };
    of(uid, Server::SelfHosted(server), fields)
}

/// An entry revision with a remote server, and an installation of it.
pub fn remote(uid: &str) -> (EntryRevision, Installation) {
    let url = "https://example.com".to_owned();
    of(
        uid,
        Server::Remote(RemoteServer {
            url,
            ..RemoteServer::default()
        }),
        Vec::new(),
    )
}

fn of(uid: &str, server: Server, install_fields: Vec<InstallField>) -> (EntryRevision, Installation) {
    let entry_uid = format!("e-{uid}");
    let revision = EntryRevision {
        entry_uid: entry_uid.clone(),
        number: 1,
        server: Some(server),
        credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
        install_fields,
        ..EntryRevision::default()
    };
    let installation = Installation {
        name: format!("installations/{uid}"),
        uid: uid.to_owned(),
        entry: format!("entries/{entry_uid}"),
        entry_uid,
        running_entry_revision: 1,
        generation: 1,
        ..Installation::default()
    };
    (revision, installation)
}

pub fn variable(key: &str, kind: InstallFieldType, name: &str) -> InstallField {
    let target = Target::EnvironmentVariable(EnvironmentVariableTarget { name: name.to_owned() });
    InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        target: Some(target),
        ..InstallField::default()
    }
}

pub fn ready(conditions: &mut Vec<Condition>, status: ConditionStatus, observed_generation: i64) {
    conditions.retain(|c| c.r#type() != ConditionType::CredentialReady);
    conditions.push(Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: status.into(),
        observed_generation,
        ..Condition::default()
    });
}

pub fn credential(installation: &mut Installation, status: ConditionStatus, generation: i64) {
    installation.credential_generation = generation;
    installation.generation += 1;
    ready(&mut installation.conditions, status, installation.generation);
}

/// Calls the server behind an endpoint.
pub async fn call(endpoint: &str) -> Value {
    call_with(endpoint, json!({"name": "x"})).await
}

/// Makes the server write to a file; returns the error, or an empty text.
pub async fn write(endpoint: &str, file: &Path) -> String {
    try_file(endpoint, "write", file, "written").await
}

/// Makes the server read a file; returns the content, or an empty text if it cannot.
pub async fn read(endpoint: &str, file: &Path) -> String {
    try_file(endpoint, "read", file, "read").await
}

/// Calls the server's tool with a file, and returns the text with this name in its answer.
async fn try_file(endpoint: &str, what: &str, file: &Path, outcome: &str) -> String {
    let params = json!({"name": "x", "arguments": {what: file}});
    call_with(endpoint, params).await[outcome]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Calls the server behind an endpoint with these parameters.
pub async fn call_with(endpoint: &str, params: Value) -> Value {
    let stream = UnixStream::connect(endpoint.strip_prefix("unix:").unwrap())
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&body).unwrap()["result"].clone()
}

pub async fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
