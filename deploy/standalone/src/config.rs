//! What an operator decides about the process.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use orchestrator_svc::SandboxMode;
use secrecy::SecretString;
use service_kit::{edge::Limits, quota::Allowance, telemetry::LogFormat};
use url::Url;

use crate::grpc_tls;

/// How to serve.
#[derive(Debug)]
pub(crate) struct Config {
    /// Folder that holds everything.
    pub(crate) data_dir: PathBuf,
    /// Where MCP clients and browsers connect.
    pub(crate) http: SocketAddr,
    /// Where gRPC clients connect.
    pub(crate) grpc: SocketAddr,
    /// TLS for gRPC.
    pub(crate) grpc_tls: grpc_tls::Config,
    /// Under which people and clients reach the HTTP address; none: that of the address itself.
    pub(crate) public_url: Option<Url>,
    /// The registry's PostgreSQL; none: SQLite in the data folder.
    pub(crate) database_url: Option<SecretString>,
    /// Private networks that remote servers may be in.
    pub(crate) allow_upstream_cidr: Vec<IpNet>,
    /// YAML file with OIDC issuers.
    pub(crate) issuers: Option<PathBuf>,
    /// How long an upstream may take to begin its answer to a tool call.
    pub(crate) call_timeout: Duration,
    /// How local servers are held.
    pub(crate) sandbox: Sandbox,
    /// What clients may have of each listener.
    pub(crate) limits: Limits,
    /// What one caller may do.
    pub(crate) allowance: Allowance,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// How the program was called, for the commands to copy.
    pub(crate) program: String,
}

/// How local servers are held.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// None: as it fits who can reach the process.
    pub(crate) mode: Option<SandboxMode>,
    /// What every server may read, beside its own folder and the programs of the system.
    pub(crate) read: Vec<PathBuf>,
    /// What every server may change.
    pub(crate) write: Vec<PathBuf>,
    /// TCP ports that servers may connect to; none: all.
    pub(crate) connect: Option<Vec<u16>>,
    /// Variables of this process's environment that every server gets, besides those that it gets anyway.
    pub(crate) environment: Vec<String>,
}
