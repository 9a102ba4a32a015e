//! TLS for the clients of the harness.

/// Installs the crypto provider once per process, as `main` does in a program.
pub fn install_crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
