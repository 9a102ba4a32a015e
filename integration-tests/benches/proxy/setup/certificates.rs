//! A certificate authority, and a certificate of it for this machine.

use std::{fs, path::Path};

use integration_tests::tls::install_crypto;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The name in the certificate, beside [`ADDRESS`].
pub(crate) const NAME: &str = "localhost";
const ADDRESS: &str = "127.0.0.1";
/// The files, in PEM.
pub(crate) const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Writes all of it into this folder.
pub(crate) fn write(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for a self-signed one if it has the name of its authority.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = || KeyPair::generate().expect("randomness");
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let params = CertificateParams::new(vec![NAME.to_owned(), ADDRESS.to_owned()]).expect("a name and an address");
    let server = key();
    let certificate = params.signed_by(&server, &authority).expect("a certificate");
    for (file, text) in [
        (AUTHORITY, authority.pem()),
        (CERTIFICATE, certificate.pem()),
        (KEY, server.serialize_pem()),
    ] {
        fs::write(folder.join(file), text).expect("the folder is ours");
    }
}

/// The configuration of a server with the certificate in this folder.
pub(crate) fn server(folder: &Path) -> ServerConfig {
    install_crypto();
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE)).expect("it was written");
    let key = PrivateKeyDer::from_pem_file(folder.join(KEY)).expect("it was written");
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key is that of the certificate")
}
