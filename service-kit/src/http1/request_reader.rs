//! The head of a request that a client sends.

use std::{mem::MaybeUninit, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version, header, request::Parts};
use httparse::{ParserConfig, Status};
use memchr::memchr;

use super::{
    Framing, Malformed,
    head::{self, MAX_FIELDS, MAX_HEAD},
    host::has_one_host,
    same_head::{LastHead, SameHead},
    section::Section,
};

/// The methods that are served, the most frequent first.
const METHODS: [Method; 7] = [
    Method::POST,
    Method::GET,
    Method::DELETE,
    Method::OPTIONS,
    Method::HEAD,
    Method::PUT,
    Method::PATCH,
];
/// The most blank lines before a request (RFC 9112, section 2.2, asks for at least one).
const MAX_BLANK_LINES: usize = 2;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method is one of those that are served, the target a path and perhaps a query, the version HTTP/1.0 or 1.1. Has all fields, those of the
    /// connection too, with exactly one `Host`; only `Content-Length` is not among them, but in `framing`. As long as a client sends the same head but for
    /// that, these are the same.
    pub parts: Arc<Parts>,
    /// Where the body ends. Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client keeps the connection open behind the answer.
    pub keeps_open: bool,
    /// Whether the client may wait for an interim answer (100) before it sends the body.
    pub expects_continue: bool,
}

#[cfg(test)]
impl PartialEq for RequestHead {
    fn eq(&self, other: &Self) -> bool {
        let said = |head: &Self| (head.framing, head.keeps_open, head.expects_continue);
        let fields = |parts: &Parts| {
            (
                parts.method.clone(),
                parts.uri.clone(),
                parts.version,
                parts.headers.clone(),
            )
        };
        said(self) == said(other) && fields(&self.parts) == fields(&other.parts)
    }
}

#[cfg(test)]
impl Eq for RequestHead {}

/// Reads the heads of the requests of a connection.
#[derive(Debug, Default)]
pub struct RequestReader {
    blank_lines: usize,
    /// Once it has come.
    method: Option<Method>,
    section: Section,
    last: LastHead<RequestHead>,
}

impl RequestReader {
    /// Takes a head out of what has come; `None` where more must come. The body begins with what stays. As long as nothing stays, no request has begun.
    /// Reads the next head when it is called behind the body. Must not be called again after an error.
    pub fn read(&mut self, came: &mut BytesMut) -> Result<Option<RequestHead>, Malformed> {
        if self.method.is_none()
            && let Some((end, last, length)) = self.last.again(came)
        {
            came.advance(end);
            self.blank_lines = 0;
            let framing = Framing::Length(length);
            return Ok(Some(RequestHead {
                framing,
                ..last.clone()
            }));
        }
        let method = match self.method.take() {
            Some(method) => method,
            None => match self.begin(came)? {
                Some(method) => method,
                None => return Ok(None),
            },
        };
        let end = self.section.end(came)?;
        if end.unwrap_or(came.len()) > MAX_HEAD {
            return Err(match memchr(b'\n', &came[..MAX_HEAD]) {
                Some(_) => Malformed::HeadTooLarge,
                None => Malformed::TargetTooLong,
            });
        }
        let Some(end) = end else {
            self.method = Some(method);
            return Ok(None);
        };
        let (head, same) = parse(method, &came[..end])?;
        came.advance(end);
        (self.blank_lines, self.section) = (0, Section::default());
        self.last.set(same, &head);
        Ok(Some(head))
    }

    /// Whether this head, which was read last, is known if it comes again.
    pub fn knows(&self, head: &Arc<Parts>) -> bool {
        self.last.head().is_some_and(|last| Arc::ptr_eq(&last.parts, head))
    }

    /// Skips blank lines, and reads the method, which stays. What is no request is refused before more of it comes.
    fn begin(&mut self, came: &mut BytesMut) -> Result<Option<Method>, Malformed> {
        while let [b'\r', b'\n', ..] = came[..] {
            self.blank_lines += 1;
            if self.blank_lines > MAX_BLANK_LINES {
                return Err(Malformed::BlankLines);
            }
            came.advance(2);
        }
        match came[..] {
            [] | [b'\r'] => Ok(None),
            [b'\n', ..] => Err(Malformed::BareLineFeed),
            _ => method(came),
        }
    }
}

