//! Where a body ends, and what comes of its connection (RFC 9112, sections 6 and 9.3).

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::Malformed;

/// The most digits of a length: none is near the end of its type.
pub(super) const MAX_DIGITS: usize = 15;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Framing {
    /// That of an answer which is written to a request with this method and version. `length` is that of the body, where it is known. Behind the answer to
    /// a HEAD request there is no body: its framing is what `headers` say of the answer to GET.
    pub fn for_answer(
        method: &Method,
        version: Version,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Self {
        if has_no_body(status) {
            return Self::None;
        }
        if method == Method::HEAD {
            let given = headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
            return given.and_then(self::length).map_or(Self::None, Self::Length);
        }
        match length {
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_10 => Self::UntilClose,
            None => Self::Chunked,
        }
    }
}

/// Whether no answer with this status has a body.
fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What the fields of a head say of it.
#[derive(Debug, Default)]
pub(super) struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Said {
    /// Takes a field into account.
    pub(super) fn hear(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Malformed> {
        if name == header::CONTENT_LENGTH {
            if self.length.is_some() {
                return Err(Malformed::Length);
            }
            self.length = Some(length(value).ok_or(Malformed::Length)?);
        } else if name == header::TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Encoding);
            }
            self.chunked = true;
        } else if name == header::CONNECTION {
            for option in value.split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    /// The framing of an answer, and whether its connection stays open behind it. `to_head`: it answers a HEAD request.
    pub(super) fn of_answer(
        &self,
        status: StatusCode,
        version: Version,
        to_head: bool,
    ) -> Result<(Framing, bool), Malformed> {
        let framing = match self.framing(version)? {
            _ if to_head || has_no_body(status) => Framing::None,
            None => Framing::UntilClose,
            Some(framing) => framing,
        };
        Ok((framing, self.stays_open(version) && framing != Framing::UntilClose))
    }

    /// The framing of a request, and whether the client keeps its connection open behind the answer.
    pub(super) fn of_request(&self, version: Version) -> Result<(Framing, bool), Malformed> {
        let framing = self.framing(version)?.unwrap_or(Framing::None);
        Ok((framing, self.stays_open(version)))
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Malformed> {
        match (self.chunked, self.length) {
            (true, _) if version == Version::HTTP_10 => Err(Malformed::Encoding),
            (true, Some(_)) => Err(Malformed::TwoFramings),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }

    fn stays_open(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version != Version::HTTP_10)
    }
}

/// A number that all recipients read alike.
fn length(value: &[u8]) -> Option<u64> {
    if value.len() > MAX_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_framed_by_its_length_or_in_chunks_or_by_the_end_of_its_connection() {
        let framing = |method, version, status: u16, length| {
            let status = StatusCode::from_u16(status).unwrap();
            Framing::for_answer(&method, version, status, &HeaderMap::new(), length)
        };
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(framing(Method::GET, version, 200, Some(0)), Framing::Length(0));
            for status in [100, 204, 304] {
                assert_eq!(framing(Method::GET, version, status, None), Framing::None);
            }
        }
        assert_eq!(framing(Method::GET, Version::HTTP_11, 200, None), Framing::Chunked);
        assert_eq!(framing(Method::GET, Version::HTTP_10, 200, None), Framing::UntilClose);
    }

    #[test]
    fn an_answer_to_head_has_the_length_that_one_to_get_has() {
        let mut headers = HeaderMap::new();
        let framing = |headers: &HeaderMap, status| {
            Framing::for_answer(&Method::HEAD, Version::HTTP_11, status, headers, Some(0))
        };
        assert_eq!(framing(&headers, StatusCode::OK), Framing::None);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        assert_eq!(framing(&headers, StatusCode::OK), Framing::Length(7));
        assert_eq!(framing(&headers, StatusCode::NO_CONTENT), Framing::None);
    }
}
