//! The keys in the data folder. With a key of Vault's Transit engine, they are wrapped: the files are of no use to whoever has them, unless
//! Vault unwraps them.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use credential_svc::{Transit, TransitError};
use service_kit::keys::{self, KeyFileError, Ring};

use crate::data_dir::DataDir;

/// How often Vault is asked again while it does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// The keys of a data folder.
pub(crate) struct Keys<'a> {
    folder: &'a Path,
    transit: Option<Transit>,
    /// Whether to wait until Vault answers.
    waits: bool,
}

impl<'a> Keys<'a> {
    /// Of a server that starts. It waits until Vault answers, which may start later.
    pub(crate) fn of_server(folder: &'a DataDir, transit: Option<Transit>) -> Self {
        Self {
            folder: folder.path(),
            transit,
            waits: true,
        }
    }

    /// Of a command.
    pub(crate) fn of_command(folder: &'a DataDir, transit: Option<Transit>) -> Self {
        Self {
            folder: folder.path(),
            transit,
            waits: false,
        }
    }

    /// The keys of a file, which is created if it does not exist.
    pub(crate) async fn open(&self, name: &str) -> Result<Ring, Box<dyn Error>> {
        if let Some(ring) = self.existing(name).await? {
            return Ok(ring);
        }
        keys::create(&self.path(name), &self.content(name, &Ring::random()?).await?)?;
        // If another process was faster, its key is used.
        let made = self.existing(name).await?;
        Ok(made.ok_or_else(|| KeyFileError::Io {
            path: self.path(name),
            source: std::io::ErrorKind::NotFound.into(),
        })?)
    }

    /// The keys of a file; `None` if it does not exist. A file that is not wrapped, or with an earlier version of Vault's key, is wrapped anew.
    pub(crate) async fn existing(&self, name: &str) -> Result<Option<Ring>, Box<dyn Error>> {
        let path = self.path(name);
        let Some(content) = keys::read(&path)? else {
            return Ok(None);
        };
        let Some(transit) = &self.transit else {
            if Transit::is_wrapped(&content) {
                return Err(format!(
                    "{} is wrapped with a key of Vault: name it with --vault-transit-key",
                    path.display()
                )
                .into());
            }
            return Ok(Ring::existing(&path)?);
        };
        if !Transit::is_wrapped(&content) {
            let ring = Ring::existing(&path)?;
            if let Some(ring) = &ring {
                self.save(name, ring).await?;
                tracing::warn!(
                    "{} is wrapped with the key of Vault now; if others may have copied it before, run `chandlery rotate-keys --revoke` with the same options for Vault",
                    path.display()
                );
            }
            return Ok(ring);
        }
        let wrapped = std::str::from_utf8(&content).unwrap_or_default().trim();
        let unwrapped = self.ask(|| transit.unwrap(name, wrapped)).await?;
        let ring = Ring::decode(&unwrapped).ok_or(KeyFileError::Damaged {
            path,
            what: "what it holds, wrapped, are no keys with their ids",
        })?;
        let latest = self.content(name, &ring).await?;
        if !std::str::from_utf8(&latest).is_ok_and(|latest| Transit::is_same_version(latest, wrapped)) {
            keys::replace(&self.path(name), &latest)?;
            tracing::info!("{name} is wrapped with the latest version of the key of Vault now");
        }
        Ok(Some(ring))
    }

    /// Replaces the keys of a file.
    pub(crate) async fn save(&self, name: &str, ring: &Ring) -> Result<(), Box<dyn Error>> {
        Ok(keys::replace(&self.path(name), &self.content(name, ring).await?)?)
    }

    async fn content(&self, name: &str, ring: &Ring) -> Result<Vec<u8>, Box<dyn Error>> {
        let plain = ring.encode();
        let Some(transit) = &self.transit else {
            return Ok(plain.to_vec());
        };
        let mut wrapped = self.ask(|| transit.wrap(name, &plain)).await?;
        wrapped.push('\n');
        Ok(wrapped.into_bytes())
    }

