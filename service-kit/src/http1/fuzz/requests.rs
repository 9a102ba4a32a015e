//! Requests of hostile clients.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bolero::check;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::texts;
use crate::{
    fuzz::{ITERATIONS, pieces, split},
    http1::{BodyReader, Malformed, RequestHead, RequestReader},
};

const LINES: [&str; 16] = [
    "POST / HTTP/1.1\r\nhost: a\r\n",
    "POST /mcp/team?a=b HTTP/1.1\r\nHost: a.example:8080\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\n",
    "GET //b/../c%00 HTTP/1.1\r\nhost: [::1]\r\n",
    "\r\nDELETE /a HTTP/1.1\r\nhost:a\r\n",
    "HEAD /a?? HTTP/1.1\r\nhost: a \r\n",
    "OPTIONS / HTTP/1.1\r\nhost: a\r\n",
    "PUT /~!$&'()*+,;=:@ HTTP/1.1\r\nhost: a\r\n",
    "PATCH /\"<>^`{|} HTTP/1.1\r\nhost: a\r\n",
    "POST / HTTP/1.0\r\nhost: a\r\n",
    "GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n",
    "GET http://a/ HTTP/1.1\r\nhost: a\r\n",
    "OPTIONS * HTTP/1.1\r\nhost: a\r\n",
    "CONNECT a:80 HTTP/1.1\r\nhost: a\r\n",
    "GET / HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// A request that was read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    head: RequestHead,
    body: Vec<u8>,
    /// Where it ends in all that has come.
    end: usize,
}

/// A connection, as it is read.
#[derive(Debug, Default)]
struct Connection {
    came: BytesMut,
    /// How much has come in all.
    length: usize,
    reader: RequestReader,
    /// The request that is being read, with what was read of its body.
    open: Option<(RequestHead, BodyReader, Vec<u8>)>,
    read: Vec<Read>,
}

impl Connection {
    /// Reads what there is, up to a request behind which the client closes.
    fn read_on(&mut self) -> Result<(), Malformed> {
        while self.read.last().is_none_or(|last| last.head.keeps_open) {
            match &mut self.open {
                None => {
                    let Some(head) = self.reader.read(&mut self.came)? else {
                        break;
                    };
                    let body = BodyReader::new(head.framing);
                    self.open = Some((head, body, Vec::new()));
                }
                Some((_, reader, body)) => match reader.read(&mut self.came)? {
                    Some(data) => body.extend_from_slice(&data),
                    None if reader.is_ended() => {
                        let end = self.length - self.came.len();
                        let open = self.open.take();
                        self.read.extend(open.map(|(head, _, body)| Read { head, body, end }));
                    }
                    None => break,
                },
            }
        }
        Ok(())
    }
}

/// The requests that are read from what comes in these pieces, and whether what follows them is malformed.
fn read(pieces: &[&[u8]]) -> (Vec<Read>, Result<(), Malformed>) {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.came.extend_from_slice(piece);
        connection.length += piece.len();
        if let Err(malformed) = connection.read_on() {
            return (connection.read, Err(malformed));
        }
    }
    (connection.read, Ok(()))
}

#[test]
fn requests_are_the_same_however_they_are_split() {
    check!(name = "http1_request")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let (cuts, rest) = split(bytes);
            for text in texts(rest, &LINES) {
                let shown = text.escape_ascii().to_string();
                let (whole, ended) = read(&[&text]);
                let single: Vec<&[u8]> = text.chunks(1).collect();
                for split in [pieces(&text, cuts), single] {
                    let (split, split_ended) = read(&split);
                    assert_eq!(split, whole, "{shown:?}");
                    // Which of two faults is found first may depend on it.
                    assert_eq!(split_ended.is_ok(), ended.is_ok(), "{shown:?}");
                }
            }
        });
}

/// A request as hyper reads it, with its body where that is complete.
type Theirs = (Method, Uri, Version, HeaderMap, Option<Bytes>);

/// The requests that hyper reads, up to the first behind which it closes: the first of all with `close`. Then also how much of the text it has not read.
async fn read_by_hyper(text: &[u8], close: bool) -> (Vec<Theirs>, Option<usize>) {
    let (client, server) = tokio::io::duplex(text.len() + 1024);
    let theirs = Mutex::new(Vec::new());
    let answer = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        let read = (head.method, head.uri, head.version, head.headers, body);
        theirs.lock().unwrap().push(read);
        let mut response = Response::new(Empty::<Bytes>::new());
        if close {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok::<_, Infallible>(response)
    });
    let (mut answers, mut requests) = tokio::io::split(client);
    let asked = async {
        requests.write_all(text).await.unwrap();
        // It may have closed.
        let _ = requests.shutdown().await;
    };
    let served = async {
        // All requests have come, and with them the end.
        let connection = Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), answer);
        let parts = connection.without_shutdown().await.ok()?;
        let mut left = Vec::new();
        parts.io.into_inner().read_to_end(&mut left).await.unwrap();
        Some(parts.read_buf.len() + left.len())
    };
    let ((), left, _) = tokio::join!(asked, served, async { answers.read_to_end(&mut Vec::new()).await });
    (theirs.into_inner().unwrap(), left)
}

#[test]
fn requests_that_are_accepted_are_those_that_hyper_reads() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    check!(name = "http1_request_as_hyper")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for text in texts(bytes, &LINES) {
                let (ours, _) = read(&[&text]);
                let Some(first) = ours.first() else { continue };
                let shown = text.escape_ascii().to_string();
                let (one, left) = runtime.block_on(read_by_hyper(&text, true));
                assert_eq!((one.len(), left), (1, Some(text.len() - first.end)), "{shown:?}");
                let (all, _) = runtime.block_on(read_by_hyper(&text, false));
                assert!(all.len() >= ours.len(), "{shown:?}: {all:?}");
                for (mut theirs, ours) in all.into_iter().zip(ours) {
                    // The length is that of the body.
                    theirs.3.remove(header::CONTENT_LENGTH);
                    let head = Arc::unwrap_or_clone(ours.head.parts);
                    let body = Some(Bytes::from(ours.body));
                    assert_eq!(
                        theirs,
                        (head.method, head.uri, head.version, head.headers, body),
                        "{shown:?}"
                    );
                }
            }
        });
}

/// A connection knows a head again: what comes behind it is read as it would be on a connection of its own.
#[test]
fn a_request_behind_another_is_read_as_if_it_were_alone() {
    check!(name = "http1_request_again")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let [at, flip, rest @ ..] = bytes else { return };
            for text in texts(rest, &LINES) {
                let (ours, _) = read(&[&text]);
                let Some(first) = ours.first().filter(|first| first.head.keeps_open) else {
                    continue;
                };
                let text = &text[..first.end];
                let mut other = text.to_vec();
                other[usize::from(*at) % text.len()] ^= flip;
                for second in [text, &other] {
                    let shown = second.escape_ascii().to_string();
                    let (alone, alone_ended) = read(&[second]);
                    let (mut both, both_ended) = read(&[text, second]);
                    for read in &mut both[1..] {
                        read.end -= text.len();
                    }
                    assert_eq!(both[1..], alone, "{shown:?}");
                    assert_eq!(both_ended, alone_ended, "{shown:?}");
                }
            }
        });
}
