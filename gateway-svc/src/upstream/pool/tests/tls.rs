//! Servers that are spoken to over TLS.

use pretty_assertions::assert_eq;
use rustls::{HandshakeKind, ServerConfig, pki_types::PrivatePkcs8KeyDer};
use service_kit::roots::OwnRoots;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;

/// A server that an authority of the organization's own has certified, which it says in PEM. Each connection is served by `serve`, once its handshake
/// has succeeded.
async fn serving<F>(serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static) -> (Uri, String)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let named = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = named.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One that does not trust it breaks off.
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream));
            }
        }
    });
    let uri = format!("https://localhost:{port}/mcp");
    (uri.parse().unwrap(), authority.pem())
}

fn loopback() -> EgressPolicy {
    EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

/// A pool that trusts this authority.
fn trusting(authority: &str, path: HttpPath) -> Pool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority).unwrap();
    let own = OwnRoots::read(&[file.path().to_owned()]).unwrap();
    Pool::new(Some(Arc::new(loopback().trusting(own))), WITHIN, path)
}

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn trusts_the_authorities_that_an_operator_names() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let (uri, authority) = serving(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            while stream.read(&mut [0; 4096]).await.unwrap_or_default() > 0 {
                stream.write_all(FIXED.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    for path in PATHS {
        let strange = Pool::new(Some(Arc::new(loopback())), WITHIN, path);
        assert!(matches!(post(&strange, &uri).await, Err(PoolError::Connect(_))));
    }
    for path in PATHS {
        let trusting = trusting(&authority, path);
        for _ in 0..3 {
            let body = post(&trusting, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        }
        assert_eq!(connections.swap(0, Ordering::SeqCst), 1, "{path:?}");
    }
}

/// A full handshake costs as much as many calls. Each thread has connections of its own; what resumes a handshake, the threads share, and policies do
/// not.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_handshake_is_resumed_on_whichever_thread() {
    let (tell, mut kinds) = mpsc::unbounded_channel();
    let (uri, authority) = serving(move |mut stream| {
        tell.send(stream.get_ref().1.handshake_kind()).unwrap();
        async move {
            while stream.read(&mut [0; 4096]).await.unwrap_or_default() > 0 {
                stream.write_all(FIXED.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    for path in PATHS {
        for _policy in 0..2 {
            let pool = trusting(&authority, path);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let (pool, uri) = (pool.clone(), uri.clone());
                let on_thread = tokio::task::spawn_blocking(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let body = post(&pool, &uri).await.unwrap().into_body();
                        assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
                    });
                });
                on_thread.await.unwrap();
                assert_eq!(kinds.recv().await.unwrap(), Some(kind), "{path:?}");
            }
        }
    }
}

/// Who is between us and the server can end the connection, but not in the server's name.
#[tokio::test]
async fn a_body_that_ends_with_its_connection_ends_in_order() {
    for in_order in [true, false] {
        let (uri, authority) = serving(move |mut stream| async move {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").await.unwrap();
            stream.flush().await.unwrap();
            if in_order {
                stream.shutdown().await.unwrap();
            }
        })
        .await;
        for path in PATHS {
            let response = post(&trusting(&authority, path), &uri).await.unwrap();
            let body = response.into_body().collect().await;
            assert_eq!(body.is_ok(), in_order, "{path:?}: {body:?}");
        }
    }
}

/// An answer whose length is known does not depend on how the connection ends.
#[tokio::test]
async fn a_body_of_known_length_is_complete_however_its_connection_ends() {
    let (uri, authority) = serving(|mut stream| async move {
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(FIXED.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    for path in PATHS {
        let pool = trusting(&authority, path);
        for _ in 0..2 {
            let body = post(&pool, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_in_the_handshake_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("https://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    for path in PATHS {
        let pool = pool(path);
        match tokio::time::timeout(WITHIN * 2, post(&pool, &uri))
            .await
            .expect("it is given up")
        {
            Err(PoolError::Connect(error)) => {
                assert_eq!(
                    crate::upstream::connect::cause(&*error),
                    "127.0.0.1 did not accept the connection in time"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
