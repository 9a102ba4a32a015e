//! The head of an answer.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};
use httparse::{ParserConfig, Response, Status};

use super::{
    Framing, Malformed,
    head::{self, MAX_FIELDS, MAX_HEAD},
    section::Section,
};

/// The most interim responses (1xx) before an answer.
const MAX_INTERIM: usize = 8;
/// How each answer begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Not 1xx.
    pub status: StatusCode,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// All fields, those of the connection too.
    pub headers: HeaderMap,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the server keeps the connection open behind the body.
    pub keeps_open: bool,
}

/// Reads the head of an answer, and skips interim responses before it.
#[derive(Debug)]
pub struct AnswerReader {
    to_head: bool,
    section: Section,
    interim: usize,
}

impl AnswerReader {
    /// For the answer to a request with this method.
    pub fn new(method: &Method) -> Self {
        Self {
            to_head: method == Method::HEAD,
            section: Section::default(),
            interim: 0,
        }
    }

    /// Takes the head out of what has come; `None` where more must come. The body begins with what stays. Must not be called again after the head, or
    /// an error.
    pub fn read(&mut self, came: &mut BytesMut) -> Result<Option<Answer>, Malformed> {
        loop {
            // A server that speaks something else may wait for an answer to its greeting.
            let most = came.len().min(BEGINNING.len());
            if came[..most] != BEGINNING[..most] {
                return Err(Malformed::NotHttp);
            }
            let end = self.section.end(came)?;
            if end.unwrap_or(came.len()) > MAX_HEAD {
                return Err(Malformed::HeadTooLarge);
            }
            let Some(end) = end else { return Ok(None) };
            let answer = parse(&came[..end], self.to_head)?;
            came.advance(end);
            if answer.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Malformed::SwitchesProtocols);
            }
            if !answer.status.is_informational() {
                return Ok(Some(answer));
            }
            self.section = Section::default();
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::TooManyInterim);
            }
        }
    }
}

