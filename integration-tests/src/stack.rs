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
    wait::{eventually, eventually_within},
};

/// The `chandlery` program: `CHANDLERY_BIN`, or the one that cargo builds, together with its bridge.
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
        cargo.current_dir(repository()).args([
            "build",
            "-p",
            "chandlery",
            "-p",
            "stdio-bridge",
            "--message-format=json",
        ]);
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

/// The addresses on which the program listens, as in `addresses.json`.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    http: String,
    grpc: String,
}

fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("there is a place for temporary files"))
}

/// The options with which to start the program.
#[derive(Clone, Debug, Default)]
pub struct StackBuilder {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    bare: bool,
    data: Option<Arc<TempDir>>,
    program: Option<PathBuf>,
}

impl StackBuilder {
    /// Adds a command-line option.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.extend([name.to_owned(), value.into()]);
        self
    }

    /// Accepts the tokens of the issuers in this text, which is YAML or JSON.
    ///
    /// # Panics
    /// If there is no place for the file.
    #[must_use]
    pub fn issuers(mut self, text: &str) -> Self {
        let folder = self.data.get_or_insert_with(folder);
        let file = folder.path().join("issuers.yaml");
        fs::write(&file, text).expect("the folder is ours");
        self.flag("--issuers", file.to_string_lossy())
    }

    /// Sets an environment variable.
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

    /// Starts the program at another path than [`binary`].
    #[must_use]
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// Uses the data of another stack.
    #[must_use]
    pub fn on_data_of(mut self, other: &Stack) -> Self {
        self.data = Some(Arc::clone(&other.data));
        self
    }

    /// Starts the program and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready within 30 seconds.
    pub async fn start(self) -> Stack {
        let data = self.data.clone().unwrap_or_else(folder);
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
        let mut command = Command::new(self.program.as_deref().unwrap_or_else(|| binary()));
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
        // Settings in the environment of the person who runs the tests must not change them.
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
            "CHANDLERY_DRAIN",
            "CHANDLERY_VAULT_ADDRESS",
        ] {
            command.env_remove(name);
        }
        command.env("RUST_LOG", "info,chandlery=debug");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the program, which must refuse these options or their data, and returns its output.
    ///
    /// # Panics
    /// If it starts.
    pub async fn start_refused(self) -> String {
        let data = self.data.clone().unwrap_or_else(folder);
        self.refused(&data).await
    }

    /// Starts the program, which must end with an error, and returns its output.
    async fn refused(&self, data: &TempDir) -> String {
        let mut second = Program::start(self.command(data));
        let lines = second.lines().clone();
        let status = eventually_within(Duration::from_secs(20), "the second process ends", || {
            let ended = second.ended();
            async move { ended }
        })
        .await;
        assert!(!status.success(), "a second process must fail");
        // Separate tasks read the output, slightly later than the process ends.
        eventually_within(Duration::from_secs(5), "it reports the reason", || {
            let said = lines.all();
            let has_reason = said.iter().any(|line| line.starts_with("chandlery: "));
            async move { has_reason.then(|| said.join("\n")) }
        })
        .await
    }

    /// Of its HTTP address.
    fn scheme(&self) -> &'static str {
        let tls = self.flags.iter().any(|flag| flag == "--tls-cert");
        if tls { "https" } else { "http" }
    }

    async fn launch(&self, data: &TempDir, lines: &Lines) -> (Program, Addresses) {
        let told = data.path().join("data/addresses.json");
        let _ = fs::remove_file(&told);
        let mut program = Program::start_into(self.command(data), lines.clone());
        let http = reqwest::Client::builder()
            .no_proxy()
            // Who has certified it is not asked here.
            .tls_danger_accept_invalid_certs(true)
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
                let ready = http
                    .get(format!("{}://{}/readyz", self.scheme(), addresses.http))
                    .send()
                    .await;
                if ready.is_ok_and(|answer| answer.status().is_success()) {
                    return (program, addresses);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The running program.
#[derive(Debug)]
pub struct Stack {
    builder: StackBuilder,
    data: Arc<TempDir>,
    program: Program,
    addresses: Addresses,
    lines: Lines,
}

impl Stack {
    /// Starts the program as `cargo run` does, with upstreams on this machine allowed.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Options for another start.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// The HTTP address, `host:port`.
    pub fn http(&self) -> &str {
        &self.addresses.http
    }

    /// The gRPC address, `host:port`.
    pub fn grpc(&self) -> &str {
        &self.addresses.grpc
    }

    /// A URL on its HTTP address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.builder.scheme(), self.addresses.http)
    }

    /// The MCP endpoint of a gateway.
    pub fn mcp_url(&self, gateway: &str) -> String {
        self.url(&format!("/mcp/{gateway}"))
    }

    /// The id of its process.
    pub fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// All lines it has logged, including those before a restart.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The sign-in code of the development issuer, from the banner.
    ///
    /// # Panics
    /// If the banner has none.
    pub fn sign_in_code(&self) -> String {
        let lines = self.lines.all();
        let line = lines.iter().find(|line| line.contains("with the code"));
        let code = line.and_then(|line| line.split_whitespace().last());
        code.expect("the banner names the code").to_owned()
    }

    /// A token of the development issuer, from the `token` command.
    ///
    /// # Panics
    /// If the command fails.
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

    /// A caller who is a member without groups.
    pub fn member(&self, name: &str) -> Caller {
        self.caller(Some(self.token(&email(name), &[], false)))
    }

    /// A caller who is a member with these groups.
    pub fn member_of(&self, name: &str, groups: &[&str]) -> Caller {
        self.caller(Some(self.token(&email(name), groups, false)))
    }

    /// A caller who is an admin.
    pub fn admin(&self) -> Caller {
        self.caller(Some(self.token("admin@example.com", &[], true)))
    }

    /// A caller with this token, or without one.
    pub fn caller(&self, token: Option<String>) -> Caller {
        Caller::new(self.grpc(), token)
    }

    /// An MCP client of a gateway, for revision 2025-11-25.
    ///
    /// # Panics
    /// If the gateway begins no session.
    pub async fn mcp(&self, gateway: &str, caller: &Caller) -> McpClient {
        self.mcp_with(gateway, caller, McpOptions::default())
            .await
            .expect("the gateway accepts this client")
    }

    /// An MCP client of a gateway, with options.
    pub async fn mcp_with(&self, gateway: &str, caller: &Caller, options: McpOptions) -> Result<McpClient, Refused> {
        McpClient::connect(&self.mcp_url(gateway), Some(caller.token()), options).await
    }

    /// Kills the program with SIGKILL. [`Stack::start_again`] restarts it.
    pub async fn kill(&mut self) {
        self.program.kill().await;
    }

    /// Sends SIGTERM, and waits until the program has ended.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        self.program.terminate().await
    }

    /// Waits until the program has ended by itself, or after a signal.
    pub async fn ends(&mut self) -> std::process::ExitStatus {
        let program = &mut self.program;
        eventually("it ends", || {
            let ended = program.ended();
            async move { ended }
        })
        .await
    }

    /// Starts the program on its data after it was killed or stopped. Its ports change.
    pub async fn start_again(&mut self) {
        let (program, addresses) = self.builder.launch(&self.data, &self.lines).await;
        self.program = program;
        self.addresses = addresses;
    }

    /// Starts a second process on the same data, which must fail, and returns its output.
    ///
    /// # Panics
    /// If it starts.
    pub async fn second_process(&self) -> String {
        self.builder.refused(&self.data).await
    }

    /// The same with a data folder of its own: the second process shares only what the options name, such as a database.
    ///
    /// # Panics
    /// If it starts.
    pub async fn second_process_elsewhere(&self) -> String {
        let data = tempfile::tempdir().expect("there is a place for temporary files");
        self.builder.refused(&data).await
    }
}

fn email(name: &str) -> String {
    if name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}@example.com")
    }
}
