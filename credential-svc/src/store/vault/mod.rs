//! The store in Vault, or in OpenBao: one value of a KV version 2 engine for each owner.

mod client;
mod failure;

mod login;
mod place;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod transit;
mod transport;
mod trust;
mod wire;

use std::{fmt, sync::Arc};

use rustify::Endpoint;
use service_kit::turns::off_thread;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use vaultrs::api::kv2::requests::{
    DeleteSecretMetadataRequest, ListSecretsRequest, ReadConfigurationRequest, ReadSecretRequest,
};

use self::{
    client::Answer,
    failure::{Failure, errors},
    place::{KINDS, Place},
    session::Session,
    settings::Settings,
    wire::{Data, Engine, KeepOne, Keys, Write, decoded},
};
pub use self::{
    settings::SettingsError,
    transit::{Transit, TransitError},
};
use super::encoding::{decode, encode};
use crate::{
    config::VaultConfig,
    domain::{
        owner::Owner,
        ports::{Store, StoreError, Version, Written},
        record::Value,
    },
};

/// The largest entry of Vault's integrated storage by default (bytes).
const MAX_ENTRY: usize = 1 << 20;
/// What Vault adds to a value in an entry (bytes).
const ADDED: usize = 4 << 10;

/// The store.
pub(crate) struct VaultStore {
    session: Arc<Session>,
    prefix: String,
    /// Set once the engine was found to be fit for what is written.
    is_fit: OnceCell<()>,
}

impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultStore").finish_non_exhaustive()
    }
}

impl VaultStore {
    /// Checks all settings. Connects to nothing yet: Vault may start later than this service.
    pub(crate) fn new(config: VaultConfig) -> Result<Self, SettingsError> {
        let Settings { client, login, prefix } = Settings::of(config)?;
        let session = Arc::new(Session::new(client, login));
        Ok(Self {
            session,
            prefix,
            is_fit: OnceCell::new(),
        })
    }

    /// Keeps the session alive until the token is cancelled.
    pub(crate) fn keep_session(
        &self,
    ) -> impl FnOnce(CancellationToken) -> futures::future::BoxFuture<'static, ()> + use<> {
        let session = Arc::clone(&self.session);
        move |stop| Box::pin(session.keep(stop))
    }

    async fn ask<E: Endpoint>(&self, request: impl Fn() -> E) -> Result<Answer, Failure> {
        self.session.ask(request).await
    }

    fn mount(&self) -> String {
        self.session.client.mount.clone()
    }

    /// The path of a value below the mount, without `data/` or `metadata/`.
    fn path(&self, owner: &Owner) -> String {
        format!("{}/{}", self.prefix, Place::of(owner).path())
    }

    /// The names in a folder below the prefix, sorted.
    async fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let request = || ListSecretsRequest {
            mount: self.mount(),
            path: format!("{}{folder}", self.prefix),
        };
        let answer = self.ask(request).await?;
        if is_absent(&answer) {
            return Ok(Vec::new());
        }
        let answer = answer.success()?;
        let Data {
            data: Keys { mut keys },
        } = answer.parse()?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Whether the engine keeps one version of each value, and for as long as nobody deletes it.
    async fn check_engine(&self) -> Result<(), Failure> {
        let request = || ReadConfigurationRequest { mount: self.mount() };
        let answer = self.ask(request).await?;
        if is_absent(&answer) {
            return Err(Failure::NotVersioned { mount: self.mount() });
        }
        let answer = answer.success()?;
        let Data { data: engine } = answer.parse::<Data<Engine>>()?;
        // Vault keeps as many versions as the larger setting says, that of the engine or that of the value.
        if engine.max_versions > 1 {
            return Err(Failure::KeepsVersions {
                mount: self.mount(),
                kept: engine.max_versions,
            });
        }
        match engine.delete_version_after.as_str() {
            "0s" => Ok(()),
            _ => Err(Failure::DeletesVersions {
                mount: self.mount(),
                after: engine.delete_version_after,
            }),
        }
    }
}

impl Store for VaultStore {
    async fn read(&self, owner: &Owner) -> Result<Option<(Version, Value)>, StoreError> {
        let path = self.path(owner);
        let request = || ReadSecretRequest {
            mount: self.mount(),
            path: path.clone(),
            version: None,
        };
        let answer = self.ask(request).await?;
        if is_absent(&answer) {
            return Ok(None);
        }
        let mount = self.mount();
        // 404 with a body: the last version was deleted or destroyed.
        let answer = match answer.status() {
            404 if answer.parse::<Data<wire::Version<'_>>>().is_ok() => answer,
            _ => answer.success()?,
        };
        off_thread(answer.body().len(), move || opened(&answer, &format!("{mount}/{path}"))).await
    }

