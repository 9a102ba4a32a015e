//! The head of a request that a client sends.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, Version, header};
use httparse::{ParserConfig, Request, Status};
use memchr::memchr;

use super::{
    Framing, Malformed,
    head::{self, MAX_FIELDS, MAX_HEAD},
    host::has_one_host,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// One of those that are served.
    pub method: Method,
    /// In origin form: a path and perhaps a query.
    pub uri: Uri,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// All fields, those of the connection too. Has exactly one `Host`.
    pub headers: HeaderMap,
    /// Where the body ends. Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client keeps the connection open behind the answer.
    pub keeps_open: bool,
    /// Whether the client may wait for an interim answer (100) before it sends the body.
    pub expects_continue: bool,
}

/// Reads the heads of the requests of a connection.
#[derive(Debug, Default)]
pub struct RequestReader {
    blank_lines: usize,
    /// Once it has come.
    method: Option<Method>,
    section: Section,
}

impl RequestReader {
    /// Takes a head out of what has come; `None` where more must come. The body begins with what stays; and as long as nothing stays, no request has begun.
    /// Reads the next head when it is called behind the body. Must not be called again after an error.
    pub fn read(&mut self, came: &mut BytesMut) -> Result<Option<RequestHead>, Malformed> {
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
        let head = parse(method, &came[..end])?;
        came.advance(end);
        *self = Self::default();
        Ok(Some(head))
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

fn parse(method: Method, head: &[u8]) -> Result<RequestHead, Malformed> {
    // An allocation of its own: a field that is kept must not keep the connection's whole buffer.
    let head = Bytes::copy_from_slice(head);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = Request::new(&mut []);
    match ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, &head, &mut fields) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        Err(httparse::Error::Version) if has_other_version(&head) => return Err(Malformed::Version),
        _ => return Err(Malformed::Head),
    }
    let uri = target(&head, parsed.path.unwrap_or_default())?;
    let version = head::version(parsed.version);
    let (headers, said) = head::fields(&head, parsed.headers)?;
    if !has_one_host(&headers) {
        return Err(Malformed::Host);
    }
    let (framing, keeps_open) = said.of_request(version)?;
    let expects_continue = expects_continue(&headers)?;
    // RFC 9110, section 10.1.1: not of HTTP/1.0, and not without a body.
    let waits = version != Version::HTTP_10 && !matches!(framing, Framing::None | Framing::Length(0));
    Ok(RequestHead {
        method,
        uri,
        version,
        headers,
        framing,
        keeps_open,
        expects_continue: expects_continue && waits,
    })
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
