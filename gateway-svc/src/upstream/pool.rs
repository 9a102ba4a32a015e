//! Connections that are kept and used again: one pool a thread.
//!
//! A call stays on the thread that serves its client (see `http_server.rs`). A connection that another thread has opened would
//! have to wake that thread for every answer: with one pool for all threads, one caller's calls took 144-194 µs in the median
//! beyond the upstream's own time, with one pool a thread 98-107 µs (`just bench`, two cores, 20 rounds).

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use service_kit::egress::EgressPolicy;
use thread_local::ThreadLocal;

use super::connect::Connector;

/// How long a connection may be idle and still be used again: servers and intermediaries close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(55);
/// Connections kept for each server and thread.
const KEPT: usize = 128;

type HttpClient = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// The body of a response. Once it was read to its end, its connection is kept; one that is dropped before closes it.
pub(crate) type Body = Incoming;

/// A pool of connections for each thread.
#[derive(Clone)]
pub(crate) struct Pool {
    connector: HttpsConnector<Connector>,
    clients: Arc<ThreadLocal<HttpClient>>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// There is no connection.
    #[error("there is no connection")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection failed.
    #[error("the exchange broke off")]
    Exchange(#[source] legacy::Error),
}

impl Pool {
    /// A pool that connects only where `policy` permits; anywhere, and to Unix sockets, without one.
    pub(crate) fn new(policy: Option<Arc<EgressPolicy>>, connect: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Without a policy, it is for servers of this machine, which have no TLS.
        let roots = policy.as_ref().map(|policy| policy.roots().with_system());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_root_certificates(roots.unwrap_or_else(RootCertStore::empty))
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            // Not HTTP/2: on a shared connection one caller who reads slowly would hold up all others of the same server.
            .enable_http1()
            .wrap_connector(Connector::new(policy, connect));
        Self {
            connector,
            clients: Arc::default(),
        }
    }

    /// Sends a request to an absolute URI; `request` has none, and gets `Host` where it lacks it. A kept connection that the server
    /// has closed meanwhile is replaced, if nothing of the request was sent on it.
    pub(crate) async fn request(
        &self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, PoolError> {
        *request.uri_mut() = uri.clone();
        let response = self.clients.get_or(|| self.client()).request(request);
        response.await.map_err(|error| match error.is_connect() {
            true => PoolError::Connect(error.into()),
            false => PoolError::Exchange(error),
        })
    }

    fn client(&self) -> HttpClient {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(KEPT)
            .build(self.connector.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Method;
    use http_body_util::BodyExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::Notify,
    };

    use super::*;

    /// Answers `answers` requests on each connection, then closes it; counts connections and tells of each that is closed.
    async fn server(answer: &'static str, answers: usize) -> (Uri, Arc<AtomicUsize>, Arc<Notify>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/mcp?a=b", listener.local_addr().unwrap());
        let (connections, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, tell) = (Arc::clone(&connections), Arc::clone(&closed));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut buffer = vec![0; 4096];
                for _ in 0..answers {
                    let read = stream.read(&mut buffer).await.unwrap();
                    if read == 0 {
                        break;
                    }
                    let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    assert!(request.starts_with("POST /mcp?a=b HTTP/1.1\r\n"), "{request}");
                    assert!(request.contains("host: 127.0.0.1:"), "{request}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                drop(stream);
                tell.notify_one();
            }
        });
        (uri.parse().unwrap(), connections, closed)
    }

    fn pool() -> Pool {
        let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Pool::new(Some(Arc::new(policy)), Duration::from_secs(5))
    }

    async fn post(pool: &Pool, uri: &Uri) -> Result<Response<Body>, PoolError> {
        let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
        *request.method_mut() = Method::POST;
        pool.request(uri, request).await
    }

    const FIXED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

    #[tokio::test]
    async fn keeps_a_connection_whose_answer_was_read() {
        for answer in [FIXED, CHUNKED] {
            let (uri, connections, _) = server(answer, usize::MAX).await;
            let pool = pool();
            for _ in 0..3 {
                let body = post(&pool, &uri).await.unwrap().into_body();
                assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
            }
            assert_eq!(connections.load(Ordering::SeqCst), 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn closes_a_connection_whose_answer_was_not_read() {
        let unfinished = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
        let (uri, connections, closed) = server(unfinished, usize::MAX).await;
        let pool = pool();
        drop(post(&pool, &uri).await.unwrap());
        closed.notified().await;
        post(&pool, &uri).await.unwrap();
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn connects_again_where_the_server_has_closed() {
        let (uri, connections, closed) = server(FIXED, 1).await;
        let pool = pool();
        for expected in 1..=3 {
            let body = post(&pool, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
            closed.notified().await;
            assert_eq!(connections.load(Ordering::SeqCst), expected);
        }
    }

    #[tokio::test]
    async fn tells_a_missing_connection_from_a_broken_one() {
        let (uri, _, _) = server("nonsense\r\n\r\n", 1).await;
        assert!(matches!(post(&pool(), &uri).await, Err(PoolError::Exchange(_))));
        let nobody: Uri = "http://127.0.0.1:1/mcp".parse().unwrap();
        assert!(matches!(post(&pool(), &nobody).await, Err(PoolError::Connect(_))));
    }

    /// A server that an authority of the organization's own has certified.
    #[tokio::test]
    async fn trusts_the_authorities_that_an_operator_names() {
        use rustls::pki_types::PrivatePkcs8KeyDer;

        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let named = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = named.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port())
            .parse()
            .unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // One that does not trust it breaks off.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(FIXED.as_bytes()).await.unwrap();
            }
        });
        let loopback = || EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let within = Duration::from_secs(5);
        let strange = Pool::new(Some(Arc::new(loopback())), within);
        assert!(matches!(post(&strange, &uri).await, Err(PoolError::Connect(_))));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.pem()).unwrap();
        let own = service_kit::roots::OwnRoots::read(&[file.path().to_owned()]).unwrap();
        let trusting = Pool::new(Some(Arc::new(loopback().trusting(own))), within);
        assert_eq!(post(&trusting, &uri).await.unwrap().status(), 200);
    }
}
