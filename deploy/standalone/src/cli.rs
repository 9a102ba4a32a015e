//! The command line.

use std::{
    fmt,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use secrecy::SecretString;
use service_kit::{edge::Limits, telemetry::LogFormat};
use url::Url;

use crate::{caller_limits::CallerLimits, demo_server, rotate_keys, run, token, values};

/// First argument of the program when it is to be a stdio bridge.
pub(crate) const BRIDGE: &str = "stdio-bridge";
/// First argument of the program when it is to be the demo MCP server.
pub(crate) const DEMO_SERVER: &str = "demo-server";

/// A private MCP registry: the catalog of approved MCP servers, their installations, credentials and runtime, and the
/// gateway through which agents call their tools.
///
/// Without a command it serves all of it from one process; nothing needs to be set up. On the first start it adds a demo
/// MCP server and prints how to call it.
#[derive(Debug, Parser)]
#[command(name = "chandlery", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a token of the development issuer, and nothing else, on standard output. `dev-issuer.log` in the data folder keeps who made
    /// it, for whom and until when.
    ///
    /// The server need not run, but must have been started once: then its data folder has the key that signs tokens. Example:
    /// TOKEN=$(chandlery token --user alice@example.com --admin)
    Token(Token),
    /// Makes new keys in place of those in the data folder, while the server is stopped.
    ///
    /// Stored secrets are sealed anew with the new key, and the old one is removed. What was sealed or signed with the other keys
    /// (sessions, sign-ins, tokens of the development issuer) is good until the next time, so that nobody notices; with --revoke it ends at
    /// once. May be cut off at any moment: run it again. Keep the backups from before only as long as they are needed: they hold the old keys.
    RotateKeys(RotateKeys),
    /// The demo MCP server, on standard input and output.
    #[command(name = DEMO_SERVER, hide = true)]
    DemoServer,
}

/// How this program was called: by cargo, or by its path.
pub(crate) fn program() -> String {
    match std::env::args().next() {
        Some(path) if std::env::var_os("CARGO").is_none() => path,
        _ => "cargo run -q --".to_owned(),
    }
}

