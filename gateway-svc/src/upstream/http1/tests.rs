//! Connections between exchanges.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use service_kit::receive::{LONG_READ, SHORT_READ};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::Instant,
};

use super::{
    body::{BodyError, OwnBody},
    connection::{Connection, Server},
    exchange::{ExchangeError, exchange},
    kept::{Kept, Limits},
};
use crate::upstream::{connect::Stream, response::Response};

const IDLE: Duration = Duration::from_secs(55);
/// How long a head is waited for.
const WITHIN: Duration = Duration::from_secs(20);

fn server() -> Server {
    Server::of(&"http://a.example".parse().unwrap()).unwrap()
}

const LIMITS: Limits = Limits {
    idle: IDLE,
    age: Duration::from_secs(300),
    each: 2,
};

fn kept() -> Arc<Kept> {
    Kept::new(LIMITS)
}

/// A new connection, and the server's end of it.
fn connection() -> (Box<Connection>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let io = TokioIo::new(MaybeHttpsStream::Http(TokioIo::new(Stream::Unix(ours))));
    (Box::new(Connection::new(io, server())), theirs)
}

/// Sends a request, and answers it with `answer`.
async fn answered(
    kept: &Arc<Kept>,
    connection: Box<Connection>,
    theirs: &mut UnixStream,
    answer: &[u8],
) -> Result<Response<OwnBody>, ExchangeError> {
    let mut message = [&b"POST / HTTP/1.1\r\n\r\n"[..], b"{}"].map(Bytes::from_static);
    let deadline = Some(Instant::now() + WITHIN);
    let sent = exchange(connection, kept, &Method::POST, &mut message, deadline);
    let answering = async {
        theirs.read_exact(&mut [0; 21]).await.unwrap();
        theirs.write_all(answer).await.unwrap();
    };
    tokio::join!(sent, answering).0
}

const EMPTY: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

/// With what was worked out of it; another one in between is not taken for it.
#[tokio::test]
async fn a_head_that_comes_again_is_the_same_one() {
    let kept = kept();
    let (mut ours, mut theirs) = connection();
    let json = |length: usize| {
        let body = "1".repeat(length);
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let mut before = None;
    for (answer, is_json, is_same) in [
        (json(2), true, false),
        (json(12), true, true),
        (json(2).replace("200", "201"), false, false),
        (json(3), true, false),
        (json(3).replace("json", "jsop"), false, false),
        (json(0), true, false),
    ] {
        let response = answered(&kept, ours, &mut theirs, answer.as_bytes()).await.unwrap();
        assert_eq!(response.is_plain_json(), is_json, "{answer}");
        let headers = std::ptr::from_ref(response.headers());
        let same = before.replace(headers) == Some(headers);
        assert_eq!(same, is_same, "{answer}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(
            answer.ends_with(&format!("\r\n\r\n{}", "1".repeat(body.len()))),
            "{answer}"
        );
        ours = kept.take(&server(), Instant::now()).expect("it is kept");
    }
}

#[tokio::test]
async fn so_many_connections_are_kept_for_each_server() {
    let kept = kept();
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (ours, mut theirs) = connection();
        answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
        ends.push(theirs);
    }
    assert!(kept.take(&server(), Instant::now()).is_some());
    assert!(kept.take(&server(), Instant::now()).is_some());
    assert!(kept.take(&server(), Instant::now()).is_none());
    assert_eq!(ends[2].read(&mut [0]).await.unwrap(), 0, "the third is closed");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_its_time_and_closed_then() {
    let kept = kept();
    let (ours, mut theirs) = connection();
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    tokio::time::advance(IDLE - Duration::from_millis(1)).await;
    let ours = kept.take(&server(), Instant::now()).expect("it is young enough");
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    let since = Instant::now();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    assert!((IDLE..IDLE + Duration::from_millis(10)).contains(&since.elapsed()));
    assert!(kept.take(&server(), Instant::now()).is_none());
    // The next one is closed in time, too.
    let (ours, mut theirs) = connection();
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}

/// On a thread that is busy, the task that closes it may come later.
#[tokio::test]
async fn a_connection_that_is_too_old_is_not_taken() {
    let kept = Kept::new(Limits {
        idle: Duration::ZERO,
        ..LIMITS
    });
    let (ours, mut theirs) = connection();
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    assert!(kept.take(&server(), Instant::now()).is_none());
}

/// The server's name may lead elsewhere by now.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_always_in_use_is_replaced_now_and_then() {
    let kept = kept();
    let (mut ours, mut theirs) = connection();
    let since = Instant::now();
    while since.elapsed() < LIMITS.age {
        answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
        ours = kept.take(&server(), Instant::now()).expect("it is young enough");
        tokio::time::advance(IDLE / 2).await;
    }
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    assert!(kept.take(&server(), Instant::now()).is_none());
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}

/// A server that closes its connections early would otherwise have ends of ours that nobody looks at.
#[tokio::test]
async fn a_connection_that_its_server_closes_is_closed_at_once() {
    for behind in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let kept = kept();
        let (ours, mut theirs) = connection();
        answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
        theirs.write_all(behind).await.unwrap();
        theirs.shutdown().await.unwrap();
        // A reset, where we have not read what came.
        assert_eq!(theirs.read(&mut [0]).await.unwrap_or_default(), 0);
        assert!(kept.take(&server(), Instant::now()).is_none());
    }
}

