//! A certificate chain and its private key, in PEM files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

/// The files, and the options that name them.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: Named,
    pub(crate) key: Named,
}

/// A file, and the option that names it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) option: &'static str,
    pub(crate) path: PathBuf,
}

/// What the files contain.
pub(crate) struct Contents {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl Files {
    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Contents, String> {
        Ok(Contents {
            chain: self.certificate.read()?,
            key: Zeroizing::new(self.key.read()?),
        })
    }

    /// Warns if other users of this machine can read the key. No error: Kubernetes mounts files that belong to root and are readable by a group.
    pub(crate) fn warn_if_exposed(&self) {
        if let Some(mode) = exposed(&self.key.path) {
            let Named { option, path } = &self.key;
            tracing::warn!(
                "{option} {} can be read by other users (mode {mode:03o}), who can then pretend to be this server: `chmod 600` it",
                path.display()
            );
        }
    }

    /// The certificate chain and its key, if they match.
    pub(crate) fn certified(&self, contents: &Contents, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&contents.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{certificate} is not a PEM file: {error}"))?;
        if chain.is_empty() {
            return Err(format!("{certificate} contains no PEM certificate"));
        }
        let private = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| format!("{key} contains no PEM private key: {error}"))?;
        CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => format!("{certificate} and {key} do not match"),
            other => format!("{certificate} and {key} cannot be used: {other}"),
        })
    }
}

impl Named {
    fn read(&self) -> Result<Vec<u8>, String> {
        fs::read(&self.path).map_err(|error| format!("{self} cannot be read: {error}"))
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.option, self.path.display())
    }
}

/// The mode of a file that users other than its owner may read or change.
fn exposed(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_key_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        fs::write(&key, "").unwrap();
        for (mode, noticed) in [(0o600, None), (0o400, None), (0o640, Some(0o640)), (0o644, Some(0o644))] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposed(&key), noticed);
        }
    }
}
