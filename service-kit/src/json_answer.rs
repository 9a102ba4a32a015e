//! Answers with JSON, as most are, made without a map of fields and without a body that is asked for its pieces.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};

use crate::quota::{InFlight, until_sent};

/// Pieces up to this size together are sent as one.
const JOIN: usize = 8 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 200 with a JSON text in pieces, some of which may be empty.
#[derive(Debug)]
pub struct JsonAnswer {
    /// The text.
    pub pieces: [Bytes; 5],
    /// What it answers, which is in progress until it is sent.
    pub in_flight: Option<InFlight>,
}

impl JsonAnswer {
    /// Bytes of the text.
    pub fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether it is short enough to be copied behind its head.
    pub fn is_short(&self) -> bool {
        self.length() <= JOIN
    }

    /// Copies the text.
    pub fn copy_to(&self, buffer: &mut BytesMut) {
        join(&self.pieces, buffer);
    }
}

impl From<JsonAnswer> for Response {
    fn from(answer: JsonAnswer) -> Self {
        let JsonAnswer { pieces, in_flight } = answer;
        let response = json_response(pieces);
        match in_flight {
            Some(in_flight) => until_sent(in_flight, response),
            None => response,
        }
    }
}

/// 200 with a JSON text in pieces.
pub fn json_response(pieces: impl AsRef<[Bytes]> + Send + Unpin + 'static) -> Response {
    let size: usize = pieces.as_ref().iter().map(Bytes::len).sum();
    let body = if size <= JOIN {
        let mut joined = BytesMut::with_capacity(size);
        join(pieces.as_ref(), &mut joined);
        Body::from(joined.freeze())
    } else {
        Body::new(Pieces { pieces, next: 0 })
    };
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn join(pieces: &[Bytes], to: &mut BytesMut) {
    pieces.iter().for_each(|piece| to.extend_from_slice(piece));
}

struct Pieces<P> {
    pieces: P,
    next: usize,
}

impl<P: AsRef<[Bytes]> + Unpin> http_body::Body for Pieces<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(piece) = self.pieces.as_ref().get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.pieces.as_ref().len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            self.pieces
                .as_ref()
                .iter()
                .skip(self.next)
                .map(|piece| piece.len() as u64)
                .sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_pieces_are_the_text_whether_they_are_joined_or_not() {
        for length in [0, 1, JOIN - 2, JOIN, 3 * JOIN] {
            let long = "x".repeat(length);
            let mut pieces = ["{", "", &long, "}", ""].map(|piece| Bytes::copy_from_slice(piece.as_bytes()));
            pieces[1] = Bytes::new();
            let answer = JsonAnswer {
                pieces,
                in_flight: None,
            };
            assert_eq!((answer.length(), answer.is_short()), (length + 2, length + 2 <= JOIN));
            let response = Response::from(answer);
            assert_eq!(response.headers()["content-type"], "application/json");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("{{{long}}}"));
        }
    }
}
