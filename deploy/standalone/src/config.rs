//! The configuration of the process.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use credential_svc::{StoreConfig, TransitConfig, VaultConfig};
use ipnet::IpNet;
use orchestrator_svc::SandboxMode;
use secrecy::SecretString;
use service_kit::{edge::Limits, http1::HttpPath, quota::Allowance, telemetry::LogFormat};
use url::Url;

use crate::grpc_tls;

/// The configuration of the process.
#[derive(Debug)]
pub(crate) struct Config {
    /// The folder that contains all data.
    pub(crate) data_dir: PathBuf,
    /// The address to which MCP clients and browsers connect.
    pub(crate) http: SocketAddr,
    /// The address to which gRPC clients connect.
    pub(crate) grpc: SocketAddr,
    /// PEM files for HTTP over TLS: the certificate chain, and its private key.
    pub(crate) http_tls: Option<(PathBuf, PathBuf)>,
    /// TLS for gRPC.
    pub(crate) grpc_tls: grpc_tls::Config,
    /// The URL under which people and clients reach the HTTP address; `None`: the address itself.
    pub(crate) public_url: Option<Url>,
    /// The registry's PostgreSQL database; `None`: SQLite in the data folder.
    pub(crate) database_url: Option<SecretString>,
    /// Where secrets are stored.
    pub(crate) store: StoreConfig,
    /// The key of Vault that wraps those in the data folder; `None`: they are not wrapped.
    pub(crate) transit: Option<(VaultConfig, TransitConfig)>,
    /// Private networks that may contain remote servers.
    pub(crate) allow_upstream_cidr: Vec<IpNet>,
    /// PEM files with certificate authorities of the organization's own.
    pub(crate) upstream_ca: Vec<PathBuf>,
    /// Private networks that metadata documents of clients may be in.
    pub(crate) allow_client_document_cidr: Vec<IpNet>,
    /// The YAML file with OIDC issuers.
    pub(crate) issuers: Option<PathBuf>,
    /// How long an upstream may take to begin its response to a tool call.
    pub(crate) call_timeout: Duration,
    /// How long calls in progress may take after a signal to stop.
    pub(crate) drain: Duration,
    /// What reads and writes HTTP/1.1 where tool calls pass, from clients and to upstreams.
    pub(crate) http_path: HttpPath,
    /// How local servers are sandboxed.
    pub(crate) sandbox: Sandbox,
    /// The connection limits of each listener.
    pub(crate) limits: Limits,
    /// The limits of one caller.
    pub(crate) allowance: Allowance,
    /// The format of log lines.
    pub(crate) log_format: LogFormat,
    /// The program as the user called it, for commands to copy.
    pub(crate) program: String,
}

/// How local servers are sandboxed.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// `None`: depends on whether other machines can reach the process.
    pub(crate) mode: Option<SandboxMode>,
    /// Paths that every server may read, in addition to its own folder and the system's programs.
    pub(crate) read: Vec<PathBuf>,
    /// Paths that every server may change.
    pub(crate) write: Vec<PathBuf>,
    /// TCP ports that servers may connect to; `None`: all.
    pub(crate) connect: Option<Vec<u16>>,
    /// Variables of this process's environment that every server gets, in addition to the default ones.
    pub(crate) environment: Vec<String>,
}
