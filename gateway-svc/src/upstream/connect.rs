//! Connections to upstreams: addresses are checked when they are connected to, and exactly the checked ones are used.

use std::{
    error::Error as StdError,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use service_kit::egress::EgressPolicy;
use tokio::net::{TcpStream, UnixStream};

/// The suffix of host names that represent Unix sockets in the pool's URIs.
const SOCKET_SUFFIX: &str = ".socket.invalid";

/// The URI by which the pool knows a Unix socket.
pub(super) fn unix_uri(socket: &str) -> Option<Uri> {
    let authority = HEXLOWER.encode(socket.as_bytes()) + SOCKET_SUFFIX;
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/mcp")
        .build()
        .ok()
}

/// Why there is no connection, for people.
pub(super) fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut source = Some(error);
    let mut last = error.to_string();
    while let Some(error) = source {
        if let Some(refused) = error.downcast_ref::<ConnectError>() {
            return refused.to_string();
        }
        last = error.to_string();
        source = error.source();
    }
    last
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{host} has no address: {error}")]
    Resolve { host: String, error: io::Error },
    // Without the address: users must not learn what a name resolves to in the operator's network.
    #[error("{host}: {why}")]
    Refused { host: String, why: &'static str },
    #[error("{host}: {error}")]
    Connect { host: String, error: io::Error },
    #[error("{host} did not accept the connection in time")]
    Timeout { host: String },
    #[error("its URL has no host")]
    NoHost,
}

/// Opens connections for the pool.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    /// Where it connects; without one anywhere, and to Unix sockets.
    pub(super) policy: Option<Arc<EgressPolicy>>,
    /// How long connecting may take.
    pub(super) connect: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { policy, connect } = self.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .ok_or(ConnectError::NoHost)?
                .trim_matches(['[', ']'])
                .to_owned();
            match tokio::time::timeout(connect, open(&uri, &host, policy.as_deref())).await {
                Ok(opened) => Ok(TokioIo::new(opened?)),
                Err(_) => Err(ConnectError::Timeout { host }.into()),
            }
        })
    }
}

async fn open(uri: &Uri, host: &str, policy: Option<&EgressPolicy>) -> Result<Stream, ConnectError> {
    // Only what the orchestrator reports may be a socket; it has no policy.
    if let Some(name) = host.strip_suffix(SOCKET_SUFFIX)
        && policy.is_none()
    {
        let path = HEXLOWER
            .decode(name.as_bytes())
            .ok()
            .and_then(|path| String::from_utf8(path).ok());
        let path = path.map(PathBuf::from).ok_or(ConnectError::NoHost)?;
        let connected = UnixStream::connect(path).await;
        return connected.map(Stream::Unix).map_err(|error| ConnectError::Connect {
            host: "its socket".to_owned(),
            error,
        });
    }
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| ConnectError::Resolve {
            host: host.to_owned(),
            error,
        })?
        .collect();
    // One forbidden address among several may be an attack: none is connected to.
    if let Some(policy) = policy
        && let Some(refused) = addresses.iter().find(|address| !policy.permits(address.ip()))
    {
        tracing::info!(server.host = host, server.address = %refused.ip(), "an upstream has an address that is not allowed");
        return Err(ConnectError::Refused {
            host: host.to_owned(),
            why: policy.refusal_of_name(),
        });
    }
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => failed = error,
        }
    }
    Err(ConnectError::Connect {
        host: host.to_owned(),
        error: failed,
    })
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