/// A system call for every 8 KB of a long chunk would be more work than all else.
#[tokio::test]
async fn a_long_chunk_is_read_in_long_pieces() {
    let (ours, mut theirs) = connection();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n";
    let response = answered(&kept(), ours, &mut theirs, head).await.unwrap();
    let mut body = response.into_body();
    let _writing = tokio::spawn(async move { theirs.write_all(&vec![b'x'; 0xf_ffff]).await });
    let (mut read, mut longest) = (0, 0);
    while read < 0xf_ffff {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        (read, longest) = (read + data.len(), longest.max(data.len()));
    }
    assert!((SHORT_READ + 1..2 * LONG_READ).contains(&longest), "{longest}");
}

/// Memory for each of the connections that wait would be more than all calls need.
#[tokio::test]
async fn a_large_body_is_read_in_pieces_and_leaves_no_buffer() {
    let length = 1 << 20;
    let kept = kept();
    let (ours, mut theirs) = connection();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let response = answered(&kept, ours, &mut theirs, head.as_bytes()).await.unwrap();
    let (mut body, mut read) = (response.into_body(), 0);
    let writing = tokio::spawn(async move {
        theirs.write_all(&vec![b'x'; length]).await.unwrap();
        theirs
    });
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        // The rest of an earlier buffer counts, too.
        assert!(data.len() < 2 * LONG_READ, "{}", data.len());
        read += data.len();
    }
    assert_eq!(read, length);
    let _theirs = writing.await.unwrap();
    let ours = kept.take(&server(), Instant::now()).expect("it is kept");
    assert_eq!(ours.came.capacity(), 0);
}

/// Whether some of it came with the head, or nothing.
#[tokio::test]
async fn a_body_that_is_waited_for_is_received_into_one_buffer() {
    const LENGTH: usize = 200 << 10;
    for first in [0, 3, 4 << 10] {
        let kept = kept();
        let (ours, mut theirs) = connection();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{}",
            "x".repeat(first)
        );
        let response = answered(&kept, ours, &mut theirs, head.as_bytes()).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(body.missing(), LENGTH - first);
        let writing = tokio::spawn(async move {
            theirs.write_all(&vec![b'x'; LENGTH - first]).await.unwrap();
            theirs
        });
        while body.missing() > 0 {
            poll_fn(|cx| body.poll_missing(cx)).await.unwrap();
        }
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((data.len(), body.missing()), (LENGTH, 0));
        assert!(body.frame().await.is_none());
        let _theirs = writing.await.unwrap();
        let ours = kept.take(&server(), Instant::now()).expect("it is kept");
        assert_eq!(ours.came.capacity(), 0);
        let capacity = data.try_into_mut().expect("nobody else has it").capacity();
        assert!(capacity < LENGTH + 2 * SHORT_READ, "{capacity}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_whole_is_broken() {
    let (ours, mut theirs) = connection();
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let mut body = answered(&kept(), ours, &mut theirs, head).await.unwrap().into_body();
    drop(theirs);
    let error = poll_fn(|cx| body.poll_missing(cx)).await.unwrap_err();
    assert!(matches!(error, BodyError::Broken(_)), "{error}");
    assert_eq!(body.missing(), 0, "nobody waits for more");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_connection_outlives_the_pool_by_no_more_than_its_answer() {
    let pool = kept();
    let (ours, mut theirs) = connection();
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
    let body = answered(&pool, ours, &mut theirs, head).await.unwrap().into_body();
    drop(pool);
    theirs.write_all(b"ok").await.unwrap();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}

/// The first request sets the timer of the connection; the others find it set.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_ends_in_time() {
    for earlier in 0..3 {
        let kept = kept();
        let (mut ours, mut theirs) = connection();
        for _ in 0..earlier {
            answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
            tokio::time::advance(WITHIN * 3 / 4).await;
            ours = kept.take(&server(), Instant::now()).expect("it is kept");
        }
        let since = Instant::now();
        // On another task than the earlier ones.
        let late = tokio::spawn(async move {
            let mut message = [&b"POST / HTTP/1.1\r\n\r\n"[..], b""].map(Bytes::from_static);
            let sent = exchange(ours, &kept, &Method::POST, &mut message, Some(since + WITHIN));
            sent.await.err()
        });
        assert!(matches!(late.await.unwrap(), Some(ExchangeError::Late)));
        let took = since.elapsed();
        assert!((WITHIN..WITHIN + Duration::from_millis(10)).contains(&took), "{took:?}");
        assert!(theirs.read_to_end(&mut Vec::new()).await.is_ok(), "it is closed");
    }
}

/// It can be sent on another connection, then.
#[tokio::test]
async fn a_request_of_which_nothing_was_sent_is_given_back() {
    let kept = kept();
    let (ours, mut theirs) = connection();
    answered(&kept, ours, &mut theirs, EMPTY).await.unwrap();
    let ours = kept.take(&server(), Instant::now()).expect("it is kept");
    drop(theirs);
    let request = [&b"POST / HTTP/1.1\r\n\r\n"[..], b"{}"].map(Bytes::from_static);
    let mut message = request.clone();
    let sent = exchange(ours, &kept, &Method::POST, &mut message, None).await;
    assert!(matches!(sent, Err(ExchangeError::Untouched(_))));
    assert_eq!(message, request);
}
