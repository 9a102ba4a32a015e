//! Options of the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use orchestrator_svc::SandboxMode as Mode;
use secrecy::SecretString;
use service_kit::{edge::Limits, http1::HttpPath, telemetry::LogFormat};
use url::Url;

use super::{caller_limits::CallerLimits, values, vault::VaultOptions};
use crate::{
    config::{Config, Sandbox},
    grpc_tls,
};

/// The options of the server.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Folder that contains all data. To back it up, stop the server and copy the whole folder.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address for MCP clients and browsers. Port 0 selects a free one.
    #[arg(long, env = "CHANDLERY_HTTP", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), value_name = "ADDRESS:PORT", value_parser = values::address)]
    http: SocketAddr,
    /// Address for gRPC clients. Port 0 selects a free one.
    #[arg(long, env = "CHANDLERY_GRPC", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), value_name = "ADDRESS:PORT", value_parser = values::address)]
    grpc: SocketAddr,
    /// PEM file with the certificate chain of the HTTP address, which then takes TLS alone. The file is read again when it changes.
    #[arg(long, env = "CHANDLERY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, env = "CHANDLERY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file with the certificate chain of the gRPC address. Required if other machines can reach it.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_CERT",
        value_name = "FILE",
        requires = "grpc_tls_key"
    )]
    grpc_tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_KEY",
        value_name = "FILE",
        requires = "grpc_tls_cert"
    )]
    grpc_tls_key: Option<PathBuf>,
    /// Address of a proxy that terminates TLS for gRPC, as an alternative to a certificate. Only calls from there are
    /// accepted. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_GRPC_TLS_PROXY",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR",
        conflicts_with = "grpc_tls_cert"
    )]
    grpc_tls_proxy: Vec<IpNet>,
    /// The URL under which people and clients reach the HTTP address; install links begin with it. Required if --http
    /// is not loopback. [default: http://<http>, or https://<http> with --tls-cert]
    #[arg(long, env = "CHANDLERY_PUBLIC_URL", value_name = "URL", value_parser = values::url)]
    public_url: Option<Url>,
    /// PostgreSQL database of the registry, postgres://USER:PASSWORD@HOST/DATABASE. Prefer the environment variable,
    /// since process lists show arguments. [default: SQLite in the data folder]
    #[arg(long, env = "CHANDLERY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<SecretString>,
    /// Private networks that may contain remote MCP servers, such as 10.1.0.0/16. If an entry's URL is http, secrets
    /// are sent there unencrypted. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_ALLOW_UPSTREAM_CIDR",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR"
    )]
    allow_upstream_cidr: Vec<IpNet>,
    /// A PEM file with certificate authorities of your own, which remote servers and their authorization servers may be
    /// certified by, besides those that the system trusts. Repeat, or separate with commas.
    #[arg(long, env = "CHANDLERY_UPSTREAM_CA", value_delimiter = ',', value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// Private networks from which metadata documents of MCP clients are fetched, also over http. Anybody who reaches
    /// the HTTP address can then let Chandlery send GET requests there. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_ALLOW_CLIENT_DOCUMENT_CIDR",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR"
    )]
    allow_client_document_cidr: Vec<IpNet>,
    /// YAML file with the OIDC issuers whose tokens are accepted in addition to the development issuer. The README
    /// shows one.
    #[arg(long, env = "CHANDLERY_ISSUERS", value_name = "FILE")]
    issuers: Option<PathBuf>,
    /// Seconds that an upstream may take to begin its response to a tool call; twice as many between two parts of the
    /// response.
    #[arg(long, env = "CHANDLERY_CALL_TIMEOUT", value_name = "SECONDS", default_value_t = 300, value_parser = values::seconds(1..=3600))]
    call_timeout: u64,
    /// Seconds that tool calls in progress may take once SIGTERM or SIGINT tells the server to stop. A second signal ends it at once. Who kills it
    /// after a time, such as Kubernetes (terminationGracePeriodSeconds), must give it 15 seconds more, and at least 30.
    #[arg(long, env = "CHANDLERY_DRAIN", value_name = "SECONDS", default_value_t = 15, value_parser = values::seconds(0..=3600))]
    drain: u64,
    /// What reads and writes HTTP/1.1 where tool calls pass, from clients and to MCP servers: code of Chandlery's own, or the library hyper, which takes
    /// more time for each call. Calls give the same results; which requests are refused as not valid differs, and the limits of their heads.
    #[arg(long, env = "CHANDLERY_HTTP_PATH", value_enum, default_value_t = HttpImplementation::Own)]
    http_path: HttpImplementation,
    /// How local MCP servers are sandboxed: they are third-party code that runs as this user. [default: required if
    /// --issuers is given or an address is not loopback, otherwise best-effort]
    #[arg(long, env = "CHANDLERY_SANDBOX", value_enum, help_heading = "Local MCP servers")]
    sandbox: Option<SandboxMode>,
    /// A folder or file that every local server may read, in addition to its own folder and the system's programs.
    /// Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_READ",
        value_delimiter = ',',
        value_name = "PATH",
        help_heading = "Local MCP servers"
    )]
    server_read: Vec<PathBuf>,
    /// A folder or file that every local server may change. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_WRITE",
        value_delimiter = ',',
        value_name = "PATH",
        help_heading = "Local MCP servers"
    )]
    server_write: Vec<PathBuf>,
    /// TCP ports that local servers may connect to, at any address, or `any`. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_CONNECT",
        value_delimiter = ',',
        value_name = "PORT",
        default_value = "53,443",
        help_heading = "Local MCP servers"
    )]
    server_connect: Vec<Port>,
    /// Variables of this process's environment that every local server gets too, such as HTTPS_PROXY or NO_PROXY. A
    /// server can read their values. Variables that an entry sets take precedence. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_SERVER_ENVIRONMENT",
        value_delimiter = ',',
        value_name = "NAME",
        value_parser = variable,
        help_heading = "Local MCP servers"
    )]
    server_environment: Vec<String>,
    /// Open connections of HTTP clients, and of gRPC clients. At the limit, the connection that has been idle for
    /// longest is closed. The process requires two descriptors for each connection of each listener.
    #[arg(long, env = "CHANDLERY_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    max_connections: u32,
    /// Open connections from one address (IPv6: from one /64 network) that is not one of --proxies.
    #[arg(long, env = "CHANDLERY_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections_per_address: u32,
    /// Addresses of reverse proxies, which many clients share. Each proxy must append its client's address to
    /// X-Forwarded-For, which is trusted only from these addresses. Repeat, or separate with commas.
    #[arg(
        long,
        env = "CHANDLERY_PROXIES",
        value_delimiter = ',',
        value_parser = values::network,
        value_name = "CIDR",
        default_values_t = Limits::loopback()
    )]
    proxies: Vec<IpNet>,
    /// Seconds that a client may take to send the head of a request or the next part of its body, or to receive the next part of a response.
    #[arg(long, env = "CHANDLERY_CLIENT_TIMEOUT", value_name = "SECONDS", default_value_t = 20, value_parser = values::seconds(1..=3600))]
    client_timeout: u64,
    /// Seconds that a connection may be idle between requests. The idle timeout of a reverse proxy must be lower.
    #[arg(long, env = "CHANDLERY_IDLE_TIMEOUT", value_name = "SECONDS", default_value_t = 300, value_parser = values::seconds(1..=86_400))]
    idle_timeout: u64,
    #[command(flatten)]
    caller_limits: CallerLimits,
    #[command(flatten)]
    vault: VaultOptions,
    /// Format of log lines. RUST_LOG selects which lines are written, such as debug, or warn,gateway_svc=debug.
    #[arg(long, env = "CHANDLERY_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// What reads and writes HTTP.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum HttpImplementation {
    /// Chandlery's own code.
    Own,
    /// hyper.
    Hyper,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How strictly local MCP servers are sandboxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SandboxMode {
    /// Protect files, their metadata, processes, signals, Unix sockets and system calls, or refuse to start.
    Required,
    /// Protect what this machine supports, and log what is missing.
    BestEffort,
    /// Do not sandbox local servers.
    Off,
}

