//! What is configured.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use sandbox::Resources;
use stdio_bridge::Limits;

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the servers' working folders. Made if it is not there. Nothing in it needs a backup but what servers write there.
    pub data_dir: PathBuf,
    /// No server sees it, nor what is around it: where services keep secrets. `data_dir`, where it is `None`.
    pub hidden_dir: Option<PathBuf>,
    /// How servers are held.
    pub sandbox: Sandbox,
    /// The program that is the stdio bridge when started with `bridge_arguments`, and the sandbox's launcher.
    pub program: PathBuf,
    /// Its arguments; `stdio-bridge`, unless told otherwise.
    pub bridge_arguments: Vec<String>,
    /// Commands that mean a program with arguments: those that come with Chandlery.
    pub builtin_commands: BTreeMap<String, Vec<String>>,
    /// Variables of the service's own environment that servers get too. Nothing else of it reaches them; `HOME` and `TMPDIR` are each one's own.
    pub inherited_environment: Vec<String>,
    /// Bounds of each server.
    pub limits: Limits,
    /// How servers are started again.
    pub backoff: Backoff,
    /// Tells this process from other replicas to the registry: a pod's name, for example. A random name where it is `None`.
    pub instance: Option<String>,
}

/// How servers are held, which are code of others that runs as the service's user.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// What must hold.
    pub mode: SandboxMode,
    /// Folders and files that every server may read, beside the programs of the system.
    pub read: Vec<PathBuf>,
    /// Folders and files that every server may change.
    pub write: Vec<PathBuf>,
    /// TCP ports that servers may connect to; `None`: all.
    pub connect: Option<Vec<u16>>,
    /// How much each may use.
    pub resources: Resources,
}

/// What must hold servers for the service to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// All that [`sandbox::Protection::required`] says.
    Required,
    /// Whatever this machine can.
    BestEffort,
    /// Nothing holds them.
    Off,
}

/// How a server that ended is started again.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Before the first restart; doubles with each.
    pub first: Duration,
    /// At most so long.
    pub longest: Duration,
    /// A server that ran so long starts anew with `first`.
    pub stable: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let inherited = [
            "PATH",
            "USER",
            "LANG",
            "LC_ALL",
            "LC_CTYPE",
            "TZ",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "NODE_EXTRA_CA_CERTS",
        ];
        Self {
            data_dir: PathBuf::new(),
            hidden_dir: None,
            sandbox: Sandbox::default(),
            program: PathBuf::new(),
            bridge_arguments: vec!["stdio-bridge".to_owned()],
            builtin_commands: BTreeMap::new(),
            inherited_environment: inherited.map(str::to_owned).to_vec(),
            limits: Limits::default(),
            backoff: Backoff::default(),
            instance: None,
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            mode: SandboxMode::BestEffort,
            read: Vec::new(),
            write: Vec::new(),
            // Names and TLS.
            connect: Some(vec![53, 443]),
            resources: Resources::default(),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            stable: Duration::from_secs(60),
        }
    }
}
