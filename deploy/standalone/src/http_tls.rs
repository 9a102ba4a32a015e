//! TLS for HTTP. The certificate is read again when its files change.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::certificate::{Contents, Files, Named};

/// How often the files are read. Where a folder of them is replaced at once (Kubernetes, cert-manager), no notice of the files themselves comes.
const EVERY: Duration = Duration::from_secs(2);

/// TLS for HTTP, with the certificate in these files.
pub(crate) struct HttpTls {
    files: Files,
    /// What the files had when they were last read, so that what is wrong with them is logged once.
    read: Result<[u8; 32], String>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

impl HttpTls {
    /// Reads the certificate chain and its key.
    pub(crate) fn configured((certificate, key): (PathBuf, PathBuf)) -> Result<Self, String> {
        let named = |option, path| Named { option, path };
        let files = Files {
            certificate: named("--tls-cert", certificate),
            key: named("--tls-key", key),
        };
        let contents = files.read()?;
        files.warn_if_exposed();
        let builder = ServerConfig::builder();
        let certified = files.certified(&contents, builder.crypto_provider())?;
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(|error| format!("no keys for TLS session tickets: {error}"))?;
        Ok(Self {
            read: Ok(digest(&contents)),
            files,
            current,
            config: Arc::new(config),
        })
    }

    /// The configuration, in which the certificate changes.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Follows the files until `stop` is cancelled.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
            let looked = spawn_blocking(move || {
                self.look();
                self
            });
            // It fails only when the process ends.
            let Ok(same) = looked.await else { return };
            self = same;
        }
    }

    /// Uses the certificate in the files if it is another, and if it is good.
    fn look(&mut self) {
        let contents = self.files.read();
        let read = contents.as_ref().map(digest).map_err(Clone::clone);
        if read == self.read {
            return;
        }
        self.read = read;
        let certified = contents.and_then(|contents| self.files.certified(&contents, self.config.crypto_provider()));
        match certified {
            Ok(certified) => {
                self.files.warn_if_exposed();
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                tracing::info!("{}: the new certificate is in use", self.files.certificate);
            }
            Err(error) => tracing::warn!("the certificate in use stays: {error}"),
        }
    }
}

/// Does not keep a copy of the key.
fn digest(contents: &Contents) -> [u8; 32] {
    let chain = Sha256::digest(&contents.chain);
    Sha256::new()
        .chain_update(chain)
        .chain_update(&*contents.key)
        .finalize()
        .into()
}

/// The certificate in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Writes a new certificate and its key, and returns the certificate.
    fn issue(folder: &Path) -> Vec<u8> {
        fs::create_dir_all(folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    fn configured(folder: &Path) -> Result<HttpTls, String> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        HttpTls::configured((folder.join("tls.crt"), folder.join("tls.key")))
    }

    fn in_use(tls: &HttpTls) -> Vec<u8> {
        let current = tls.current.0.read().unwrap();
        current.end_entity_cert().unwrap().to_vec()
    }

    #[test]
    fn files_are_checked_at_startup() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |hint: &str| {
            let error = configured(folder.path()).err().unwrap();
            assert!(error.starts_with("--tls-") && error.contains(hint), "{error}");
        };
        refused("cannot be read");
        issue(folder.path());
        assert!(configured(folder.path()).is_ok());
        fs::write(
            folder.path().join("tls.key"),
            KeyPair::generate().unwrap().serialize_pem(),
        )
        .unwrap();
        refused("do not match");
    }

    #[test]
    fn a_changed_certificate_is_used_if_it_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let first = issue(folder.path());
        let mut tls = configured(folder.path()).unwrap();
        tls.look();
        assert_eq!(in_use(&tls), first);

        // One file of two has been written; then a file that is no certificate; then none.
        let (second, key) = (issue(folder.path()), fs::read(folder.path().join("tls.key")).unwrap());
        fs::write(
            folder.path().join("tls.key"),
            KeyPair::generate().unwrap().serialize_pem(),
        )
        .unwrap();
        tls.look();
        assert_eq!(in_use(&tls), first);
        fs::rename(folder.path().join("tls.crt"), folder.path().join("kept")).unwrap();
        tls.look();
        fs::write(folder.path().join("tls.crt"), "none").unwrap();
        tls.look();
        assert_eq!(in_use(&tls), first);

        fs::rename(folder.path().join("kept"), folder.path().join("tls.crt")).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        tls.look();
        assert_eq!(in_use(&tls), second);
    }

    /// As Kubernetes does for a secret: the files are links through a link to a folder, which is replaced by a rename.
    #[test]
    fn a_certificate_behind_a_replaced_link_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let first = issue(&at("..first"));
        symlink("..first", at("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), at(file)).unwrap();
        }
        let mut tls = configured(folder.path()).unwrap();
        assert_eq!(in_use(&tls), first);
        let second = issue(&at("..second"));
        symlink("..second", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        tls.look();
        assert_eq!(in_use(&tls), second);
    }
}
