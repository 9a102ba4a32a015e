//! Response bodies: a message in pieces that is sent without being copied, and streams of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, interval_at};

/// Pieces up to this size together are sent as one.
const JOIN: usize = 8 << 10;
/// Silence on a stream is broken then, so that nobody between takes it for dead.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// 200 with a message in pieces.
pub(super) fn pieces(pieces: [Bytes; 3]) -> Response {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    let body = if size <= JOIN {
        let mut joined = BytesMut::with_capacity(size);
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        Body::from(joined.freeze())
    } else {
        Body::new(Pieces { pieces, next: 0 })
    };
    let mut response = body.into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with a stream of events, with comments where nothing else comes for long.
pub(super) fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Body::from_stream(keep_alive(events).map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn keep_alive(events: impl Stream<Item = Bytes> + Send + 'static) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        let mut events = std::pin::pin!(events);
        let mut silence = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        silence.reset();
                        yield event;
                    }
                    None => return,
                },
                _ = silence.tick() => yield Bytes::from_static(b": keep-alive\n\n"),
            }
        }
    }
}

struct Pieces {
    pieces: [Bytes; 3],
    next: usize,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(piece) = self.pieces.get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().skip(self.next).map(|piece| piece.len() as u64).sum())
    }
}
