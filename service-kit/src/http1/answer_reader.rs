//! The head of an answer.

use std::{mem::MaybeUninit, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Response, StatusCode, header, response::Parts};
use httparse::{ParserConfig, Status};

use super::{
    Framing, Malformed,
    head::{self, MAX_FIELDS, MAX_HEAD},
    same_head::{LastHead, SameHead},
    section::Section,
};

/// The most interim responses (1xx) before an answer.
const MAX_INTERIM: usize = 8;
/// How each answer begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status is not 1xx, the version HTTP/1.0 or 1.1. Has all fields, those of the connection too; only `Content-Length` is not among them, but in
    /// `framing`. As long as a server sends the same head but for that, these are the same.
    pub parts: Arc<Parts>,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the server keeps the connection open behind the body.
    pub keeps_open: bool,
}

#[cfg(test)]
impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        let said = |answer: &Self| (answer.framing, answer.keeps_open);
        let fields = |parts: &Parts| (parts.status, parts.version, parts.headers.clone());
        said(self) == said(other) && fields(&self.parts) == fields(&other.parts)
    }
}

#[cfg(test)]
impl Eq for Answer {}

/// Reads the heads of the answers of a connection, and skips interim responses before them.
#[derive(Debug, Default)]
pub struct AnswerReader {
    to_head: bool,
    section: Section,
    interim: usize,
    last: LastHead<Answer>,
}

impl AnswerReader {
    /// What comes next is the answer to a request with this method.
    pub fn expect(&mut self, method: &Method) {
        self.to_head = method == Method::HEAD;
        (self.section, self.interim) = (Section::default(), 0);
    }

    /// Takes the head out of what has come; `None` where more must come. The body begins with what stays. Must not be called again after the head before
    /// another answer is expected, nor after an error.
    pub fn read(&mut self, came: &mut BytesMut) -> Result<Option<Answer>, Malformed> {
        loop {
            if !self.to_head
                && let Some((end, last, length)) = self.last.again(came)
            {
                came.advance(end);
                let framing = Framing::Length(length);
                return Ok(Some(Answer {
                    framing,
                    ..last.clone()
                }));
            }
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
            let (answer, same) = parse(&came[..end], self.to_head)?;
            came.advance(end);
            let status = answer.parts.status;
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Malformed::SwitchesProtocols);
            }
            if !status.is_informational() {
                self.last.set(same, &answer);
                return Ok(Some(answer));
            }
            self.section = Section::default();
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::TooManyInterim);
            }
        }
    }

    /// Whether this head, which was read last, is known if it comes again.
    pub fn knows(&self, head: &Arc<Parts>) -> bool {
        self.last.head().is_some_and(|last| Arc::ptr_eq(&last.parts, head))
    }
}

