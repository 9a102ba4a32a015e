//! The head of an answer that is written to a client.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version, header};

use super::{Framing, fields::OwnFields};

/// The interim answer for a client that [waits for it](super::RequestHead::expects_continue) before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the heads of many answers begin with: status and fields.
#[derive(Clone, Debug)]
pub struct HeadPrefix {
    text: Bytes,
    dated: bool,
}

impl HeadPrefix {
    /// Its fields are those of `headers`, except [those of a connection](super::remove_hop_by_hop). Names and values cannot contain line ends, by their
    /// types.
    pub fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut text = BytesMut::new();
        let dated = put_start(&mut text, status, headers);
        let text = text.freeze();
        Self { text, dated }
    }

    /// Appends a head to `head`, as [`answer_head`] does.
    pub fn put(&self, head: &mut BytesMut, version: Version, framing: Framing, close: bool, date: &str) {
        head.put_slice(&self.text);
        put_end(head, version, framing, close, (!self.dated).then_some(date));
    }
}

/// Appends the head of an answer to `head`. Its fields are those of `headers`, except [those of a connection](super::remove_hop_by_hop), and where the body
/// ends and whether the connection closes behind it. `version` is that of the request. `date` is the value of `Date`, unless `headers` have one. Names
/// and values cannot contain line ends, by their types.
pub fn answer_head(
    head: &mut BytesMut,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    framing: Framing,
    close: bool,
    date: &str,
) {
    let dated = put_start(head, status, headers);
    put_end(head, version, framing, close, (!dated).then_some(date));
}

/// Returns whether the fields have a date.
fn put_start(head: &mut BytesMut, status: StatusCode, headers: &HeaderMap) -> bool {
    // RFC 9110, section 6.2: the server's version, also in the answer to an older one.
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    let own = OwnFields::of(headers);
    let mut dated = false;
    for (name, value) in headers {
        if own.has(name) {
            dated |= name == header::DATE;
            put_field(head, name.as_str(), value.as_bytes());
        }
    }
    dated
}

fn put_end(head: &mut BytesMut, version: Version, framing: Framing, close: bool, date: Option<&str>) {
    if let Some(date) = date {
        put_field(head, "date", date.as_bytes());
    }
    match framing {
        Framing::Length(length) => {
            put_field(head, "content-length", b"");
            // It grows; it does not fail.
            let _ = write!(head, "{length}");
        }
        Framing::Chunked => put_field(head, "transfer-encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    if close || framing == Framing::UntilClose {
        put_field(head, "connection", b"close");
    } else if version == Version::HTTP_10 {
        put_field(head, "connection", b"keep-alive");
    }
    head.put_slice(b"\r\n\r\n");
}

/// Ends the line before, not its own.
fn put_field(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(b"\r\n");
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::http1::AnswerReader;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(version: Version, fields: &[(&str, &'static str)], framing: Framing, close: bool) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append::<HeaderName>(name.parse().unwrap(), HeaderValue::from_static(value));
        }
        let mut head = BytesMut::from("before;");
        answer_head(&mut head, StatusCode::OK, version, &headers, framing, close, DATE);
        let head = std::str::from_utf8(&head).unwrap();
        head.strip_prefix("before;").unwrap().to_owned()
    }

    #[test]
    fn a_head_has_its_date_and_its_framing_behind_its_fields() {
        let fields = [("content-type", "text/plain"), ("set-cookie", "a"), ("set-cookie", "b")];
        assert_eq!(
            written(Version::HTTP_11, &fields, Framing::Length(1_234), false),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nset-cookie: a\r\nset-cookie: b\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             content-length: 1234\r\n\r\n"
        );
        assert_eq!(
            written(Version::HTTP_11, &[("date", "today")], Framing::Chunked, false),
            "HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn a_head_says_what_comes_of_the_connection() {
        let ends = |version, framing, close| {
            let head = written(version, &[("date", "today")], framing, close);
            head.strip_prefix("HTTP/1.1 200 OK\r\ndate: today\r\n")
                .unwrap()
                .to_owned()
        };
        assert_eq!(ends(Version::HTTP_11, Framing::None, false), "\r\n");
        assert_eq!(ends(Version::HTTP_11, Framing::None, true), "connection: close\r\n\r\n");
        assert_eq!(
            ends(Version::HTTP_10, Framing::None, false),
            "connection: keep-alive\r\n\r\n"
        );
        assert_eq!(ends(Version::HTTP_10, Framing::None, true), "connection: close\r\n\r\n");
        assert_eq!(
            ends(Version::HTTP_10, Framing::UntilClose, false),
            "connection: close\r\n\r\n"
        );
    }

    #[test]
    fn fields_of_another_connection_and_those_that_connection_names_are_not_written() {
        let fields = [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "gzip"),
            ("content-length", "7"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
            ("date", "today"),
            ("x-kept", "1"),
        ];
        assert_eq!(
            written(Version::HTTP_11, &fields, Framing::Length(0), false),
            "HTTP/1.1 200 OK\r\ndate: today\r\nx-kept: 1\r\ncontent-length: 0\r\n\r\n"
        );
    }

    /// Also one whose status has no known reason phrase.
    #[test]
    fn what_is_written_is_read_again() {
        for (status, framing) in [
            (200, Framing::Chunked),
            (418, Framing::Length(5)),
            (204, Framing::None),
            (599, Framing::UntilClose),
        ] {
            let (status, mut head) = (StatusCode::from_u16(status).unwrap(), BytesMut::from(CONTINUE));
            answer_head(
                &mut head,
                status,
                Version::HTTP_11,
                &HeaderMap::new(),
                framing,
                false,
                DATE,
            );
            let read = AnswerReader::default().read(&mut head).unwrap().unwrap();
            assert_eq!((read.parts.status, read.framing), (status, framing));
            assert_eq!(read.keeps_open, framing != Framing::UntilClose);
            assert!(head.is_empty());
        }
    }
}
