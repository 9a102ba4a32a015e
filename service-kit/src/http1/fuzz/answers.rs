//! Answers of hostile servers.

use bolero::check;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::texts;
use crate::{
    fuzz::{ITERATIONS, pieces, split},
    http1::{Answer, AnswerReader, BodyReader, Malformed},
};

const LINES: [&str; 8] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 404 Not Found\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 503 \r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
];

/// An answer as it was read: the head, the body, and whether that is complete.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    head: Answer,
    body: Vec<u8>,
    end: Result<bool, Malformed>,
    behind: Vec<u8>,
}

/// Reads what comes in these pieces, behind which the connection ends. Without what is behind a body that failed.
fn read(pieces: &[&[u8]]) -> Result<Option<Read>, Malformed> {
    read_next(&mut AnswerReader::default(), &Method::POST, pieces)
}

/// The same, of a connection whose earlier answers this has read.
fn read_next(reader: &mut AnswerReader, method: &Method, pieces: &[&[u8]]) -> Result<Option<Read>, Malformed> {
    reader.expect(method);
    let mut came = BytesMut::new();
    let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let head = loop {
        let Some(piece) = pieces.next() else { return Ok(None) };
        came.extend_from_slice(piece);
        if let Some(head) = reader.read(&mut came)? {
            break head;
        }
    };
    let (mut reader, mut body) = (BodyReader::new(head.framing), Vec::new());
    let end = loop {
        match reader.read(&mut came) {
            Ok(Some(data)) => body.extend_from_slice(&data),
            Ok(None) => match pieces.next() {
                Some(piece) => came.extend_from_slice(piece),
                None => break Ok(reader.close()),
            },
            Err(malformed) => break Err(malformed),
        }
    };
    let behind = match end {
        Ok(true) => came.to_vec(),
        _ => Vec::new(),
    };
    Ok(Some(Read {
        head,
        body,
        end,
        behind,
    }))
}

#[test]
fn an_answer_is_the_same_however_it_is_split() {
    check!(name = "http1_answer")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let (cuts, rest) = split(bytes);
            for text in texts(rest, &LINES) {
                let whole = read(&[&text]);
                let single: Vec<&[u8]> = text.chunks(1).collect();
                for split in [pieces(&text, cuts), single] {
                    let split = read(&split);
                    // Which of two faults is found first may depend on it.
                    match (&whole, &split) {
                        (Err(_), Err(_)) => {}
                        _ => assert_eq!(split, whole, "{:?}", text.escape_ascii().to_string()),
                    }
                }
            }
        });
}

/// The answer as hyper reads it, with its body where that is complete.
type Theirs = Result<(StatusCode, Version, HeaderMap, Option<Bytes>), hyper::Error>;

async fn read_by_hyper(text: &[u8]) -> Theirs {
    let (client, mut server) = tokio::io::duplex(text.len() + 1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await?;
    let answered = async {
        // Before the request, hyper takes what comes for an answer to nothing.
        let mut request = [0; 1];
        let _ = tokio::io::AsyncReadExt::read(&mut server, &mut request).await;
        let _ = server.write_all(text).await;
        let _ = server.shutdown().await;
        server
    };
    let asked = async {
        let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
        *request.method_mut() = Method::POST;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        Ok((head.status, head.version, head.headers, body))
    };
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        (theirs, _server) = async { tokio::join!(asked, answered) } => theirs,
        () = driven => unreachable!("it never ends"),
    }
}

#[test]
fn what_is_accepted_is_what_hyper_reads() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    check!(name = "http1_answer_as_hyper")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for text in texts(bytes, &LINES) {
                let Ok(Some(ours)) = read(&[&text]) else { continue };
                let shown = text.escape_ascii().to_string();
                let theirs = runtime.block_on(read_by_hyper(&text));
                let (status, version, mut headers, body) = theirs.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
                // The length is that of the body.
                headers.remove(header::CONTENT_LENGTH);
                let head = &ours.head.parts;
                assert_eq!(
                    (status, version, &headers),
                    (head.status, head.version, &head.headers),
                    "{shown:?}"
                );
                match ours.end {
                    Ok(true) => assert_eq!(body.as_deref(), Some(&ours.body[..]), "{shown:?}"),
                    Ok(false) => assert_eq!(body, None, "{shown:?}"),
                    // Stricter than hyper.
                    Err(_) => {}
                }
            }
        });
}

/// A connection knows a head again: an answer behind it is read as it would be on a connection of its own.
#[test]
fn an_answer_behind_another_is_read_as_if_it_were_alone() {
    check!(name = "http1_answer_again")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let [at, flip, rest @ ..] = bytes else { return };
            for text in texts(rest, &LINES) {
                let Ok(Some(first)) = read(&[&text]) else { continue };
                if !first.head.keeps_open || first.end != Ok(true) {
                    continue;
                }
                let text = &text[..text.len() - first.behind.len()];
                let mut other = text.to_vec();
                other[usize::from(*at) % text.len()] ^= flip;
                for second in [text, &other] {
                    for method in [Method::POST, Method::HEAD] {
                        let shown = second.escape_ascii().to_string();
                        let alone = read_next(&mut AnswerReader::default(), &method, &[second]);
                        let mut reader = AnswerReader::default();
                        read_next(&mut reader, &Method::POST, &[text]).unwrap();
                        assert_eq!(read_next(&mut reader, &method, &[second]), alone, "{method} {shown:?}");
                    }
                }
            }
        });
}
