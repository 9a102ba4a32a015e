//! For tests of the services: a small OIDC issuer, and apps served over pipes. Behind the feature `testing`.

mod issuer;
mod served;

pub use issuer::{AUDIENCE, TestIssuer};
pub use served::Served;

/// What `main` does first; more than once does no harm.
pub fn install_tls_provider() {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
