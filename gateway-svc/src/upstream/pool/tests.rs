//! Over both paths, but where a test says otherwise.

mod hostile;

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
};

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

const PATHS: [HttpPath; 2] = [HttpPath::Own, HttpPath::Hyper];

fn pool(path: HttpPath) -> Pool {
    let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Pool::new(Some(Arc::new(policy)), Duration::from_secs(5), path)
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
    for path in PATHS {
        for answer in [FIXED, CHUNKED] {
            let (uri, connections, _) = server(answer, usize::MAX).await;
            let pool = pool(path);
            for _ in 0..3 {
                let body = post(&pool, &uri).await.unwrap().into_body();
                assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
            }
            assert_eq!(connections.load(Ordering::SeqCst), 1, "{answer}");
        }
    }
}

#[tokio::test]
async fn closes_a_connection_whose_answer_was_not_read() {
    let unfinished = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
    for path in PATHS {
        let (uri, connections, closed) = server(unfinished, usize::MAX).await;
        let pool = pool(path);
        drop(post(&pool, &uri).await.unwrap());
        closed.notified().await;
        post(&pool, &uri).await.unwrap();
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn connects_again_where_the_server_has_closed() {
    for path in PATHS {
        let (uri, connections, closed) = server(FIXED, 1).await;
        let pool = pool(path);
        for expected in 1..=3 {
            let body = post(&pool, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
            closed.notified().await;
            assert_eq!(connections.load(Ordering::SeqCst), expected);
        }
    }
}

#[tokio::test]
async fn tells_a_missing_connection_from_a_broken_one() {
    let nobody: Uri = "http://127.0.0.1:1/mcp".parse().unwrap();
    for path in PATHS {
        let (uri, _, _) = server("nonsense\r\n\r\n", 1).await;
        let broken = post(&pool(path), &uri).await.unwrap_err();
        assert!(
            matches!(broken, PoolError::Exchange(_) | PoolError::Malformed(_)),
            "{broken:?}"
        );
        assert!(matches!(post(&pool(path), &nobody).await, Err(PoolError::Connect(_))));
    }
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
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One that does not trust it breaks off.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while stream.read(&mut [0; 4096]).await.unwrap_or_default() > 0 {
                    stream.write_all(FIXED.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let loopback = || EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    let within = Duration::from_secs(5);
    for path in PATHS {
        let strange = Pool::new(Some(Arc::new(loopback())), within, path);
        assert!(matches!(post(&strange, &uri).await, Err(PoolError::Connect(_))));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let own = service_kit::roots::OwnRoots::read(&[file.path().to_owned()]).unwrap();
    let trusting = Arc::new(loopback().trusting(own));
    for path in PATHS {
        let trusting = Pool::new(Some(Arc::clone(&trusting)), within, path);
        for _ in 0..3 {
            let body = post(&trusting, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        }
        assert_eq!(connections.swap(0, Ordering::SeqCst), 1, "{path:?}");
    }
}
