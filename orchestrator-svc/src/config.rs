//! The configuration of the service.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use sandbox::Resources;
use stdio_bridge::Limits;

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder for the servers' working folders; created if it does not exist. Only the files that servers write there require a backup.
    pub data_dir: PathBuf,
    /// A folder with secrets. Servers can access neither it nor a folder that contains it. `data_dir` if `None`.
    pub hidden_dir: Option<PathBuf>,
    /// How servers are sandboxed.
    pub sandbox: Sandbox,
    /// A program that runs as the stdio bridge with `bridge_arguments`, and as the launcher of the sandbox.
    pub program: PathBuf,
    /// The bridge as a program of its own, which takes less memory. It is used instead of `program` if it exists, is of the same build as this
    /// service, and nobody can change it who cannot change `program`.
    pub bridge: Option<PathBuf>,
    /// The arguments for the bridge; `stdio-bridge` by default.
    pub bridge_arguments: Vec<String>,
    /// Commands of entries that stand for a program with arguments: the servers that come with Chandlery.
    pub builtin_commands: BTreeMap<String, Vec<String>>,
    /// Names of the service's environment variables that servers inherit. They inherit no others; `HOME` and `TMPDIR` are set for each server.
    pub inherited_environment: Vec<String>,
    /// Limits of each server.
    pub limits: Limits,
    /// The delays before servers are restarted.
    pub backoff: Backoff,
    /// A name that distinguishes this process from other replicas, such as the name of a pod. Random if `None`.
    pub instance: Option<String>,
}

/// How servers are sandboxed. They are third-party code that runs as the service's user.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// What the sandbox must protect for the service to start.
    pub mode: SandboxMode,
    /// Folders and files that every server may read, in addition to the programs of the system.
    pub read: Vec<PathBuf>,
    /// Folders and files that every server may write.
    pub write: Vec<PathBuf>,
    /// TCP ports that servers may connect to; all if `None`.
    pub connect: Option<Vec<u16>>,
    /// Resource limits of each server.
    pub resources: Resources,
}

/// What the sandbox must protect for the service to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// Everything for which [`sandbox::Protection::required`] is set.
    Required,
    /// Nothing; servers are sandboxed as far as this machine supports it.
    BestEffort,
    /// Nothing; servers are not sandboxed.
    Off,
}

/// The delays before a server that ended is restarted.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The delay before the first restart. It doubles with each further one.
    pub first: Duration,
    /// The longest delay.
    pub longest: Duration,
    /// After a server ran for this time, the delays start with `first` again.
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
            bridge: None,
            bridge_arguments: vec![stdio_bridge::NAME.to_owned()],
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
            // DNS and TLS.
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
