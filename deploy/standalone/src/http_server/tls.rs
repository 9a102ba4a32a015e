//! TLS of a client's connection.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a handshake may take, however long a client may take for anything else.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Begins TLS on connections.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    /// How long a handshake may take.
    limit: Duration,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            acceptor: TlsAcceptor::from(config),
            limit: HANDSHAKE,
        }
    }

    /// The connection after the handshake, if that succeeds in time.
    pub(super) async fn begin<I>(&self, io: I) -> Option<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        // On the heap: its state is large, and of no use once the connection is served.
        match timeout(self.limit, Box::pin(self.acceptor.accept(io))).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "a TLS handshake has failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake has taken too long");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ResolvesServerCertUsingSni;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn tls(limit: Duration) -> Tls {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificates = Arc::new(ResolvesServerCertUsingSni::new());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        Tls {
            limit,
            ..Tls::new(Arc::new(config))
        }
    }

    #[tokio::test]
    async fn a_client_that_stalls_in_the_handshake_is_given_up() {
        let tls = tls(Duration::from_millis(1));
        // Nothing; the first bytes of a record.
        for sent in [&b""[..], b"\x16\x03\x01"] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(sent).await.unwrap();
            assert!(tls.begin(server).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_speak_tls_is_given_up_at_once() {
        let tls = tls(Duration::MAX);
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(tls.begin(server).await.is_none());
    }
}
