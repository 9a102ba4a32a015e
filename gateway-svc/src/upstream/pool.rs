//! Connections that are kept and used again, for one call at a time, and that the call itself drives.
//!
//! With a task for each connection, as is usual, every call goes from its own task to that one and back several times; here it
//! stays in its own. An idle connection is checked when it is used again, and closed after a while.

use std::{
    collections::HashMap,
    error::Error as StdError,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery},
};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use service_kit::egress::EgressPolicy;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::connect::{Connector, Stream};

/// How long a connection may be idle and still be used again: servers and intermediaries close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(55);
const REAP: Duration = Duration::from_secs(15);
/// Connections kept for each server and thread.
const KEPT: usize = 128;

type Io = MaybeHttpsStream<TokioIo<Stream>>;

/// A pool of connections.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connector: HttpsConnector<Connector>,
    idle: Mutex<HashMap<Origin, Vec<(Instant, Connection)>>>,
    reaps: AtomicBool,
}

/// What a connection can be used for again: the same server, by the same thread. Another thread may belong to another runtime, and
/// the one in which the connection was opened would have to wake it for every answer.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Origin {
    thread: ThreadId,
    tls: bool,
    authority: Authority,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolError {
    /// There is no connection.
    #[error("there is no connection")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection failed.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
}

impl Pool {
    /// A pool that connects only where `policy` permits; anywhere, and to Unix sockets, without one.
    pub(super) fn new(policy: Option<Arc<EgressPolicy>>, connect: Duration) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .expect("the provider supports the default protocol versions")
            .https_or_http()
            // Not HTTP/2: on a shared connection one caller who reads slowly would hold up all others of the same server.
            .enable_http1()
            .wrap_connector(Connector { policy, connect });
        let shared = Shared {
            connector,
            idle: Mutex::default(),
            reaps: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sends a request to an absolute URI; `request` has none, and gets `Host` where it lacks it.
    pub(super) async fn request(
        &self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, PoolError> {
        let origin = origin(uri).ok_or_else(|| PoolError::Connect("its URL has no host".into()))?;
        let path = uri.path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if !request.headers().contains_key(HOST) {
            let host = host(uri).ok_or_else(|| PoolError::Connect("its host cannot be one".into()))?;
            request.headers_mut().insert(HOST, host);
        }
        while let Some(mut connection) = self.shared.take(&origin) {
            match connection.exchange(request).await {
                Ok(response) => return Ok(self.lend(response, connection, origin)),
                // The server closed it while it was idle; none of the request has been sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(PoolError::Exchange(error.into_error())),
                },
            }
        }
        let mut connection = self.connect(uri).await?;
        match connection.exchange(request).await {
            Ok(response) => Ok(self.lend(response, connection, origin)),
            Err(error) => Err(PoolError::Exchange(error.into_error())),
        }
    }

    fn lend(&self, response: Response<Incoming>, connection: Connection, origin: Origin) -> Response<Body> {
        response.map(|incoming| Body {
            incoming,
            ended: false,
            lent: Some((connection, origin)),
            pool: Arc::clone(&self.shared),
        })
    }

    async fn connect(&self, uri: &Uri) -> Result<Connection, PoolError> {
        if !self.shared.reaps.swap(true, Ordering::Relaxed) {
            tokio::spawn(reap(Arc::downgrade(&self.shared)));
        }
        let connector = self.shared.connector.clone();
        let io = connector.oneshot(uri.clone()).await.map_err(PoolError::Connect)?;
        let (sender, driver) = http1::handshake(io).await.map_err(PoolError::Exchange)?;
        Ok(Connection {
            sender,
            driver: Some(Box::new(driver)),
        })
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, HashMap<Origin, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to this server that was used last, if it is good still.
    fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().get_mut(origin)?.pop()?;
            if since.elapsed() < IDLE && connection.is_ready() {
                return Some(connection);
            }
        }
    }

    fn put(&self, origin: Origin, connection: Connection) {
        let mut idle = self.idle();
        let kept = idle.entry(origin).or_default();
        if kept.len() < KEPT {
            kept.push((Instant::now(), connection));
        }
    }
}

/// Closes idle connections until the pool is dropped.
async fn reap(pool: Weak<Shared>) {
    loop {
        tokio::time::sleep(REAP).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle().retain(|_, kept| {
            kept.retain(|(since, _)| since.elapsed() < IDLE);
            !kept.is_empty()
        });
    }
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None when the connection has ended.
    driver: Option<Box<http1::Connection<Io, Full<Bytes>>>>,
}

impl Connection {
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let mut response = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        std::future::poll_fn(|cx| {
            drive(driver, cx);
            response.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request can be sent, as far as can be seen.
    fn is_ready(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Goes on with reading and writing. What it fails for, the request or the body is told.
fn drive(driver: &mut Option<Box<http1::Connection<Io, Full<Bytes>>>>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        // A request that it has not taken is given back now.
        *driver = None;
    }
}

/// The body of a response. Once it was read to its end, its connection is kept; one that is dropped before closes it.
pub(super) struct Body {
    incoming: Incoming,
    ended: bool,
    lent: Option<(Connection, Origin)>,
    pool: Arc<Shared>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some((connection, _)) = &mut this.lent
        {
            // It reads only once the body was asked for.
            drive(&mut connection.driver, cx);
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        this.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if (self.ended || self.incoming.is_end_stream())
            && let Some((mut connection, origin)) = self.lent.take()
            && connection.is_ready()
        {
            self.pool.put(origin, connection);
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

fn origin(uri: &Uri) -> Option<Origin> {
    Some(Origin {
        thread: thread::current().id(),
        tls: uri.scheme_str() == Some("https"),
        authority: uri.authority()?.clone(),
    })
}

/// `Host` (RFC 9110, section 7.2), without a port that the scheme has anyway.
fn host(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?;
    let implied = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = match authority.port_u16() {
        Some(port) if port != implied => authority.as_str(),
        _ => authority.host(),
    };
    HeaderValue::from_str(host).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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

    #[test]
    fn names_the_host_as_http_requires() {
        for (uri, wanted) in [
            ("http://a.example/mcp", "a.example"),
            ("http://a.example:80/mcp", "a.example"),
            ("https://a.example:443/mcp", "a.example"),
            ("https://a.example:80/mcp", "a.example:80"),
            ("http://[::1]:4000/mcp", "[::1]:4000"),
        ] {
            assert_eq!(host(&uri.parse().unwrap()).unwrap(), wanted);
        }
    }
}