/// Parses a head. With that by which it is known where it comes again.
fn parse(head: &[u8], to_head: bool) -> Result<(Answer, Option<SameHead>), Malformed> {
    // An allocation of its own: a field that is kept must not keep the connection's whole buffer.
    let head = Bytes::copy_from_slice(head);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut fields) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        _ => return Err(Malformed::Head),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Head)?;
    let version = head::version(parsed.version);
    let (mut headers, said) = head::fields(&head, parsed.headers)?;
    let (framing, keeps_open) = said.of_answer(status, version, to_head)?;
    // Where it does not frame a body, a length does not say what another one would.
    let same = (headers.remove(header::CONTENT_LENGTH))
        .filter(|_| matches!(framing, Framing::Length(_)))
        .and_then(|length| SameHead::new(&head, length.as_bytes()));
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    let answer = Answer {
        parts: Arc::new(parts),
        framing,
        keeps_open,
    };
    Ok((answer, same))
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;
    use crate::http1::pieces::{Read, read_in_pieces};

    /// Reads an answer to a request with `method`; with what is behind the head.
    fn read_to(method: Method, text: &[u8]) -> Read<Answer> {
        read_in_pieces(text, || {
            let mut reader = AnswerReader::default();
            reader.expect(&method);
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
        let Parts {
            status,
            version,
            headers,
            ..
        } = &*answer.parts;
        assert_eq!((*status, *version), (StatusCode::NOT_FOUND, Version::HTTP_11));
        assert_eq!(headers["content-type"], "a/b");
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
        assert!(!headers.contains_key("content-length"));
        assert_eq!((answer.framing, answer.keeps_open), (Framing::Length(2), true));
        assert_eq!(behind, b"ok");
        for cut in 0..text.len() - 2 {
            assert_eq!(read_to(Method::POST, &text[..cut]).unwrap(), None, "{cut}");
        }
    }

    /// As they would be read alone, from one connection.
    #[test]
    fn a_head_that_comes_again_says_the_same_but_for_its_length() {
        let head = |length: &str| format!("{OK}\r\nContent-Length: {length}\r\nx: y\r\n\r\n");
        let mut reader = AnswerReader::default();
        let mut read_next = |method: Method, text: &str| {
            let mut came = BytesMut::from(text);
            reader.expect(&method);
            let answer = reader.read(&mut came)?.expect("the head is complete");
            assert!(came.is_empty(), "{text:?}");
            assert_eq!(
                Ok(&answer),
                read_to(method, text.as_bytes()).map(|read| read.unwrap().0).as_ref(),
                "{text:?}"
            );
            Ok::<_, Malformed>(answer)
        };
        let first = read_next(Method::POST, &head("3")).unwrap();
        let again = read_next(Method::GET, &head("17")).unwrap();
        assert!(Arc::ptr_eq(&first.parts, &again.parts));
        assert_eq!((again.framing, again.keeps_open), (Framing::Length(17), true));
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
        let again = read_next(Method::POST, &format!("{interim}{}", head("5"))).unwrap();
        assert!(Arc::ptr_eq(&first.parts, &again.parts));
        assert_eq!(again.framing, Framing::Length(5));
        for (method, text) in [
            (Method::HEAD, head("3")),
            (Method::POST, head("3").replace("200 OK", "201 OK")),
            (Method::POST, head("3").replace("200 OK", "204 OK")),
            (Method::POST, head("3").replace("HTTP/1.1", "HTTP/1.0")),
            (Method::POST, head("3").replace("x: y", "x: z")),
            (Method::POST, head("3").replace("Content-Length: 3\r\n", "")),
            (
                Method::POST,
                head("3").replace("Content-Length: 3", "transfer-encoding: chunked"),
            ),
            (Method::POST, head("3").replace("x: y", "connection: close")),
            (Method::POST, head("4")),
        ] {
            let other = read_next(method, &text).unwrap();
            assert!(!Arc::ptr_eq(&first.parts, &other.parts), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_known_again_where_its_length_frames_a_body() {
        let knows = |method: Method, text: &str| {
            let mut reader = AnswerReader::default();
            reader.expect(&method);
            let answer = reader.read(&mut BytesMut::from(text)).unwrap().unwrap();
            reader.knows(&answer.parts)
        };
        let with_length = format!("{OK}\r\ncontent-length: 3\r\n\r\n");
        assert!(knows(Method::POST, &with_length));
        assert!(!knows(Method::HEAD, &with_length));
        assert!(!knows(Method::POST, &with_length.replace("200", "304")));
        assert!(!knows(Method::POST, &format!("{OK}\r\n\r\n")));
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
        assert_eq!(read.parts.status, StatusCode::OK);
        assert!(!read.parts.headers.contains_key("link"));
        let nine = format!("{interim}HTTP/1.1 102 Processing\r\n\r\n{answer}");
        assert_eq!(read_to(Method::POST, nine.as_bytes()), Err(Malformed::TooManyInterim));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n";
        assert_eq!(
            read_to(Method::POST, switch.as_bytes()),
            Err(Malformed::SwitchesProtocols)
        );
    }
}
