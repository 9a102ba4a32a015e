//! Options for Vault, or OpenBao, as the store of secrets.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use credential_svc::{StoreConfig, TransitConfig, VaultConfig, VaultLogin};
use secrecy::SecretString;

const HEADING: &str = "Vault or OpenBao, as the store of secrets in production";
/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The variable with a token. There is no option for it: other users see arguments.
const TOKEN: &str = "CHANDLERY_VAULT_TOKEN";

/// Where secrets are stored.
#[derive(Debug, Args)]
pub(super) struct VaultOptions {
    /// URL of Vault, such as https://vault.example.com:8200. Secrets are stored there instead of in the data folder; none
    /// are moved. deploy/vault has the policy that the login requires, and says how to set it up.
    #[arg(long, env = "CHANDLERY_VAULT_ADDRESS", value_name = "URL", help_heading = HEADING)]
    vault_address: Option<String>,
    /// PEM file with the certificates of the authority that is trusted for Vault. [default: those of the system]
    #[arg(
        long,
        env = "CHANDLERY_VAULT_CA",
        value_name = "FILE",
        requires = "vault_address",
        help_heading = HEADING
    )]
    vault_ca: Option<PathBuf>,
    /// Path of the secrets engine, which must be KV version 2.
    #[arg(long, env = "CHANDLERY_VAULT_MOUNT", value_name = "PATH", default_value = "secret", help_heading = HEADING)]
    vault_mount: String,
    /// Folder in the secrets engine. Each registry requires one of its own.
    #[arg(long, env = "CHANDLERY_VAULT_PREFIX", value_name = "PATH", default_value = "chandlery", help_heading = HEADING)]
    vault_prefix: String,
    /// Key of a Transit engine, which wraps the keys of sessions and page tokens in the data folder. They are then of no use without Vault. The server
    /// waits for Vault when it starts.
    #[arg(long, env = "CHANDLERY_VAULT_TRANSIT_KEY", value_name = "NAME", requires = "vault_address", help_heading = HEADING)]
    vault_transit_key: Option<String>,
    /// Path of the Transit engine.
    #[arg(long, env = "CHANDLERY_VAULT_TRANSIT_MOUNT", value_name = "PATH", default_value = "transit", help_heading = HEADING)]
    vault_transit_mount: String,
    /// Namespace that contains the secrets engine and the authentication method.
    #[arg(
        long,
        env = "CHANDLERY_VAULT_NAMESPACE",
        value_name = "PATH",
        requires = "vault_address",
        help_heading = HEADING
    )]
    vault_namespace: Option<String>,
    /// How to log in.
    #[arg(long, env = "CHANDLERY_VAULT_AUTH", value_name = "METHOD", value_enum, default_value_t = Method::Token, help_heading = HEADING)]
    vault_auth: Method,
    /// File with the token, for --vault-auth token. It is read again when the token ends, so that another program may
    /// replace it. Alternative: the token itself, in the environment variable CHANDLERY_VAULT_TOKEN.
    #[arg(long, env = "CHANDLERY_VAULT_TOKEN_FILE", value_name = "FILE", requires = "vault_address", help_heading = HEADING)]
    vault_token_file: Option<PathBuf>,
    /// Path of the authentication method. [default: approle or kubernetes, as --vault-auth says]
    #[arg(long, env = "CHANDLERY_VAULT_AUTH_MOUNT", value_name = "PATH", requires = "vault_address", help_heading = HEADING)]
    vault_auth_mount: Option<String>,
    /// Role id, for --vault-auth approle.
    #[arg(long, env = "CHANDLERY_VAULT_ROLE_ID", value_name = "ID", requires = "vault_address", help_heading = HEADING)]
    vault_role_id: Option<String>,
    /// File with the secret id, for --vault-auth approle. It is read at each login.
    #[arg(long, env = "CHANDLERY_VAULT_SECRET_ID_FILE", value_name = "FILE", requires = "vault_address", help_heading = HEADING)]
    vault_secret_id_file: Option<PathBuf>,
    /// Role, for --vault-auth kubernetes.
    #[arg(long, env = "CHANDLERY_VAULT_ROLE", value_name = "NAME", requires = "vault_address", help_heading = HEADING)]
    vault_role: Option<String>,
    /// File with the service account's token, for --vault-auth kubernetes. It is read at each login.
    #[arg(long, env = "CHANDLERY_VAULT_KUBERNETES_TOKEN_FILE", value_name = "FILE", default_value = SERVICE_ACCOUNT, help_heading = HEADING)]
    vault_kubernetes_token_file: PathBuf,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    /// With a token.
    Token,
    /// With a role id and a secret id.
    Approle,
    /// With the service account of a pod.
    Kubernetes,
}

impl VaultOptions {
    /// Where secrets are stored: in Vault, or else in the data folder.
    pub(super) fn store(self, data_dir: &Path) -> StoreConfig {
        let config = self.config().map(|config| VaultConfig {
            former_data_dir: Some(data_dir.to_owned()),
            ..config
        });
        match config {
            Some(config) => StoreConfig::Vault(config),
            None => StoreConfig::Local {
                data_dir: data_dir.to_owned(),
            },
        }
    }

    /// The key that wraps those in the data folder.
    pub(super) fn transit(&self) -> Option<(VaultConfig, TransitConfig)> {
        let key = TransitConfig {
            mount: self.vault_transit_mount.clone(),
            key: self.vault_transit_key.clone()?,
        };
        Some((self.config()?, key))
    }

    fn config(&self) -> Option<VaultConfig> {
        let address = self.vault_address.clone()?;
        // credential-svc names what is missing together with all other faults.
        let mount = |default: &str| self.vault_auth_mount.clone().unwrap_or_else(|| default.to_owned());
        let login = match self.vault_auth {
            Method::Token => match (&self.vault_token_file, std::env::var(TOKEN)) {
                (None, Ok(token)) => VaultLogin::Token(SecretString::from(token)),
                (file, _) => VaultLogin::TokenFile(file.clone().unwrap_or_default()),
            },
            Method::Approle => VaultLogin::AppRole {
                mount: mount("approle"),
                role_id: self.vault_role_id.clone().unwrap_or_default(),
                secret_id_file: self.vault_secret_id_file.clone().unwrap_or_default(),
            },
            Method::Kubernetes => VaultLogin::Kubernetes {
                mount: mount("kubernetes"),
                role: self.vault_role.clone().unwrap_or_default(),
                token_file: self.vault_kubernetes_token_file.clone(),
            },
        };
        Some(VaultConfig {
            address,
            ca: self.vault_ca.clone(),
            namespace: self.vault_namespace.clone(),
            mount: self.vault_mount.clone(),
            prefix: self.vault_prefix.clone(),
            login,
            former_data_dir: None,
        })
    }
}
