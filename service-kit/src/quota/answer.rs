//! Responses that hold a permit until they are sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Keeps `in_flight` until the whole response is sent or the client has disconnected.
pub fn until_sent(in_flight: impl Send + Unpin + 'static, answer: Response) -> Response {
    answer.map(|body| {
        Body::new(Counted {
            body,
            _in_flight: in_flight,
        })
    })
}

struct Counted<U> {
    body: Body,
    _in_flight: U,
}

impl<U: Unpin> http_body::Body for Counted<U> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
