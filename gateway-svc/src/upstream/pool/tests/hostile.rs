//! What servers do that they should not, and what they may do.

use std::io::{Read as _, Write as _};

use pretty_assertions::assert_eq;
use service_kit::http1::Malformed;
use tokio::net::TcpStream;

use super::*;
use crate::upstream::error::has_ended;

/// A server whose connections are each served by `serve`; counts them.
async fn serving<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (Uri, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/mcp", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    (uri.parse().unwrap(), connections)
}

/// Reads a request of [`post`]; false: the connection has ended.
async fn request(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut read).await.unwrap_or_default() == 0 {
            return false;
        }
    }
    true
}

/// A server that gives each request the same answer, at most `piece` bytes at a time.
async fn answering(answer: &'static [u8], piece: usize, closes: bool) -> (Uri, Arc<AtomicUsize>) {
    serving(move |mut stream| async move {
        while request(&mut stream).await {
            for piece in answer.chunks(piece) {
                // Who has read enough may have closed it.
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            if closes {
                break;
            }
        }
    })
    .await
}

/// The status and the whole body, or what is wrong.
async fn read(pool: &Pool, uri: &Uri) -> Result<(u16, Bytes), String> {
    let response = post(pool, uri).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| error.what())?;
    Ok((status, body.to_bytes()))
}

/// Whether hyper refuses the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hyper {
    Refuses,
    Accepts,
}