/// The method in front of what has come, once the space behind it is there.
fn method(came: &[u8]) -> Result<Option<Method>, Malformed> {
    let mut longest = 0;
    for method in METHODS {
        let name = method.as_str().as_bytes();
        let same = name.iter().zip(came).take_while(|(a, b)| a == b).count();
        match came.get(same) {
            None => return Ok(None),
            Some(b' ') if same == name.len() => return Ok(Some(method)),
            Some(_) => longest = longest.max(same),
        }
    }
    match came[longest] {
        b' ' if longest > 0 => Err(Malformed::Method),
        byte if is_token(byte) => Err(Malformed::Method),
        _ => Err(Malformed::NotHttp),
    }
}

/// Whether a method may have it (RFC 9110, section 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Parses a head. With that by which it is known where it comes again.
fn parse(method: Method, head: &[u8]) -> Result<(RequestHead, Option<SameHead>), Malformed> {
    // An allocation of its own: a field that is kept must not keep the connection's whole buffer.
    let head = Bytes::copy_from_slice(head);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, &head, &mut fields) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        Err(httparse::Error::Version) if has_other_version(&head) => return Err(Malformed::Version),
        _ => return Err(Malformed::Head),
    }
    let uri = target(&head, parsed.path.unwrap_or_default())?;
    let version = head::version(parsed.version);
    let (mut headers, said) = head::fields(&head, parsed.headers)?;
    if !has_one_host(&headers) {
        return Err(Malformed::Host);
    }
    let (framing, keeps_open) = said.of_request(version)?;
    // RFC 9110, section 10.1.1: not of HTTP/1.0, and not without a body.
    let waits = version != Version::HTTP_10 && !matches!(framing, Framing::None | Framing::Length(0));
    let expects_continue = expects_continue(&headers)? && waits;
    // Whether a client waits depends on the length.
    let waits_never = !headers.contains_key(header::EXPECT);
    let length = headers.remove(header::CONTENT_LENGTH);
    let same = length
        .filter(|_| waits_never)
        .and_then(|length| SameHead::new(&head, length.as_bytes()));
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    let head = RequestHead {
        parts: Arc::new(parts),
        framing,
        keeps_open,
        expects_continue,
    };
    Ok((head, same))
}

/// The target, in origin form (RFC 9112, section 3.2.1).
fn target(head: &Bytes, path: &str) -> Result<Uri, Malformed> {
    let is_plain = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'#';
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        return Err(Malformed::Target);
    }
    Uri::from_maybe_shared(head.slice_ref(path.as_bytes())).map_err(|_| Malformed::Target)
}