    async fn write(&self, owner: &Owner, expected: Version, value: Value) -> Result<Written, StoreError> {
        self.is_fit.get_or_try_init(|| self.check_engine()).await?;
        let path = self.path(owner);
        let secrets = value.size();
        let encoded = off_thread(secrets, move || encode(value)).await;
        if expected == Version(1) {
            // From now on there are versions that were replaced.
            let request = || KeepOne {
                path: format!("{}/metadata/{path}", self.mount()),
            };
            let answer = self.ask(request).await?;
            if answer.status() == 404 && errors(answer.body()).is_empty() {
                return Ok(Written::Conflict);
            }
            answer.success()?;
        }
        let request = || Write {
            path: format!("{}/data/{path}", self.mount()),
            expected: expected.0,
            encoded: &encoded,
        };
        let answer = self.ask(request).await?;
        if answer.status() < 300 {
            return Ok(Written::Done);
        }
        let says = |text: &str| errors(answer.body()).iter().any(|error| error.contains(text));
        if answer.status() == 400 && says("check-and-set parameter did not match") {
            return Ok(Written::Conflict);
        }
        if answer.status() == 413 || says("value being too large") {
            return Err(too_large(secrets, encoded.len()));
        }
        Err(answer.failure().into())
    }

    async fn delete(&self, owner: &Owner) -> Result<(), StoreError> {
        let request = || DeleteSecretMetadataRequest {
            mount: self.mount(),
            path: self.path(owner),
        };
        let answer = self.ask(request).await?;
        if !is_absent(&answer) {
            answer.success()?;
        }
        Ok(())
    }

    async fn list(&self, after: Option<&Owner>, limit: usize) -> Result<Vec<Owner>, StoreError> {
        let after = after.map(Place::of);
        let mut found = Vec::new();
        for kind in KINDS {
            // What comes after a place of another kind is all or nothing.
            let after = match &after {
                Some(after) if after.kind() > kind => continue,
                Some(after) if after.kind() == kind => Some(after),
                _ => None,
            };
            for folder in self.names(&format!("/{kind}")).await? {
                let Some(shard) = folder.strip_suffix('/') else {
                    continue;
                };
                if after.is_some_and(|after| shard < after.shard.as_str()) {
                    continue;
                }
                for name in self.names(&format!("/{kind}/{shard}")).await? {
                    if after.is_some_and(|after| shard == after.shard && name <= after.name) {
                        continue;
                    }
                    match place::owner(kind, shard, &name) {
                        Some(owner) => found.push(owner),
                        None => {
                            tracing::warn!(
                                "{}/{}/{kind}/{shard}/{name} is not ours; it is ignored",
                                self.mount(),
                                self.prefix
                            );
                        }
                    }
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.session.client.http.renew_trust();
        self.check_engine().await?;
        self.names("").await?;
        Ok(())
    }
}

/// Whether there is nothing at a path. That an engine is not there has the same status, with an error.
fn is_absent(answer: &Answer) -> bool {
    let is_empty = |body: &[u8]| {
        serde_json::from_slice(body).is_ok_and(|body: serde_json::Value| body == serde_json::json!({"errors": []}))
    };
    answer.status() == 404 && is_empty(answer.body())
}

/// The value of an answer to a read.
fn opened(answer: &Answer, path: &str) -> Result<Option<(Version, Value)>, StoreError> {
    let Ok(Data { data: read }) = answer.parse::<Data<wire::Version<'_>>>() else {
        return Err(StoreError::Corrupt(format!(
            "{path} in Vault was not written by Chandlery"
        )));
    };
    let version = read.metadata.version;
    let Some(data) = read.data else {
        let (done, remedy) = match read.metadata.destroyed {
            true => ("destroyed", "the secrets must be deleted, and entered again"),
            false => ("deleted", "undelete it, or delete the secrets and enter them again"),
        };
        return Err(StoreError::Corrupt(format!(
            "version {version} of {path} was {done} in Vault: {remedy}"
        )));
    };
    let encoded = data.value.and_then(decoded);
    let Some(encoded) = encoded else {
        return Err(StoreError::Corrupt(format!(
            "{path} in Vault was not written by Chandlery"
        )));
    };
    Ok(Some((Version(version), decode(&encoded)?)))
}

/// Vault does not say what it accepts; this is what fits into an entry of integrated storage. Secrets are in base64 in the encoding, and
/// the encoding in base64 in the entry.
fn too_large(secrets: usize, encoded: usize) -> StoreError {
    let others = encoded.saturating_sub(secrets.div_ceil(3) * 4);
    let limit = ((MAX_ENTRY - ADDED) / 4 * 3).saturating_sub(others) / 4 * 3;
    StoreError::TooLarge {
        size: secrets,
        limit: limit.min(secrets.saturating_sub(1)),
    }
}
