//! Helpers for the tests of the services: a small OIDC issuer, apps served over pipes, and servers of others. Requires the
//! feature `testing`.

mod issuer;
mod openbao;
mod served;

pub use issuer::{AUDIENCE, TestIssuer};
pub use openbao::OpenBao;
pub use served::Served;

/// Installs the TLS provider, as `main` does. Further calls have no effect.
pub fn install_tls_provider() {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
