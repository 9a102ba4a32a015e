//! TLS of the harness's own clients.

/// Chooses the crypto provider of this process once, as `main` does in a program.
pub fn install_crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