/// Parses the name of an environment variable. Rejects Chandlery's own settings, because some contain secrets.
fn variable(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("must be the name of a variable".to_owned());
    }
    if name.starts_with("CHANDLERY_") {
        return Err("is a setting of chandlery itself, which servers do not get".to_owned());
    }
    Ok(name.to_owned())
}

/// A TCP port that servers may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Every port.
    Any,
    /// One port.
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

impl From<Serve> for Config {
    fn from(arguments: Serve) -> Self {
        let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            http_tls: arguments.tls_cert.zip(arguments.tls_key),
            grpc_tls: grpc_tls::Config {
                certificate: arguments.grpc_tls_cert.zip(arguments.grpc_tls_key),
                proxies: arguments.grpc_tls_proxy,
            },
            sandbox: Sandbox {
                mode: arguments.sandbox.map(Mode::from),
                read: arguments.server_read,
                write: arguments.server_write,
                connect: arguments.server_connect.into_iter().map(Option::from).collect(),
                environment: arguments.server_environment,
            },
            limits: Limits {
                connections: count(arguments.max_connections),
                per_address: count(arguments.max_connections_per_address),
                client_timeout: Duration::from_secs(arguments.client_timeout),
                idle: Duration::from_secs(arguments.idle_timeout),
                proxies: arguments.proxies.clone(),
            },
            allowance: arguments.caller_limits.allowance(arguments.proxies),
            transit: arguments.vault.transit(),
            store: arguments.vault.store(&arguments.data_dir),
            data_dir: arguments.data_dir,
            http: arguments.http,
            grpc: arguments.grpc,
            public_url: arguments.public_url,
            database_url: arguments.database_url,
            allow_upstream_cidr: arguments.allow_upstream_cidr,
            upstream_ca: arguments.upstream_ca,
            allow_client_document_cidr: arguments.allow_client_document_cidr,
            issuers: arguments.issuers,
            call_timeout: Duration::from_secs(arguments.call_timeout),
            drain: Duration::from_secs(arguments.drain),
            http_path: arguments.http_path.into(),
            log_format: arguments.log_format.into(),
            program: program(),
        }
    }
}

