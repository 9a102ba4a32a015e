//! TLS for the clients of the harness, and certificates for servers.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// Installs the crypto provider once per process, as `main` does in a program.
pub fn install_crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// A certificate authority, and a certificate it has issued for `localhost`: `authority.pem`, `cert.pem` and `key.pem`.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
    /// The certificate of the authority, in PEM.
    pub authority: String,
}

impl Certificates {
    /// A new authority.
    ///
    /// # Panics
    /// If there is no place for the files.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let key = || KeyPair::generate().expect("there is randomness");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate that names its issuer as it is named itself for one that signs itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of a test");
        let authority = CertifiedIssuer::self_signed(params, key()).expect("it signs");
        let key = key();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &authority).expect("it signs");
        let authority = authority.pem();
        let files = [
            ("authority.pem", authority.clone()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("the folder is ours");
        }
        Self { folder, authority }
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
