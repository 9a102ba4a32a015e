//! Whom outgoing connections trust: the certificate authorities of the system, and those of the organization.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Certificate authorities of an organization's own (`--upstream-ca`). Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OwnRoots(Arc<[CertificateDer<'static>]>);

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OwnRootsError {
    /// It cannot be read, or is not PEM.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// It has no certificate, or one that is none of an authority.
    #[error("{}: {why}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

impl OwnRoots {
    /// Those of files, each with one certificate or more in PEM.
    pub fn read(files: &[PathBuf]) -> Result<Self, OwnRootsError> {
        let mut all = Vec::new();
        for file in files {
            all.extend(read(file)?);
        }
        Ok(Self(all.into()))
    }

    /// The certificates, in DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| &**certificate)
    }

    /// With those of the system; where it has none, with those that browsers trust.
    pub fn with_system(&self) -> RootCertStore {
        static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
            let mut system = RootCertStore::empty();
            // Stores have certificates that are good for nothing here.
            system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if system.is_empty() {
                system.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            system
        });
        let mut roots = SYSTEM.clone();
        roots.add_parsable_certificates(self.0.iter().cloned());
        roots
    }
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, OwnRootsError> {
    let unreadable = |source| OwnRootsError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let unusable = |why: String| OwnRootsError::Unusable {
        file: file.to_owned(),
        why,
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unusable("it has no certificate in PEM".to_owned()));
    }
    let mut checked = RootCertStore::empty();
    for certificate in &certificates {
        let added = checked.add(certificate.clone());
        added.map_err(|error| unusable(format!("it has a certificate that cannot be trusted: {error}")))?;
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let pem = || {
            let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
            made.cert.pem()
        };
        let two = file("two.pem", &(pem() + &pem()));
        let own = OwnRoots::read(&[two, file("one.pem", &pem())]).unwrap();
        assert_eq!(own.certificates().count(), 3);
        let system = OwnRoots::default().with_system().len();
        assert!(system > 0);
        assert_eq!(own.with_system().len(), system + 3);
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, why) in [("", "has no certificate"), (garbled, "cannot be trusted")] {
            let error = OwnRoots::read(&[file("odd.pem", text)]).unwrap_err().to_string();
            assert!(error.contains("odd.pem") && error.contains(why), "{error}");
        }
        assert!(OwnRoots::read(&[folder.path().join("none.pem")]).is_err());
    }
}
