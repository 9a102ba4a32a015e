//! The configuration of the service.

use std::path::PathBuf;

use secrecy::SecretString;
use service_kit::egress::EgressPolicy;
use url::Url;

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where secrets are stored.
    pub store: StoreConfig,
    /// Identifies this replica to the registry: a pod's name, for example. `None` for a random name.
    pub instance: Option<String>,
    /// Where browsers reach gateway-svc, which receives people when they have signed in at an authorization server. `None`: nobody can
    /// connect an account.
    pub public_url: Option<Url>,
    /// Which authorization servers are reached.
    pub egress: EgressPolicy,
}

/// Where secrets are stored.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// In a folder of this machine, for one process.
    Local {
        /// Holds `credentials.db` and `credential.key`, which must be backed up together. Created if it does not exist.
        data_dir: PathBuf,
    },
    /// In Vault or OpenBao, for any number of processes.
    Vault(VaultConfig),
}

/// The secrets engine of Vault in which secrets are stored. It must be KV version 2.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// `https://HOST:PORT`; by http only to this machine.
    pub address: String,
    /// PEM file with the certificates that are trusted for Vault, and no others. `None`: those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// The namespace, where Vault has them.
    pub namespace: Option<String>,
    /// The path of the secrets engine.
    pub mount: String,
    /// The folder in it. Two installations of Chandlery must not share one.
    pub prefix: String,
    /// How the service logs in.
    pub login: VaultLogin,
    /// The folder of a local store that may have been in use before. If there are secrets in it, the service does not start: nothing
    /// moves them to Vault.
    pub former_data_dir: Option<PathBuf>,
}

/// The key of Vault's Transit engine that wraps keys on a disk.
#[derive(Clone, Debug)]
pub struct TransitConfig {
    /// The path of the engine, usually `transit`.
    pub mount: String,
    /// The name of the key.
    pub key: String,
}

/// How the service logs in to Vault.
#[derive(Clone, Debug)]
pub enum VaultLogin {
    /// With a token of a file. If another program replaces the token there, the new one is used.
    TokenFile(PathBuf),
    /// With a token.
    Token(SecretString),
    /// With an AppRole.
    AppRole {
        /// The path of the authentication method, usually `approle`.
        mount: String,
        /// The role id.
        role_id: String,
        /// The file with the secret id, which is read at each login.
        secret_id_file: PathBuf,
    },
    /// With the token of a Kubernetes service account.
    Kubernetes {
        /// The path of the authentication method, usually `kubernetes`.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token, which is read at each login.
        token_file: PathBuf,
    },
}
