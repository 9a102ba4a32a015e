//! A POST that is sent again and again, each time with another body.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use service_kit::http1::{Unwritable, request_head};

use super::{
    body::OwnBody,
    client::Client,
    connection::{Message, Server},
};
use crate::upstream::{pool_error::PoolError, response::Response};

/// A body of at most this many bytes is written in one buffer with the head.
const SHORT_BODY: usize = 4 << 10;
/// The end of the head of a POST without a body.
const NO_LENGTH: &str = "0\r\n\r\n";

/// A POST to one server, without its body. It may contain a credential: it cannot be printed.
pub(crate) struct PreparedPost {
    client: Client,
    uri: Uri,
    server: Server,
    head: PostHead,
}

impl PreparedPost {
    /// A POST with these fields; `None` where it cannot be sent.
    pub(in crate::upstream) fn new(client: Client, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        Some(Self {
            client,
            server: Server::of(uri)?,
            head: PostHead::new(uri, headers).ok()?,
            uri: uri.clone(),
        })
    }

    /// Sends it with this body, as [`Client::request`]. The answer begins `within` this time.
    pub(crate) async fn send(&self, body: &Bytes, within: Duration) -> Result<Response<OwnBody>, PoolError> {
        let message = self.head.with(body);
        let (client, server) = (&self.client, &self.server);
        client
            .send(&self.uri, server, &Method::POST, message, Some(within))
            .await
    }
}

/// The head of a POST, up to the value of `Content-Length`.
struct PostHead(Bytes);

impl PostHead {
    fn new(uri: &Uri, headers: &HeaderMap) -> Result<Self, Unwritable> {
        let mut head = request_head(&Method::POST, uri, headers, 0)?;
        debug_assert!(head.ends_with(b"\r\ncontent-length: 0\r\n\r\n"));
        head.truncate(head.len() - NO_LENGTH.len());
        Ok(Self(head))
    }

    /// What is written: the head, which has the body in it where that is short, and the body otherwise.
    fn with(&self, body: &Bytes) -> Message {
        let is_short = body.len() <= SHORT_BODY;
        let together = if is_short { body.len() } else { 0 };
        let digits = body.len().checked_ilog10().unwrap_or_default() as usize;
        // Exactly what is written: a buffer with room left would have another allocation beside it.
        let mut head = Vec::with_capacity(self.0.len() + digits + NO_LENGTH.len() + together);
        head.extend_from_slice(&self.0);
        // It grows; it does not fail.
        let _ = write!(head, "{}\r\n\r\n", body.len());
        if !is_short {
            return [head.into(), body.clone()];
        }
        head.extend_from_slice(body);
        [head.into(), Bytes::new()]
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_is_prepared_is_written_as_any_other_request() {
        let uri = Uri::from_static("http://a.example:8080/mcp?a=b");
        let headers = HeaderMap::from_iter([
            (http::header::ACCEPT, HeaderValue::from_static("*/*")),
            (http::header::AUTHORIZATION, HeaderValue::from_static("Bearer secret")),
        ]);
        let prepared = PostHead::new(&uri, &headers).unwrap();
        for length in [0, 1, 9, 10, SHORT_BODY, SHORT_BODY + 1] {
            let body = Bytes::from(vec![b'x'; length]);
            let [head, rest] = prepared.with(&body);
            assert_eq!(rest.is_empty(), length <= SHORT_BODY);
            let expected = request_head(&Method::POST, &uri, &headers, length).unwrap();
            assert_eq!([head, rest].concat(), [expected, body].concat());
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_prepared() {
        assert!(PostHead::new(&Uri::from_static("/mcp"), &HeaderMap::new()).is_err());
    }
}