#[tokio::test]
async fn an_answer_that_others_may_read_otherwise_is_refused() {
    use Hyper::{Accepts, Refuses};
    let endless = Vec::leak([&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(6_000)].concat());
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    let interim = Vec::leak([&interim, FIXED.as_bytes()].concat());
    let of_chunks = |chunks: &str| -> &'static [u8] {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
            .leak()
            .as_bytes()
    };
    let with = |fields: &str| -> &'static [u8] { format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok").leak().as_bytes() };
    for (answer, malformed, hyper) in [
        (&b"SSH-2.0-OpenSSH\r\n"[..], Malformed::NotHttp, Refuses),
        (
            b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
            Malformed::BareLineFeed,
            Accepts,
        ),
        (with("a: b\ncontent-length: 2"), Malformed::BareLineFeed, Accepts),
        (with("a : b\r\ncontent-length: 2"), Malformed::Head, Refuses),
        (
            with("content-length: 2\r\ncontent-length: 2"),
            Malformed::Length,
            Accepts,
        ),
        (
            with("content-length: 2\r\ncontent-length: 3"),
            Malformed::Length,
            Refuses,
        ),
        (with("content-length: +2"), Malformed::Length, Refuses),
        (with("content-length: 2, 2"), Malformed::Length, Accepts),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Malformed::TwoFramings,
            Accepts,
        ),
        (with("transfer-encoding: gzip, chunked"), Malformed::Encoding, Refuses),
        (endless, Malformed::HeadTooLarge, Refuses),
        (interim, Malformed::TooManyInterim, Accepts),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n",
            Malformed::SwitchesProtocols,
            Accepts,
        ),
        (of_chunks("ffffffff\r\nok"), Malformed::ChunkSize, Refuses),
        (of_chunks("2;a\nb\r\nok\r\n0\r\n\r\n"), Malformed::Extensions, Refuses),
        (of_chunks("2\r\nokay\r\n0\r\n\r\n"), Malformed::ChunkEnd, Refuses),
        (
            of_chunks("2\r\nok\r\n0\r\na: b\n\r\n"),
            Malformed::BareLineFeed,
            Refuses,
        ),
    ] {
        for path in PATHS {
            for piece in [usize::MAX, 1] {
                // The endless head, bytewise, takes a while.
                if piece == 1 && answer.len() > 1_000 {
                    continue;
                }
                let (uri, connections) = answering(answer, piece, true).await;
                let pool = pool(path);
                let shown = answer[..answer.len().min(120)].escape_ascii();
                for used in 1..=2 {
                    let read = read(&pool, &uri).await;
                    match path {
                        HttpPath::Own => assert_eq!(read, Err(malformed.to_string()), "{shown}"),
                        HttpPath::Hyper => assert_eq!(read.is_err(), hyper == Refuses, "{shown}: {read:?}"),
                    }
                    assert_eq!(connections.load(Ordering::SeqCst), used, "{shown}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_however_it_is_split_and_its_connection_used_again() {
    for (answer, status, body) in [
        (FIXED.as_bytes(), 200, "ok"),
        (CHUNKED.as_bytes(), 200, "ok"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9;a=b\r\ndata: {}\n\r\n1\r\n\n\r\n0\r\nx: y\r\n\r\n",
            200,
            "data: {}\n\n",
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
            404,
            "no",
        ),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 202, ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", 304, ""),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
    ] {
        for path in PATHS {
            for piece in [usize::MAX, 1] {
                let (uri, connections) = answering(answer, piece, false).await;
                let pool = pool(path);
                for _ in 0..3 {
                    let read = read(&pool, &uri).await;
                    assert_eq!(read, Ok((status, body.into())), "{}", answer.escape_ascii());
                }
                assert_eq!(connections.load(Ordering::SeqCst), 1, "{}", answer.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_answer_ends_is_not_used_again() {
    for (answer, closes) in [
        // Its body ends with it.
        (&b"HTTP/1.1 200 OK\r\n\r\nok"[..], true),
        (
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            false,
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        // What is behind the end may be the answer to another request.
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
            false,
        ),
    ] {
        for path in PATHS {
            let (uri, connections) = answering(answer, usize::MAX, closes).await;
            let pool = pool(path);
            for used in 1..=3 {
                let read = read(&pool, &uri).await;
                assert_eq!(read, Ok((200, "ok".into())), "{}", answer.escape_ascii());
                assert_eq!(connections.load(Ordering::SeqCst), used, "{}", answer.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn what_is_behind_an_answer_without_a_body_is_no_answer() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for head in [
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 50\r\n",
        "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n",
    ] {
        for path in PATHS {
            let answer = format!("{head}\r\n{evil}").leak().as_bytes();
            let (uri, connections) = answering(answer, usize::MAX, false).await;
            let pool = pool(path);
            for used in 1..=3 {
                let (status, body) = read(&pool, &uri).await.unwrap();
                assert!(status != 200 && body.is_empty(), "{head}: {status} {body:?}");
                assert_eq!(connections.load(Ordering::SeqCst), used, "{head}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_short_is_an_error() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"[..],
        // No memory is reserved for it.
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        for path in PATHS {
            let (uri, _) = answering(answer, usize::MAX, true).await;
            let response = post(&pool(path), &uri).await.unwrap();
            let broken = response.into_body().collect().await.unwrap_err();
            assert!(has_ended(&broken), "{broken:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_head_does_has_ended() {
    for reset in [false, true] {
        for path in PATHS {
            let (uri, connections) = serving(move |mut stream| async move {
                request(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
                if reset {
                    stream.set_zero_linger().unwrap();
                }
            })
            .await;
            match post(&pool(path), &uri).await {
                Err(PoolError::Exchange(error)) => assert!(has_ended(&*error), "{error:?}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(connections.load(Ordering::SeqCst), 1, "it is not sent again");
        }
    }
}

#[tokio::test]
async fn who_no_longer_waits_closes_the_connection() {
    for (answer, has_head) in [
        (&b"HTTP/1.1 200 OK\r\nconte"[..], false),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", true),
    ] {
        for path in PATHS {
            let (sent, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (tell_sent, tell_closed) = (Arc::clone(&sent), Arc::clone(&closed));
            let (uri, _) = serving(move |mut stream| {
                let (sent, closed) = (Arc::clone(&tell_sent), Arc::clone(&tell_closed));
                async move {
                    request(&mut stream).await;
                    stream.write_all(answer).await.unwrap();
                    sent.notify_one();
                    while stream.read(&mut [0; 64]).await.unwrap_or_default() > 0 {}
                    closed.notify_one();
                }
            })
            .await;
            let pool = pool(path);
            if has_head {
                drop(post(&pool, &uri).await.unwrap());
            } else {
                tokio::select! {
                    answered = post(&pool, &uri) => panic!("{answered:?}"),
                    () = sent.notified() => {}
                }
            }
            closed.notified().await;
        }
    }
}

/// A large request, to a server that does not read all of it before it answers.
async fn post_much(pool: &Pool, uri: &Uri) -> Result<Response<Body>, PoolError> {
    let mut request = Request::new(Full::new(Bytes::from(vec![b'x'; MUCH])));
    *request.method_mut() = Method::POST;
    pool.request(uri, request).await
}

const MUCH: usize = 16 << 20;

#[tokio::test]
async fn a_refusal_is_read_while_the_request_is_still_being_sent() {
    let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
    for path in PATHS {
        let (uri, connections) = serving(move |mut stream| async move {
            stream.read_exact(&mut [0; 100]).await.unwrap();
            stream.write_all(refusal).await.unwrap();
            // It reads no more.
            std::future::pending::<()>().await;
        })
        .await;
        let pool = pool(path);
        for used in 1..=2 {
            let response = post_much(&pool, &uri).await.unwrap();
            assert_eq!(response.status(), 413);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
            assert_eq!(connections.load(Ordering::SeqCst), used);
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_to_its_end_while_its_answer_is_read() {
    for path in PATHS {
        let (uri, connections) = serving(|mut stream| async move {
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n";
                stream.write_all(begun).await.unwrap();
                let mut body = vec![0; MUCH];
                stream.read_exact(&mut body).await.unwrap();
                assert!(body.iter().all(|byte| *byte == b'x'));
                stream.write_all(b"1\r\nk\r\n0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let pool = pool(path);
        for _ in 0..2 {
            let body = post_much(&pool, &uri).await.unwrap().into_body();
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

/// A server on a thread of its own: it answers one request on each connection, and ends it when it is told to, by a reset or in order.
fn one_by_one(reset: bool) -> (Uri, std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<usize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (end, told) = std::sync::mpsc::channel();
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in 1.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                read.extend(byte);
            }
            stream.write_all(FIXED.as_bytes()).unwrap();
            if told.recv().is_err() {
                return;
            }
            if reset {
                socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            drop(stream);
            tell.send(connection).unwrap();
        }
    });
    (uri.parse().unwrap(), end, ended)
}

/// Not over hyper, which gives up.
#[tokio::test]
async fn a_request_of_which_nothing_was_sent_is_sent_again() {
    let (uri, end, ended) = one_by_one(true);
    let pool = pool(HttpPath::Own);
    for connection in 1..=3 {
        assert_eq!(read(&pool, &uri).await, Ok((200, "ok".into())));
        // The thread does not look at its sockets meanwhile, so that it is writing that fails.
        end.send(()).unwrap();
        assert_eq!(ended.recv().unwrap(), connection);
    }
}

#[tokio::test]
async fn a_request_of_which_something_was_sent_is_not_sent_again() {
    for path in PATHS {
        let (uri, end, ended) = one_by_one(false);
        let pool = pool(path);
        assert_eq!(read(&pool, &uri).await, Ok((200, "ok".into())));
        end.send(()).unwrap();
        assert_eq!(ended.recv().unwrap(), 1);
        match post(&pool, &uri).await {
            Err(PoolError::Exchange(error)) => assert!(has_ended(&*error), "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_broke_off_while_it_was_sent_is_not_sent_again() {
    for path in PATHS {
        let (uri, connections) = serving(|mut stream| async move {
            request(&mut stream).await;
            stream.write_all(FIXED.as_bytes()).await.unwrap();
            stream.read_exact(&mut [0; 1000]).await.unwrap();
            stream.set_zero_linger().unwrap();
        })
        .await;
        let pool = pool(path);
        assert_eq!(read(&pool, &uri).await, Ok((200, "ok".into())));
        match post_much(&pool, &uri).await {
            Err(PoolError::Exchange(error)) => assert!(has_ended(&*error), "{error:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}