fn parse(head: &[u8], to_head: bool) -> Result<Answer, Malformed> {
    // An allocation of its own: a field that is kept must not keep the connection's whole buffer.
    let head = Bytes::copy_from_slice(head);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut fields) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        _ => return Err(Malformed::Head),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Head)?;
    let version = head::version(parsed.version);
    let (headers, said) = head::fields(&head, parsed.headers)?;
    let (framing, keeps_open) = said.of_answer(status, version, to_head)?;
    Ok(Answer {
        status,
        version,
        headers,
        framing,
        keeps_open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::pieces::{Read, read_in_pieces};

    /// Reads an answer to a request with `method`; with what is behind the head.
    fn read_to(method: Method, text: &[u8]) -> Read<Answer> {
        read_in_pieces(text, || {
            let mut reader = AnswerReader::new(&method);
            move |came: &mut BytesMut| reader.read(came)
        })
    }

    fn read(text: impl AsRef<[u8]>) -> Result<Answer, Malformed> {
        read_to(Method::POST, text.as_ref()).map(|read| read.expect("the head is complete").0)
    }

    /// The framing of an answer with these fields, and whether its connection stays open.
    fn framed(line: &str, fields: &str) -> Result<(Framing, bool), Malformed> {
        read(format!("{line}\r\n{fields}\r\n")).map(|answer| (answer.framing, answer.keeps_open))
    }

    const OK: &str = "HTTP/1.1 200 OK";
    const OLD: &str = "HTTP/1.0 200 OK";

    #[test]
    fn a_head_is_read_and_the_body_stays() {
        let text = b"HTTP/1.1 404 Not \xe9 Found\r\nContent-Type: a/b\r\nset-cookie:a\r\nSet-Cookie: b \r\ncontent-length: 2\r\n\r\nok";
        let (answer, behind) = read_to(Method::POST, text).unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.version),
            (StatusCode::NOT_FOUND, Version::HTTP_11)
        );
        assert_eq!(answer.headers["content-type"], "a/b");
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
        assert_eq!((answer.framing, answer.keeps_open), (Framing::Length(2), true));
        assert_eq!(behind, b"ok");
        for cut in 0..text.len() - 2 {
            assert_eq!(read_to(Method::POST, &text[..cut]).unwrap(), None, "{cut}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused_before_its_end() {
        for text in [
            "SSH-2.0-OpenSSH\r\n",
            "nonsense",
            "HTTP/2",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "h",
        ] {
            let refused = read_to(Method::POST, text.as_bytes());
            assert_eq!(refused, Err(Malformed::NotHttp), "{text}");
        }
        for text in [
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\r\n\r\n",
        ] {
            assert_eq!(read(text), Err(Malformed::Head), "{text:?}");
        }
    }

    #[test]
    fn a_line_feed_without_a_carriage_return_is_refused_at_once() {
        for text in [
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 OK\r\na: b\n",
            "HTTP/1.1 200 OK\r\na: b\r\n\n",
        ] {
            let refused = read_to(Method::POST, text.as_bytes());
            assert_eq!(refused, Err(Malformed::BareLineFeed), "{text:?}");
        }
    }

    #[test]
    fn a_head_has_at_most_32_kb_and_64_fields() {
        let head = |length: usize| {
            let start = format!("{OK}\r\nconnection: close\r\na: ");
            let filled = length - start.len() - 4;
            format!("{start}{}\r\n\r\n", "x".repeat(filled))
        };
        assert!(read(head(MAX_HEAD)).is_ok());
        assert_eq!(read(head(MAX_HEAD + 1)), Err(Malformed::HeadTooLarge));
        let endless = format!("{OK}\r\n{}", "a: b\r\n".repeat(6_000));
        assert_eq!(read_to(Method::POST, endless.as_bytes()), Err(Malformed::HeadTooLarge));
        let fields = |count| framed(OK, &"a: b\r\n".repeat(count));
        assert!(fields(64).is_ok());
        assert_eq!(fields(65), Err(Malformed::TooManyFields));
    }

    #[test]
    fn a_length_is_one_number_of_at_most_15_digits() {
        for length in [
            "",
            "+1",
            "-1",
            "1,1",
            "0x1",
            "1 1",
            "1.0",
            "1234567890123456",
            "\u{661}",
        ] {
            let fields = format!("content-length: {length}\r\n");
            assert_eq!(framed(OK, &fields), Err(Malformed::Length), "{length}");
        }
        let twice = "content-length: 1\r\ncontent-length: 1\r\n";
        assert_eq!(framed(OK, twice), Err(Malformed::Length));
        let longest = framed(OK, "content-length: 999999999999999\r\n");
        assert_eq!(longest, Ok((Framing::Length(999_999_999_999_999), true)));
    }

    #[test]
    fn an_encoding_is_chunked_alone_and_not_beside_a_length() {
        for encoding in ["gzip", "gzip, chunked", "chunked, chunked", "chunked;a", "identity", ""] {
            let fields = format!("transfer-encoding: {encoding}\r\n");
            assert_eq!(framed(OK, &fields), Err(Malformed::Encoding), "{encoding}");
        }
        let chunked = "transfer-encoding: Chunked\r\n";
        assert_eq!(framed(OK, chunked), Ok((Framing::Chunked, true)));
        assert_eq!(framed(OK, &chunked.repeat(2)), Err(Malformed::Encoding));
        assert_eq!(framed(OLD, chunked), Err(Malformed::Encoding));
        for both in [
            format!("{chunked}content-length: 1\r\n"),
            format!("content-length: 1\r\n{chunked}"),
        ] {
            assert_eq!(framed(OK, &both), Err(Malformed::TwoFramings));
        }
    }

    #[test]
    fn a_connection_stays_open_unless_either_side_says_otherwise() {
        let length = "content-length: 1\r\n";
        let stays = |line, fields: &str| framed(line, &format!("{length}{fields}")).unwrap().1;
        assert!(stays(OK, ""));
        assert!(!stays(OK, "connection: Close\r\n"));
        assert!(!stays(OK, "connection: keep-alive, close\r\n"));
        assert!(!stays(OLD, ""));
        assert!(stays(OLD, "connection: keep-alive\r\n"));
        assert_eq!(framed(OK, ""), Ok((Framing::UntilClose, false)));
        assert_eq!(
            framed(OLD, "connection: keep-alive\r\n"),
            Ok((Framing::UntilClose, false))
        );
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_they_say() {
        for fields in ["", "content-length: 5\r\n", "transfer-encoding: chunked\r\n"] {
            for line in ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"] {
                assert_eq!(framed(line, fields), Ok((Framing::None, true)), "{line} {fields}");
            }
            let text = format!("{OK}\r\n{fields}\r\n");
            let (answer, _) = read_to(Method::HEAD, text.as_bytes()).unwrap().unwrap();
            assert_eq!(answer.framing, Framing::None, "{fields}");
        }
    }

    #[test]
    fn at_most_eight_interim_responses_are_skipped_and_no_protocol_is_switched() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n".repeat(4);
        let answer = format!("{OK}\r\ncontent-length: 0\r\n\r\n");
        let (read, _) = read_to(Method::POST, format!("{interim}{answer}").as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(read.status, StatusCode::OK);
        assert!(!read.headers.contains_key("link"));
        let nine = format!("{interim}HTTP/1.1 102 Processing\r\n\r\n{answer}");
        assert_eq!(read_to(Method::POST, nine.as_bytes()), Err(Malformed::TooManyInterim));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n";
        assert_eq!(
            read_to(Method::POST, switch.as_bytes()),
            Err(Malformed::SwitchesProtocols)
        );
    }
}
