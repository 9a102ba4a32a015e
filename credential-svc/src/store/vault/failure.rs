//! Why Vault did not do what it was asked for. The texts are for operators: what happened, who can mend it, and how. They repeat no
//! token, and nothing of an answer's body.

use std::{io, path::PathBuf, time::Duration};

use reqwest::StatusCode;
use serde::Deserialize;

use crate::domain::ports::StoreError;

/// How long a request may take, with its answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer (bytes). No value is longer: Vault accepts requests of up to 32 MiB.
pub(super) const MAX_ANSWER: usize = 33 << 20;

/// Why Vault did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("Vault cannot be reached ({0}); check that it runs, and that vault-address and vault-ca are right")]
    Unreachable(String),
    #[error("Vault did not answer within {} s; its operator can say why it is slow", TIMEOUT.as_secs())]
    Slow,
    #[error("Vault is sealed; its operator must unseal it")]
    Sealed,
    #[error("Vault is not initialized; its operator must initialize it")]
    NotInitialized,
    #[error(
        "this node of Vault is a standby that does not forward requests, or there is no active node; its operator must elect one, or let vault-address name the active node"
    )]
    Standby,
    #[error("Vault limits the rate of requests (status 429); an administrator of Vault can raise the quota")]
    RateLimited,
    #[error(
        "Vault denies {asked}; an administrator of Vault must give the token a policy that allows it (deploy/vault/policy.hcl)"
    )]
    Denied { asked: String },
    #[error(
        "Vault refuses the token of {source_of_it}: it has expired, was revoked, or has not the policy of deploy/vault/policy.hcl; {remedy}"
    )]
    TokenRefused { source_of_it: String, remedy: &'static str },
    #[error("Vault refuses the login with {method} (status {status}); {remedy}")]
    LoginRefused {
        method: &'static str,
        status: u16,
        remedy: String,
    },
    #[error("{} cannot be used: {cause}", .path.display())]
    File { path: PathBuf, cause: String },
    #[error(
        "Vault has no secrets engine at {mount}/; an administrator of Vault must enable KV version 2 there, or vault-mount must name another"
    )]
    NoEngine { mount: String },
    #[error(
        "the secrets engine at {mount}/ is not KV version 2; an administrator of Vault must upgrade it, or vault-mount must name another"
    )]
    NotVersioned { mount: String },
    #[error(
        "the secrets engine at {mount}/ is set to keep {kept} versions of a value, so that replaced and deleted secrets could still be read; an administrator of Vault must set its max_versions to 1, or vault-mount must name another"
    )]
    KeepsVersions { mount: String, kept: u64 },
    #[error(
        "the secrets engine at {mount}/ is set to delete values after {after}, so that secrets would be lost; an administrator of Vault must set its delete_version_after to 0s, or vault-mount must name another"
    )]
    DeletesVersions { mount: String, after: String },
    #[error(
        "Vault has no key {key} in a Transit engine at {mount}/; an administrator of Vault must make it (deploy/vault/README.md), or vault-transit-key and vault-transit-mount must name another"
    )]
    NoTransitKey { mount: String, key: String },
    #[error(
        "Vault denies {asked}; an administrator of Vault must make the key {key}, if it does not exist (deploy/vault/README.md), or give the token the policy that allows its use (deploy/vault/transit-policy.hcl)"
    )]
    TransitDenied { asked: String, key: String },
    #[error(
        "Vault does not decrypt {file}: it was wrapped with another key than {key}, for another file, or was changed; restore it from the backup, or name the key that it was wrapped with"
    )]
    NotWrapped { file: String, key: String },
    #[error("Vault failed (status {0}); its log says why")]
    Failed(u16),
    #[error("what answers at vault-address is not Vault, or a proxy changes its answers")]
    NotVault,
    #[error("Vault's answer has more than {MAX_ANSWER} bytes")]
    TooLong,
}

impl Failure {
    pub(super) fn file(path: &std::path::Path, cause: impl ToString) -> Self {
        Self::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// Whether Vault may answer later without anybody changing a setting.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Slow
                | Self::Sealed
                | Self::NotInitialized
                | Self::Standby
                | Self::RateLimited
                | Self::Failed(_)
        )
    }

    /// Of a request that got no answer.
    pub(super) fn transport(error: &reqwest::Error) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::Slow;
        }
        // The innermost cause says what happened; the outer ones repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        match cause.downcast_ref::<io::Error>() {
            Some(error) if error.kind() == io::ErrorKind::TimedOut => Self::Slow,
            _ => Self::Unreachable(cause.to_string()),
        }
    }

    /// Of an answer that is not a success. `asked` is what was asked for, for example `GET on secret/data/a`.
    pub(super) fn answered(status: StatusCode, body: &[u8], asked: &str, mount: &str) -> Self {
        let says = |text: &str| errors(body).iter().any(|error| error.contains(text));
        match status.as_u16() {
            403 => Self::Denied {
                asked: asked.to_owned(),
            },
            404 if says("no handler for route") => Self::NoEngine {
                mount: mount.to_owned(),
            },
            429 => Self::RateLimited,
            501 => Self::NotInitialized,
            503 if says("sealed") => Self::Sealed,
            301 | 302 | 307 | 308 | 412 | 472 | 473 => Self::Standby,
            500 if says("node not active") => Self::Standby,
            status => Self::Failed(status),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.to_string())
    }
}

/// The errors that an answer of Vault lists. They are compared, never repeated: they could hold a part of the request.
pub(super) fn errors(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(body).map_or_else(|_| Vec::new(), |body| body.errors)
}