/// Whether the request line ends with a version of HTTP (RFC 9112, section 2.3).
fn has_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Malformed> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Malformed::Expectation),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::http1::pieces::{Read, read_in_pieces};

    /// Reads a request; with what is behind its head.
    fn read_text(text: impl AsRef<[u8]>) -> Read<RequestHead> {
        read_in_pieces(text.as_ref(), || {
            let mut reader = RequestReader::default();
            move |came: &mut BytesMut| reader.read(came)
        })
    }

    fn read(text: impl AsRef<[u8]>) -> Result<RequestHead, Malformed> {
        read_text(text).map(|read| read.expect("the head is complete").0)
    }

    /// The request with this line and these fields, beside a `Host`.
    fn with(line: &str, fields: &str) -> Result<RequestHead, Malformed> {
        read(format!("{line}\r\nhost: a\r\n{fields}\r\n"))
    }

    fn refused(line: &str, fields: &str) -> (Malformed, u16) {
        let malformed = with(line, fields).expect_err(&format!("{line} {fields}"));
        (malformed, malformed.status().as_u16())
    }

    const POST: &str = "POST / HTTP/1.1";
    const OLD: &str = "POST / HTTP/1.0";

    #[test]
    fn a_head_is_read_and_the_body_stays() {
        let text =
            b"POST /mcp/team?a=%20b HTTP/1.1\r\nHost: A.example:8080\r\nx:a\r\nX: \xe9 \r\ncontent-length: 2\r\n\r\nok";
        let (head, behind) = read_text(text).unwrap().unwrap();
        assert_eq!(
            (&head.parts.method, head.parts.version),
            (&Method::POST, Version::HTTP_11)
        );
        assert_eq!(head.parts.uri, "/mcp/team?a=%20b");
        assert_eq!(head.parts.headers["host"], "A.example:8080");
        let values: Vec<_> = head
            .parts
            .headers
            .get_all("x")
            .iter()
            .map(|value| value.as_bytes())
            .collect();
        assert_eq!(values, [&b"a"[..], b"\xe9"]);
        assert_eq!((head.framing, head.keeps_open), (Framing::Length(2), true));
        assert!(!head.parts.headers.contains_key("content-length") && !head.expects_continue);
        assert_eq!(behind, b"ok");
        for cut in 0..text.len() - 2 {
            assert_eq!(read_text(&text[..cut]).unwrap(), None, "{cut}");
        }
    }

    #[test]
    fn requests_behind_each_other_are_read_one_at_a_time() {
        let mut came = BytesMut::from("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n\r\nGET");
        let mut reader = RequestReader::default();
        for path in ["/a", "/b"] {
            assert_eq!(reader.read(&mut came).unwrap().unwrap().parts.uri, path);
        }
        assert_eq!(reader.read(&mut came), Ok(None));
        assert_eq!(came, "GET");
    }

    /// As they would be read alone, from one connection.
    #[test]
    fn a_head_that_comes_again_says_the_same_but_for_its_length() {
        let head = |length: &str| format!("{POST}\r\nhost: a\r\nContent-Length: {length}\r\nx: y\r\n\r\n");
        let mut reader = RequestReader::default();
        let mut read = |text: &str| {
            let mut came = BytesMut::from(text);
            let head = reader.read(&mut came)?.expect("the head is complete");
            assert!(came.is_empty(), "{text:?}");
            Ok(head)
        };
        let first = read(&head("3")).unwrap();
        let again = read(&head("17")).unwrap();
        assert!(Arc::ptr_eq(&first.parts, &again.parts));
        assert_eq!((again.framing, again.keeps_open), (Framing::Length(17), true));
        for text in [
            format!("\r\n{}", head("3")),
            head("3").replace("x: y", "x: z"),
            head("3").replace("Content-Length: 3\r\n", ""),
            head("3").replace("Content-Length: 3", "transfer-encoding: chunked"),
            head("3").replace("x: y", "expect: 100-continue"),
            head("3").replace("x: y", "connection: close"),
            head("4"),
        ] {
            let other = read(&text).unwrap();
            assert_eq!(Ok(&other), self::read(&text).as_ref(), "{text:?}");
            assert!(!Arc::ptr_eq(&first.parts, &other.parts), "{text:?}");
        }
        // Whether the client waits for a word depends on the length.
        let expects = |length: &str| head(length).replace("x: y", "expect: 100-continue");
        assert!(!read(&expects("0")).unwrap().expects_continue);
        assert!(read(&expects("5")).unwrap().expects_continue);
        let twice = head("4\r\nContent-Length: 4");
        assert_eq!(read(&twice), Err(Malformed::Length));
    }

    #[test]
    fn what_does_not_begin_with_a_method_is_refused_at_once() {
        for text in ["\x16\x03\x01", "\0", " GET", "GET\t", "GE\r", "{", "\"", "\rGET"] {
            assert_eq!(read_text(text), Err(Malformed::NotHttp), "{text:?}");
        }
        assert_eq!(Malformed::NotHttp.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn methods_that_are_not_served_are_refused_at_once() {
        for text in [
            "get",
            "CONNECT",
            "TRACE",
            "PRI * HTTP/2.0",
            "GETS",
            "P ",
            "POS",
            "SSH-2.0",
        ] {
            let text = format!("{text} ");
            assert_eq!(read_text(&text), Err(Malformed::Method), "{text:?}");
        }
        assert_eq!(Malformed::Method.status(), StatusCode::NOT_IMPLEMENTED);
        for method in METHODS {
            assert_eq!(with(&format!("{method} / HTTP/1.1"), "").unwrap().parts.method, method);
        }
    }

    #[test]
    fn a_head_that_is_not_valid_is_refused() {
        for line in [
            "GET /",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /\tHTTP/1.1",
            "GET / x HTTP/1.1",
            "GET / x HTTP/2.0",
            "GET / HTTP/11",
            "GET / HTTP/1.1.1",
            "GET / http/1.1",
            "GET / HTTP/1.1\rX",
        ] {
            assert_eq!(refused(line, ""), (Malformed::Head, 400), "{line:?}");
        }
        for field in [
            "no field",
            "a : b",
            " a: b",
            "a: b\r\n folded",
            "a: b\r\n\tfolded",
            "a: b\rc: d",
            "a: \0",
            "a: \x7f",
            ": b",
            "a\u{e9}: b",
            "\r",
        ] {
            let fields = format!("{field}\r\n");
            assert_eq!(refused(POST, &fields), (Malformed::Head, 400), "{field:?}");
        }
    }

    #[test]
    fn a_line_feed_without_a_carriage_return_is_refused_at_once() {
        for text in [
            "\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\na: b\n",
            "GET / HTTP/1.1\r\na: b\r\n\n",
            "\r\n\nGET",
        ] {
            assert_eq!(read_text(text), Err(Malformed::BareLineFeed), "{text:?}");
        }
        assert_eq!(Malformed::BareLineFeed.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn at_most_two_blank_lines_precede_a_request() {
        let after = |lines: usize| format!("{}{POST}\r\nhost: a\r\n\r\n", "\r\n".repeat(lines));
        assert!(read(after(2)).is_ok());
        assert_eq!(read(after(3)), Err(Malformed::BlankLines));
        assert_eq!(Malformed::BlankLines.status(), StatusCode::BAD_REQUEST);
        // No request has begun.
        let (mut reader, mut came) = (RequestReader::default(), BytesMut::from("\r\n"));
        assert_eq!((reader.read(&mut came), came.len()), (Ok(None), 0));
    }

    #[test]
    fn a_head_has_at_most_32_kb_and_64_fields() {
        let head = |length: usize| {
            let start = format!("{POST}\r\nhost: a\r\na: ");
            let filled = length - start.len() - 4;
            format!("{start}{}\r\n\r\n", "x".repeat(filled))
        };
        assert!(read(head(MAX_HEAD)).is_ok());
        assert_eq!(read(head(MAX_HEAD + 1)), Err(Malformed::HeadTooLarge));
        let endless = format!("{POST}\r\n{}", "a: b\r\n".repeat(6_000));
        assert_eq!(read_text(endless), Err(Malformed::HeadTooLarge));
        assert_eq!(
            Malformed::HeadTooLarge.status(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );
        let fields = |count| with(POST, &"a: b\r\n".repeat(count));
        assert!(fields(63).is_ok());
        assert_eq!(fields(64), Err(Malformed::TooManyFields));
        assert_eq!(
            Malformed::TooManyFields.status(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );
    }

    #[test]
    fn a_target_without_an_end_is_refused_as_too_long() {
        let target = "x".repeat(MAX_HEAD);
        assert_eq!(read_text(format!("GET /{target}")), Err(Malformed::TargetTooLong));
        assert_eq!(
            refused(&format!("GET /{target} HTTP/1.1"), ""),
            (Malformed::TargetTooLong, 414)
        );
        let longest = "x".repeat(MAX_HEAD - "GET / HTTP/1.1\r\nhost: a\r\n\r\n".len());
        assert!(with(&format!("GET /{longest} HTTP/1.1"), "").is_ok());
    }

    #[test]
    fn a_target_is_a_path_of_characters_that_urls_have() {
        for target in ["/", "//b/c", "/a//b/../c?d=/?e", "/%00%2f~!$&'()*+,;=:@"] {
            let head = with(&format!("GET {target} HTTP/1.1"), "").unwrap();
            assert_eq!(head.parts.uri, target);
            assert_eq!(
                (head.parts.uri.scheme(), head.parts.uri.authority()),
                (None, None),
                "{target}"
            );
        }
        for target in ["*", "http://a/", "a", "a:80", "?a", "/#a", "/a?b#c", "/\u{e9}", "/<"] {
            assert_eq!(
                refused(&format!("GET {target} HTTP/1.1"), ""),
                (Malformed::Target, 400),
                "{target}"
            );
        }
    }

    #[test]
    fn versions_are_1_1_and_1_0() {
        assert_eq!(with(OLD, "").unwrap().parts.version, Version::HTTP_10);
        for version in ["0.9", "1.2", "2.0", "3.0", "9.9"] {
            let line = format!("GET / HTTP/{version}");
            assert_eq!(refused(&line, ""), (Malformed::Version, 505), "{version}");
        }
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        for version in ["1.0", "1.1"] {
            let line = format!("GET / HTTP/{version}");
            assert_eq!(
                read(format!("{line}\r\nx: y\r\n\r\n")),
                Err(Malformed::Host),
                "{version}"
            );
            assert_eq!(refused(&line, "Host: a\r\n"), (Malformed::Host, 400), "{version}");
            assert_eq!(
                read(format!("{line}\r\nhost: a b\r\n\r\n")),
                Err(Malformed::Host),
                "{version}"
            );
        }
    }

    #[test]
    fn a_length_is_one_number_of_at_most_15_digits() {
        for length in [
            "",
            "+1",
            "-1",
            "1,1",
            "1, 1",
            "0x1",
            "1 1",
            "1.0",
            "1234567890123456",
            "\u{661}",
        ] {
            let fields = format!("content-length: {length}\r\n");
            assert_eq!(refused(POST, &fields), (Malformed::Length, 400), "{length}");
        }
        let twice = "content-length: 1\r\nContent-Length: 1\r\n";
        assert_eq!(refused(POST, twice), (Malformed::Length, 400));
        let longest = with(POST, "content-length: 999999999999999\r\n").unwrap();
        assert_eq!(longest.framing, Framing::Length(999_999_999_999_999));
    }

    #[test]
    fn an_encoding_is_chunked_alone_and_not_beside_a_length() {
        let chunked = "transfer-encoding: Chunked\r\n";
        assert_eq!(with(POST, chunked).unwrap().framing, Framing::Chunked);
        for encoding in [
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked;a",
            "\"chunked\"",
            "\u{b}chunked",
            "identity",
            "",
        ] {
            let fields = format!("transfer-encoding: {encoding}\r\n");
            match with(POST, &fields) {
                Err(Malformed::Encoding | Malformed::Head) => {}
                accepted => panic!("{encoding}: {accepted:?}"),
            }
        }
        assert_eq!(refused(POST, "transfer-encoding: gzip\r\n"), (Malformed::Encoding, 501));
        assert_eq!(refused(POST, &chunked.repeat(2)), (Malformed::Encoding, 501));
        assert_eq!(refused(OLD, chunked), (Malformed::Encoding, 501));
        for both in [
            format!("{chunked}content-length: 1\r\n"),
            format!("content-length: 1\r\n{chunked}"),
        ] {
            assert_eq!(refused(POST, &both), (Malformed::TwoFramings, 400));
        }
    }

    #[test]
    fn a_request_that_says_nothing_of_a_body_has_none() {
        for line in [POST, OLD, "GET / HTTP/1.1"] {
            assert_eq!(
                with(line, "connection: close\r\n").unwrap().framing,
                Framing::None,
                "{line}"
            );
        }
        assert_eq!(
            with("GET / HTTP/1.1", "content-length: 2\r\n").unwrap().framing,
            Framing::Length(2)
        );
    }

    #[test]
    fn only_a_client_with_a_body_may_wait_for_100_continue_and_for_nothing_else() {
        let length = "content-length: 1\r\n";
        let waits = |line, fields: &str| {
            with(line, &format!("Expect: 100-Continue\r\n{fields}"))
                .unwrap()
                .expects_continue
        };
        assert!(waits(POST, length));
        assert!(waits(POST, "transfer-encoding: chunked\r\n"));
        assert!(!waits(POST, ""));
        assert!(!waits(POST, "content-length: 0\r\n"));
        assert!(!waits(OLD, length));
        for expectation in ["", "x", "100-continue, x", "100-continue\r\nexpect: 100-continue"] {
            let fields = format!("expect: {expectation}\r\n{length}");
            assert_eq!(refused(POST, &fields), (Malformed::Expectation, 417), "{expectation}");
        }
    }

    #[test]
    fn a_connection_stays_open_unless_the_client_says_otherwise() {
        let stays = |line, fields| with(line, fields).unwrap().keeps_open;
        assert!(stays(POST, ""));
        assert!(!stays(POST, "connection: Close\r\n"));
        assert!(!stays(POST, "connection: keep-alive\r\nconnection: x ,close\r\n"));
        assert!(!stays(OLD, ""));
        assert!(stays(OLD, "connection: Keep-Alive\r\n"));
        assert!(!stays(OLD, "connection: keep-alive, close\r\n"));
    }

    #[test]
    fn an_upgrade_changes_nothing() {
        let fields = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
        let head = with("GET / HTTP/1.1", fields).unwrap();
        assert_eq!((head.framing, head.keeps_open), (Framing::None, true));
    }
}
