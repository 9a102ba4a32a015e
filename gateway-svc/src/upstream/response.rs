//! What servers answer: a head, and a body that has not been read.

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    response::Parts,
};

/// The head of a response, with what is worked out of it once. Cheap to clone: as long as a server answers the same but for `Content-Length`, a connection
/// has one for all its responses. That field may be missing: the length is the body's.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    parts: Arc<Parts>,
    /// See [`Response::is_plain_json`].
    is_plain_json: bool,
}

impl Head {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        let is_plain_json = parts.status == StatusCode::OK
            && !is_encoded(&parts.headers)
            && media_type(&parts.headers) == "application/json";
        Self { parts, is_plain_json }
    }

    pub(super) const fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response<B> {
    head: Head,
    body: B,
}

impl<B> Response<B> {
    pub(super) const fn new(head: Head, body: B) -> Self {
        Self { head, body }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.head.parts.status
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.parts.headers
    }

    /// Whether this is what most calls are answered with: JSON that is not encoded, under HTTP 200.
    pub(super) const fn is_plain_json(&self) -> bool {
        self.head.is_plain_json
    }

    pub(crate) fn into_body(self) -> B {
        self.body
    }

    pub(super) fn map<C>(self, body: impl FnOnce(B) -> C) -> Response<C> {
        Response::new(self.head, body(self.body))
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self::new(Head::new(Arc::new(parts)), body)
    }
}

/// Whether the body must be decoded.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING);
    encoding.is_some_and(|encoding| encoding != "identity")
}

/// In lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    match kind.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => kind.to_ascii_lowercase().into(),
        false => kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_calls_are_answered_with_plain_json() {
        let is_plain_json = |status: u16, fields: &[(&str, &str)]| {
            let mut response = http::Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            Response::from(response.body(()).unwrap()).is_plain_json()
        };
        let json = ("content-type", "Application/JSON; charset=utf-8");
        assert!(is_plain_json(200, &[json]));
        assert!(is_plain_json(200, &[json, ("content-encoding", "identity")]));
        assert!(!is_plain_json(200, &[json, ("content-encoding", "gzip")]));
        assert!(!is_plain_json(202, &[json]));
        assert!(!is_plain_json(401, &[json]));
        assert!(!is_plain_json(200, &[("content-type", "text/event-stream")]));
        assert!(!is_plain_json(200, &[]));
    }
}
