//! The real program, started on free ports with data in a temporary folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    caller::Caller,
    mcp::{McpClient, McpOptions, Refused},
    process::{Lines, Program},
    tls::install_crypto,
    tools::repository,
    wait::eventually_within,
};

/// The `chandlery` program: `CHANDLERY_BIN`, or what cargo builds.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        install_crypto();
        if let Some(path) = env::var_os("CHANDLERY_BIN") {
            return PathBuf::from(path);
        }
        let mut cargo = StdCommand::new(env!("CARGO"));
        cargo
            .current_dir(repository())
            .args(["build", "-p", "chandlery", "--message-format=json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs this test, so it is there");
        assert!(output.status.success(), "chandlery cannot be built");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "chandlery")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo names the executable it built")
    })
}

/// The addresses that the program bound, as it writes them to `addresses.json`.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    http: String,
    grpc: String,
}

/// How a stack is to be started.
#[derive(Clone, Debug, Default)]
pub struct StackBuilder {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    bare: bool,
    data: Option<Arc<TempDir>>,
}

impl StackBuilder {
    /// A flag with its value more.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.extend([name.to_owned(), value.into()]);
        self
    }

    /// An environment variable more.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Does not allow upstreams on 127.0.0.0/8.
    #[must_use]
    pub fn without_loopback_upstreams(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Starts on the data of another stack.
    #[must_use]
    pub fn on_data_of(mut self, other: &Stack) -> Self {
        self.data = Some(Arc::clone(&other.data));
        self
    }

    /// Starts it and waits until it can serve.
    ///
    /// # Panics
    /// If it ends, or is not ready within 30 seconds.
    pub async fn start(self) -> Stack {
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| Arc::new(tempfile::tempdir().expect("there is a place for temporary files")));
        let lines = Lines::default();
        let (program, addresses) = self.launch(&data, &lines).await;
        Stack {
            builder: self,
            data,
            program,
            addresses,
            lines,
        }
    }

    fn command(&self, data: &TempDir) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(data.path());
        command.arg("--data-dir").arg(data.path().join("data"));
        for name in ["--http", "--grpc"] {
            if !self.flags.iter().any(|flag| flag == name) {
                command.args([name, "127.0.0.1:0"]);
            }
        }
        if !self.bare {
            command.args(["--allow-upstream-cidr", "127.0.0.0/8"]);
        }
        command.args(&self.flags);
        // What the person who runs the tests has set does not change them.
        for name in [
            "CHANDLERY_DATA_DIR",
            "CHANDLERY_HTTP",
            "CHANDLERY_GRPC",
            "CHANDLERY_PUBLIC_URL",
            "CHANDLERY_DATABASE_URL",
            "CHANDLERY_MAX_CONNECTIONS",
            "CHANDLERY_MAX_CONNECTIONS_PER_ADDRESS",
            "CHANDLERY_PROXIES",
            "CHANDLERY_CLIENT_TIMEOUT",
            "CHANDLERY_IDLE_TIMEOUT",
        ] {
            command.env_remove(name);
        }
        command.env("RUST_LOG", "info,chandlery=debug");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    async fn launch(&self, data: &TempDir, lines: &Lines) -> (Program, Addresses) {
        let told = data.path().join("data/addresses.json");
        let _ = fs::remove_file(&told);
        let mut program = Program::start_into(self.command(data), lines.clone());
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client without TLS settings");
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = program.ended() {
                panic!("chandlery ended when it should have started: {status}");
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "chandlery is not ready after 30 s"
            );
            let addresses = fs::read(&told)
                .ok()
                .and_then(|text| serde_json::from_slice::<Addresses>(&text).ok());
            if let Some(addresses) = addresses {
                let ready = http.get(format!("http://{}/readyz", addresses.http)).send().await;
                if ready.is_ok_and(|answer| answer.status().is_success()) {
                    return (program, addresses);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The whole product, running.
#[derive(Debug)]
pub struct Stack {
    builder: StackBuilder,
    data: Arc<TempDir>,
    program: Program,
    addresses: Addresses,
    lines: Lines,
}

impl Stack {
    /// Starts it as `cargo run` does, with upstreams on this machine allowed.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts it otherwise.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// `host:port` of HTTP.
    pub fn http(&self) -> &str {
        &self.addresses.http
    }

    /// `host:port` of gRPC.
    pub fn grpc(&self) -> &str {
        &self.addresses.grpc
    }

    /// A URL of its HTTP port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    /// The MCP endpoint of a gateway.
    pub fn mcp_url(&self, gateway: &str) -> String {
        self.url(&format!("/mcp/{gateway}"))
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// Every line it logged, also before a restart.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// A token of the development issuer, made as a person makes it.
    ///
    /// # Panics
    /// If the program makes none.
    pub fn token(&self, user: &str, groups: &[&str], admin: bool) -> String {
        let mut command = StdCommand::new(binary());
        command
            .current_dir(self.data.path())
            .arg("token")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--user", user]);
        for group in groups {
            command.args(["--group", group]);
        }
        if admin {
            command.arg("--admin");
        }
        let output = command.stdin(Stdio::null()).output().expect("the program runs");
        assert!(
            output.status.success(),
            "chandlery token: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let token = String::from_utf8(output.stdout)
            .expect("a token is ASCII")
            .trim()
            .to_owned();
        assert_eq!(
            token.split('.').count(),
            3,
            "a token and nothing else on standard output: {token:?}"
        );
        token
    }

    /// A member without groups.
    pub fn member(&self, name: &str) -> Caller {
        self.caller(Some(self.token(&email(name), &[], false)))
    }

    /// A member with groups.
    pub fn member_of(&self, name: &str, groups: &[&str]) -> Caller {
        self.caller(Some(self.token(&email(name), groups, false)))
    }

    /// An admin.
    pub fn admin(&self) -> Caller {
        self.caller(Some(self.token("admin@example.com", &[], true)))
    }

    /// Somebody with this token, or with none.
    pub fn caller(&self, token: Option<String>) -> Caller {
        Caller::new(self.grpc(), token)
    }

    /// An MCP client of a gateway, of revision 2025-11-25.
    ///
    /// # Panics
    /// If the gateway refuses it.
    pub async fn mcp(&self, gateway: &str, caller: &Caller) -> McpClient {
        self.mcp_with(gateway, caller, McpOptions::default())
            .await
            .expect("the gateway takes this client")
    }

    /// An MCP client of a gateway.
    pub async fn mcp_with(&self, gateway: &str, caller: &Caller, options: McpOptions) -> Result<McpClient, Refused> {
        McpClient::connect(&self.mcp_url(gateway), Some(caller.token()), options).await
    }

    /// Kills it with SIGKILL; [`Stack::start_again`] brings it back.
    pub async fn kill(&mut self) {
        self.program.kill().await;
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        self.program.terminate().await
    }

    /// Starts it on its data, after it was killed or stopped. Ports change.
    pub async fn start_again(&mut self) {
        let (program, addresses) = self.builder.launch(&self.data, &self.lines).await;
        self.program = program;
        self.addresses = addresses;
    }

    /// Runs the program on the same data, which must refuse it, and gives what it says.
    ///
    /// # Panics
    /// If it runs.
    pub async fn second_process(&self) -> String {
        let mut second = Program::start(self.builder.command(&self.data));
        let lines = second.lines().clone();
        let status = eventually_within(Duration::from_secs(20), "the second process ends", || {
            let ended = second.ended();
            async move { ended }
        })
        .await;
        assert!(!status.success(), "a second process on the same data must fail");
        // The outputs are read by tasks of their own, a moment behind the process.
        eventually_within(Duration::from_secs(5), "it says why", || {
            let text = lines.all().join("\n");
            async move { (!text.is_empty()).then_some(text) }
        })
        .await
    }
}

fn email(name: &str) -> String {
    if name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}@example.com")
    }
}
