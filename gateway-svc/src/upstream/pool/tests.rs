//! Over both paths, but where a test says otherwise.

mod hostile;
mod threads;
mod tls;

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

/// Nobody reads the answer to a notification. Many servers send it in chunks, of which there are none.
#[tokio::test]
async fn keeps_a_connection_whose_answer_has_come_and_is_not_read() {
    let empty = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for answer in [empty, FIXED, CHUNKED] {
        let (uri, connections, _) = server(answer, usize::MAX).await;
        let pool = pool(HttpPath::Own);
        for _ in 0..3 {
            drop(post(&pool, &uri).await.unwrap());
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_no_connection_is_given_up() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Until no more can wait to be accepted.
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let uri: Uri = format!("http://{address}/mcp").parse().unwrap();
    for path in PATHS {
        let given_up = tokio::time::timeout(Duration::from_secs(60), post(&pool(path), &uri)).await;
        assert!(matches!(given_up, Ok(Err(PoolError::Connect(_)))), "{given_up:?}");
    }
}