    async fn ask<T, F: Future<Output = Result<T, TransitError>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T, TransitError> {
        let mut said = String::new();
        loop {
            match request().await {
                Err(error) if self.waits && error.is_transient() => {
                    let now = error.to_string();
                    if now != said {
                        tracing::error!(error = %now, "the keys of this server cannot be unwrapped yet");
                        said = now;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use credential_svc::{TransitConfig, VaultConfig, VaultLogin};
    use serde_json::json;
    use service_kit::{not_run, testing::OpenBao};

    use super::*;

    #[tokio::test]
    async fn keeps_the_keys_of_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataDir::open(parent.path()).unwrap();
        let keys = Keys::of_command(&folder, None);
        assert!(keys.existing("a.key").await.unwrap().is_none());
        let ids = keys.open("a.key").await.unwrap().ids();
        assert_eq!(keys.open("a.key").await.unwrap().ids(), ids);
        assert_ne!(keys.open("b.key").await.unwrap().ids(), ids);
        let file = parent.path().join("a.key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert!(keys.open("a.key").await.unwrap_err().to_string().contains("damaged"));
    }

    fn transit(bao: &OpenBao, token: &str, key: &str) -> Option<Transit> {
        let vault = VaultConfig {
            address: bao.address().to_owned(),
            ca: None,
            namespace: None,
            mount: "secret".to_owned(),
            prefix: "chandlery".to_owned(),
            login: VaultLogin::Token(token.into()),
            former_data_dir: None,
        };
        let key = TransitConfig {
            mount: "transit".to_owned(),
            key: key.to_owned(),
        };
        Some(Transit::new(vault, key).unwrap())
    }

    #[tokio::test]
    async fn wraps_keys_with_a_key_that_stays_in_vault() {
        let Some(program) = not_run::openbao() else { return };
        let bao = OpenBao::start(program, None).await;
        bao.set_up("POST", "sys/mounts/transit", json!({"type": "transit"}))
            .await;
        for key in ["chandlery", "other"] {
            bao.set_up("POST", &format!("transit/keys/{key}"), json!({})).await;
        }
        let policy = include_str!("../../vault/transit-policy.hcl");
        bao.set_up("POST", "sys/policies/acl/transit", json!({"policy": policy}))
            .await;
        let token = bao.token(&["transit"], 3_600, true).await;
        let parent = tempfile::tempdir().unwrap();
        let folder = DataDir::open(parent.path()).unwrap();
        let file = parent.path().join("a.key");
        let content = || fs::read_to_string(&file).unwrap();

        // A key that was there before is wrapped.
        let ids = Keys::of_command(&folder, None).open("a.key").await.unwrap().ids();
        let keys = Keys::of_command(&folder, transit(&bao, &token, "chandlery"));
        for _ in 0..2 {
            assert_eq!(keys.open("a.key").await.unwrap().ids(), ids);
            assert!(content().starts_with("vault:v1:"), "{}", content());
        }
        // So is a new one.
        let new = keys.open("b.key").await.unwrap().ids();
        assert_eq!(keys.open("b.key").await.unwrap().ids(), new);
        // Vault's key is rotated: the file is wrapped with the new version, and the keys stay.
        bao.set_up("POST", "transit/keys/chandlery/rotate", json!({})).await;
        assert_eq!(keys.open("a.key").await.unwrap().ids(), ids);
        assert!(content().starts_with("vault:v2:"), "{}", content());

        // One file cannot take the place of another.
        let wrapped = content();
        fs::copy(parent.path().join("b.key"), &file).unwrap();
        let refused = async |keys: &Keys<'_>| keys.open("a.key").await.unwrap_err().to_string();
        assert!(refused(&keys).await.contains("wrapped with another key"));
        fs::write(&file, &wrapped).unwrap();
        // Without Vault, with another key, or with one that there is not, it is of no use.
        let without = refused(&Keys::of_command(&folder, None)).await;
        assert!(without.contains("--vault-transit-key"), "{without}");
        for (key, told) in [
            ("other", "transit-policy.hcl"),
            ("nothing", "must make the key nothing"),
        ] {
            let told_ = refused(&Keys::of_command(&folder, transit(&bao, &token, key))).await;
            assert!(told_.contains(told), "{told_}");
        }
        let root = bao.root_token();
        for (key, told) in [
            ("other", "wrapped with another key"),
            ("nothing", "wrapped with another key"),
        ] {
            let told_ = refused(&Keys::of_command(&folder, transit(&bao, root, key))).await;
            assert!(told_.contains(told), "{told_}");
        }
        bao.seal().await;
        assert!(refused(&keys).await.contains("sealed"));
        assert_eq!(content(), wrapped);
    }
}
