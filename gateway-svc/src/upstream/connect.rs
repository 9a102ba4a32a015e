//! Connections to upstreams: addresses are checked when they are connected to, and exactly the checked ones are used.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, dns::Name},
    rt::TokioIo,
};
use service_kit::egress::EgressPolicy;
use tokio::net::{TcpStream, UnixStream};
use tower::Service as _;

/// After this silence, a server is asked whether it is still there; it has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
    if let Some(refused) = refused(error) {
        return refused.to_string();
    }
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// What was found wrong here, which other errors may contain.
fn refused(error: &(dyn StdError + 'static)) -> Option<ConnectError> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(refused) = error.downcast_ref::<ConnectError>() {
            return Some(refused.clone());
        }
        source = error.source();
    }
    None
}

#[derive(Clone, Debug, thiserror::Error)]
enum ConnectError {
    #[error("{host} has no address: {why}")]
    Resolve { host: String, why: String },
    // Without the address: users must not learn what a name resolves to in the operator's network.
    #[error("{host}: {why}")]
    Refused { host: String, why: &'static str },
    #[error("{host}: {why}")]
    Connect { host: String, why: String },
    #[error("{host} did not accept the connection in time")]
    Timeout { host: String },
    #[error("its URL has no host")]
    NoHost,
}

/// Opens connections for the pool, with TLS to those servers that have it.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Plain>,
    /// How long all of it may take.
    within: Duration,
}

impl Connector {
    /// TLS is that of `https`.
    pub(super) const fn new(https: HttpsConnector<Plain>, within: Duration) -> Self {
        Self { https, within }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<Stream>>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, within) = (self.https.call(uri.clone()), self.within);
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectError::Timeout { host: host(&uri)? }.into()),
            }
        })
    }
}

/// A name, or an address.
fn host(uri: &Uri) -> Result<String, ConnectError> {
    let host = uri.host().ok_or(ConnectError::NoHost)?;
    Ok(host.trim_matches(['[', ']']).to_owned())
}

/// Opens connections without TLS.
#[derive(Clone)]
pub(super) struct Plain {
    policy: Option<Arc<EgressPolicy>>,
    /// Tries addresses of both families side by side where the first do not answer.
    tcp: HttpConnector<Checked>,
}

impl Plain {
    /// Connects where `policy` permits; without one anywhere, and to Unix sockets.
    pub(super) fn new(policy: Option<Arc<EgressPolicy>>, within: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Checked(policy.clone()));
        // TLS is the caller's.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(within));
        // A stream may be silent for long; that its server has gone is noticed all the same.
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE / 4));
        tcp.set_keepalive_retries(Some(4));
        Self { policy, tcp }
    }

    async fn open(&mut self, uri: Uri, host: &str) -> Result<Stream, ConnectError> {
        // Only what the orchestrator reports may be a socket; it has no policy.
        if let Some(name) = host.strip_suffix(SOCKET_SUFFIX)
            && self.policy.is_none()
        {
            let path = HEXLOWER
                .decode(name.as_bytes())
                .ok()
                .and_then(|path| String::from_utf8(path).ok());
            let path = path.map(PathBuf::from).ok_or(ConnectError::NoHost)?;
            let connected = UnixStream::connect(path).await;
            return connected.map(Stream::Unix).map_err(|error| ConnectError::Connect {
                host: "its socket".to_owned(),
                why: error.to_string(),
            });
        }
        // An address is not resolved.
        if let Ok(address) = host.parse::<IpAddr>() {
            check(self.policy.as_deref(), host, &[address])?;
        }
        match self.tcp.call(uri).await {
            Ok(stream) => Ok(Stream::Tcp(stream.into_inner())),
            Err(error) => Err(refused(&error).unwrap_or_else(|| ConnectError::Connect {
                host: host.to_owned(),
                why: cause(&error),
            })),
        }
    }
}

impl tower::Service<Uri> for Plain {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let host = host(&uri)?;
            Ok(TokioIo::new(this.open(uri, &host).await?))
        })
    }
}

/// Resolves names to addresses that may be connected to.
#[derive(Clone)]
struct Checked(Option<Arc<EgressPolicy>>);

impl tower::Service<Name> for Checked {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            let resolved = tokio::net::lookup_host((host, 0)).await;
            let addresses: Vec<SocketAddr> = resolved
                .map_err(|error| ConnectError::Resolve {
                    host: host.to_owned(),
                    why: error.to_string(),
                })?
                .collect();
            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            check(policy.as_deref(), host, &ips)?;
            Ok(addresses.into_iter())
        })
    }
}

/// One forbidden address among several may be an attack: none is connected to.
fn check(policy: Option<&EgressPolicy>, host: &str, addresses: &[IpAddr]) -> Result<(), ConnectError> {
    let Some(policy) = policy else { return Ok(()) };
    match addresses.iter().find(|address| !policy.permits(**address)) {
        None => Ok(()),
        Some(refused) => {
            tracing::info!(server.host = host, server.address = %refused, "an upstream has an address that is not allowed");
            Err(ConnectError::Refused {
                host: host.to_owned(),
                why: policy.refusal_of_name(),
            })
        }
    }
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
