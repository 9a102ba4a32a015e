//! Wraps keys with a key of Vault's Transit engine, which never leaves Vault. What is wrapped can be kept on a disk.

use std::fmt;

use data_encoding::BASE64;
use rustify::Endpoint;
use zeroize::Zeroizing;

use super::{
    client::Answer,
    failure::Failure,
    session::Session,
    settings::{Settings, SettingsError},
    wire::{Crypt, Data, Decrypted, Encrypted, decoded},
};
use crate::config::{TransitConfig, VaultConfig};

/// What every wrapped key begins with.
const MARK: &str = "vault:v";

/// A key of the Transit engine.
pub struct Transit {
    session: Session,
    mount: String,
    key: String,
}

/// Why Vault did not wrap or unwrap a key. The text is for operators.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TransitError(#[from] Failure);

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transit").finish_non_exhaustive()
    }
}

impl TransitError {
    /// Whether Vault may answer later without anybody changing a setting.
    pub fn is_transient(&self) -> bool {
        self.0.is_transient()
    }
}

impl Transit {
    /// Checks all settings, and connects to nothing.
    ///
    /// # Errors
    /// If a setting is wrong; the text has a line for each.
    pub fn new(vault: VaultConfig, transit: TransitConfig) -> Result<Self, SettingsError> {
        let TransitConfig { mount, key } = transit;
        let Settings { client, login, .. } = Settings::with_transit(vault, &mount, &key)?;
        Ok(Self {
            session: Session::new(client, login),
            mount,
            key,
        })
    }

    /// Whether this is a wrapped key.
    pub fn is_wrapped(content: &[u8]) -> bool {
        content.starts_with(MARK.as_bytes())
    }

    /// Wraps the content of a key file, with the latest version of the key.
    ///
    /// # Errors
    /// If Vault does not do it.
    pub async fn wrap(&self, file: &str, content: &[u8]) -> Result<String, TransitError> {
        let plaintext = Zeroizing::new(BASE64.encode(content));
        let request = || self.request("encrypt", "plaintext", &plaintext, file);
        let answer = self.ask(request).await?.success()?;
        let Data { data } = answer.parse::<Data<Encrypted>>()?;
        Ok(data.ciphertext)
    }

    /// The content that was wrapped for this file.
    ///
    /// # Errors
    /// If Vault does not do it.
    pub async fn unwrap(&self, file: &str, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, TransitError> {
        let not_wrapped = || Failure::NotWrapped {
            file: file.to_owned(),
            key: self.key.clone(),
        };
        let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, ':' | '+' | '/' | '=');
        if !wrapped.chars().all(is_plain) {
            return Err(not_wrapped().into());
        }
        let request = || self.request("decrypt", "ciphertext", wrapped, file);
        let answer = self.ask(request).await?;
        if answer.status() == 400 {
            return Err(not_wrapped().into());
        }
        let answer = answer.success()?;
        let Data { data } = answer.parse::<Data<Decrypted<'_>>>()?;
        Ok(decoded(data.plaintext).ok_or(Failure::NotVault)?)
    }

    /// Whether both are wrapped with the same version of the key.
    pub fn is_same_version(one: &str, other: &str) -> bool {
        let version = |wrapped: &str| {
            wrapped
                .strip_prefix(MARK)
                .and_then(|rest| rest.split(':').next().map(str::to_owned))
        };
        version(one) == version(other)
    }

    fn request<'a>(&self, what: &str, field: &'static str, value: &'a str, file: &str) -> Crypt<'a> {
        Crypt {
            path: format!("{}/{what}/{}", self.mount, self.key),
            field,
            value,
            context: BASE64.encode(file.as_bytes()),
        }
    }

    async fn ask<E: Endpoint>(&self, request: impl Fn() -> E) -> Result<Answer, Failure> {
        let answer = self.session.ask(request).await?;
        match answer.status() {
            403 => Err(match answer.failure() {
                // Vault denies the use of a key that does not exist, too: it would make the key.
                Failure::Denied { asked } => Failure::TransitDenied {
                    asked,
                    key: self.key.clone(),
                },
                other => other,
            }),
            404 => Err(Failure::NoTransitKey {
                mount: self.mount.clone(),
                key: self.key.clone(),
            }),
            _ => Ok(answer),
        }
    }
}