/// The command line prefix with which this program was started: through cargo, or its path.
fn program() -> String {
    match std::env::args().next() {
        Some(path) if std::env::var_os("CARGO").is_none() => path,
        _ => "cargo run -q --".to_owned(),
    }
}

impl From<SandboxMode> for Mode {
    fn from(mode: SandboxMode) -> Self {
        match mode {
            SandboxMode::Required => Self::Required,
            SandboxMode::BestEffort => Self::BestEffort,
            SandboxMode::Off => Self::Off,
        }
    }
}

impl From<Port> for Option<u16> {
    fn from(port: Port) -> Self {
        match port {
            Port::Any => None,
            Port::Number(number) => Some(number),
        }
    }
}

impl From<HttpImplementation> for HttpPath {
    fn from(implementation: HttpImplementation) -> Self {
        match implementation {
            HttpImplementation::Own => Self::Own,
            HttpImplementation::Hyper => Self::Hyper,
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        serve: Serve,
    }

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let command = Command::try_parse_from(["chandlery"].iter().chain(arguments));
        command
            .map(|command| Config::from(command.serve))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn http_is_read_and_written_by_our_own_code_unless_hyper_is_named() {
        assert_eq!(parse(&[]).unwrap().http_path, HttpPath::Own);
        assert_eq!(parse(&["--http-path", "hyper"]).unwrap().http_path, HttpPath::Hyper);
        assert!(parse(&["--http-path", "curl"]).unwrap_err().contains("own, hyper"));
    }

    #[test]
    fn a_certificate_requires_its_key() {
        let half = parse(&["--grpc-tls-cert", "a.pem"]).unwrap_err();
        assert!(half.contains("--grpc-tls-key"), "{half}");
        let both = parse(&["--grpc-tls-cert", "a.pem", "--grpc-tls-key", "b.pem"]).unwrap();
        assert_eq!(both.grpc_tls.certificate, Some(("a.pem".into(), "b.pem".into())));
        let half = parse(&["--tls-key", "a.pem"]).unwrap_err();
        assert!(half.contains("--tls-cert"), "{half}");
        let both = parse(&["--tls-cert", "a.pem", "--tls-key", "b.pem"]).unwrap();
        assert_eq!(both.http_tls, Some(("a.pem".into(), "b.pem".into())));
    }
}