/// How to serve.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder that holds everything: back it up as a whole while the server is stopped.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where MCP clients and browsers connect. Port 0: a free one.
    #[arg(long, env = "CHANDLERY_HTTP", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), value_name = "ADDRESS:PORT", value_parser = values::address)]
    pub(crate) http: SocketAddr,
    /// Where gRPC clients connect. Port 0: a free one.
    #[arg(long, env = "CHANDLERY_GRPC", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), value_name = "ADDRESS:PORT", value_parser = values::address)]
    pub(crate) grpc: SocketAddr,
    /// PEM file with the certificate of the gRPC address, and those of its authorities. Required where other machines reach it.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_CERT",
        value_name = "FILE",
        requires = "grpc_tls_key"
    )]
    pub(crate) grpc_tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_KEY",
        value_name = "FILE",
        requires = "grpc_tls_cert"
    )]
    pub(crate) grpc_tls_key: Option<PathBuf>,
    /// Address of a proxy that ends TLS before gRPC, in place of a certificate: only calls from there are taken. Repeat, or separate by
    /// commas.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_PROXY",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR",
        conflicts_with = "grpc_tls_cert"
    )]
    pub(crate) grpc_tls_proxy: Vec<IpNet>,
    /// The URL under which people and clients reach the HTTP address; install links begin with it. Required
    /// where --http is not loopback. [default: http://<http>]
    #[arg(long, env = "CHANDLERY_PUBLIC_URL", value_name = "URL", value_parser = values::url)]
    pub(crate) public_url: Option<Url>,
    /// PostgreSQL to keep the registry in, postgres://USER:PASSWORD@HOST/DATABASE. Prefer the environment variable: process lists
    /// show arguments. [default: SQLite in the data folder]
    #[arg(long, env = "CHANDLERY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<SecretString>,
    /// Private addresses that remote MCP servers may have, such as 10.1.0.0/16. Secrets go there by plain http, too, where an entry's URL is
    /// http. Repeat, or separate by commas.
    #[arg(
        long,
        env = "CHANDLERY_ALLOW_UPSTREAM_CIDR",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR"
    )]
    pub(crate) allow_upstream_cidr: Vec<IpNet>,
    /// YAML file with the OIDC issuers whose tokens are taken, besides the development issuer. The README shows one.
    #[arg(long, env = "CHANDLERY_ISSUERS", value_name = "FILE")]
    pub(crate) issuers: Option<PathBuf>,
    /// Seconds that an upstream may take to begin its answer to a tool call; between two parts of the answer, twice as long.
    #[arg(long, env = "CHANDLERY_CALL_TIMEOUT", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) call_timeout: u64,
    /// What must hold local MCP servers, which are code of others that runs as this user. [default: required where --issuers is given or an
    /// address is not loopback, else best-effort]
    #[arg(long, env = "CHANDLERY_SANDBOX", value_enum, help_heading = "Local MCP servers")]
    pub(crate) sandbox: Option<SandboxMode>,
    /// A folder or file that every local server may read, beside its own folder and the programs of the system. Repeat, or separate by commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_READ",
        value_delimiter = ',',
        value_name = "PATH",
        help_heading = "Local MCP servers"
    )]
    pub(crate) server_read: Vec<PathBuf>,
    /// A folder or file that every local server may change. Repeat, or separate by commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_WRITE",
        value_delimiter = ',',
        value_name = "PATH",
        help_heading = "Local MCP servers"
    )]
    pub(crate) server_write: Vec<PathBuf>,
    /// TCP ports that local servers may connect to, at any address, or `any`. Repeat, or separate by commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_CONNECT",
        value_delimiter = ',',
        value_name = "PORT",
        default_value = "53,443",
        help_heading = "Local MCP servers"
    )]
    pub(crate) server_connect: Vec<Port>,
    /// Connections that HTTP and gRPC clients may have open, each. Where all are taken, the one that was quiet for longest is closed.
    /// The process needs twice as many descriptors for each of the two.
    #[arg(long, env = "CHANDLERY_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Of these, how many may come from one address (IPv6: from one /64 network) that is not one of --proxies.
    #[arg(long, env = "CHANDLERY_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections_per_address: u32,
    /// Addresses of reverse proxies, from which many people come. Each must append the address it was called from to X-Forwarded-For, which
    /// is believed where it comes from these. Repeat, or separate by commas.
    #[arg(
        long,
        env = "CHANDLERY_PROXIES",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR",
        default_values_t = Limits::loopback()
    )]
    pub(crate) proxies: Vec<IpNet>,
    /// Seconds that a client may take to send the head of a request, or the next piece of its body, or to receive the next piece of an
    /// answer.
    #[arg(long, env = "CHANDLERY_CLIENT_TIMEOUT", value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) client_timeout: u64,
    /// Seconds that a connection may be open without a request. A reverse proxy's own limit must be lower.
    #[arg(long, env = "CHANDLERY_IDLE_TIMEOUT", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) idle_timeout: u64,
    #[command(flatten)]
    pub(crate) caller_limits: CallerLimits,
    /// How log lines look. Which lines are written is set by RUST_LOG: debug, for example, or warn,gateway_svc=debug.
    #[arg(long, env = "CHANDLERY_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) log_format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What must hold local MCP servers for the program to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxMode {
    /// Files, their metadata, processes, signals, Unix sockets and system calls are protected from them, or nothing starts.
    Required,
    /// Whatever this machine can do holds them; the log says what is missing.
    BestEffort,
    /// Nothing holds them.
    Off,
}

/// A TCP port that servers may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// All of them.
    Any,
    /// This one.
    Number(u16),
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            _ => match text.parse() {
                Ok(number) if number > 0 => Ok(Self::Number(number)),
                _ => Err("must be a port from 1 to 65535, or any".to_owned()),
            },
        }
    }
}

/// Which token to print.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// Data folder of the server that is to accept the token.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The user's email address; it is also their subject.
    #[arg(long, value_name = "EMAIL", value_parser = token::email)]
    pub(crate) user: String,
    /// A group of the user, in the token's `groups`. A team whose mappings name it takes the user in. Repeat for more.
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Vec<String>,
    /// Make the user an admin.
    #[arg(long)]
    pub(crate) admin: bool,
    /// How long the token is valid, in seconds: at most 86400, a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = token::ttl)]
    pub(crate) ttl: u64,
}

/// Which keys to exchange, and how.
#[derive(Debug, Args)]
pub(crate) struct RotateKeys {
    /// Data folder of the server.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// End sessions, sign-ins and tokens made with the old keys at once: for when somebody may have copied them.
    #[arg(long)]
    pub(crate) revoke: bool,
}

impl Cli {
    /// Does what the command says.
    pub(crate) fn dispatch(self) -> Result<(), Box<dyn std::error::Error>> {
        match self.command {
            None => run::run(self.serve),
            Some(Command::Token(arguments)) => token::print(&arguments),
            Some(Command::RotateKeys(arguments)) => rotate_keys::run(&arguments),
            Some(Command::DemoServer) => demo_server::run(),
        }
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// Says what went wrong, on standard error.
pub(crate) fn complain(error: &dyn fmt::Display) {
    // Nothing is left to do where even this cannot be written.
    let _ = writeln!(std::io::stderr(), "chandlery: {error}");
}
