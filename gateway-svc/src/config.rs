//! What an operator decides.

use std::time::Duration;

use service_kit::{egress::EgressPolicy, http1::HttpPath, keys::Ring};
use url::Url;

/// What an operator decides about gateway-svc.
#[derive(Clone)]
pub struct Config {
    /// What people and clients reach the HTTP side at; links begin with it.
    pub public_url: Url,
    /// Seals sessions and cookies. All replicas share it.
    pub session_key: Ring,
    /// Seals page tokens. All replicas share it.
    pub page_token_key: Ring,
    /// Which addresses upstreams may have.
    pub egress: EgressPolicy,
    /// Which addresses metadata documents of clients may come from. Whoever asks for a sign-in names them.
    pub client_documents: EgressPolicy,
    /// How long calls are served from the last snapshot while the registry is unreachable.
    pub staleness: Duration,
    /// Further values of `Host` that are taken, besides the public URL's and loopback names: `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Port at which gRPC clients reach Chandlery; the page at the root names it.
    pub grpc_port: Option<u16>,
    /// Health paths of the HTTP side; the page at the root names them.
    pub probes: &'static [&'static str],
    /// How long an upstream may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long an upstream may take to begin its answer to a call.
    pub call_timeout: Duration,
    /// How long calls in progress may take once the service is told to stop. Then their callers are told that they were interrupted.
    pub drain: Duration,
    /// How long an upstream may take to answer `initialize`, and to list all its tools.
    pub discovery_timeout: Duration,
    /// How many discoveries run at a time.
    pub discovery_concurrency: usize,
    /// What reads and writes HTTP/1.1 on connections to upstreams.
    pub http_path: HttpPath,
    /// Tells this process from other replicas to the registry: a pod's name, for example. A random name where it is `None`.
    pub instance: Option<String>,
}

impl Config {
    /// The defaults. What has none is passed: a public URL, and keys of 32 random bytes.
    pub fn new(public_url: Url, session_key: impl Into<Ring>, page_token_key: impl Into<Ring>) -> Self {
        Self {
            public_url,
            session_key: session_key.into(),
            page_token_key: page_token_key.into(),
            egress: EgressPolicy::default(),
            client_documents: EgressPolicy::default(),
            staleness: Duration::from_secs(5 * 60),
            allowed_hosts: Vec::new(),
            grpc_port: None,
            probes: &[],
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(5 * 60),
            drain: Duration::from_secs(15),
            discovery_timeout: Duration::from_secs(60),
            discovery_concurrency: 64,
            http_path: HttpPath::default(),
            instance: None,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("public_url", &self.public_url.as_str())
            .finish_non_exhaustive()
    }
}
