//! The body of a request, which its connection reads only when it is wanted.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use service_kit::http1::Malformed;

/// Why a body has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection ended before it")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The answer has begun: nothing more of the request is read.
    #[error("it is not read behind its answer")]
    Answered,
}

/// A body with this many bytes left, where that is known; with what its connection gives to it.
pub(super) fn incoming(left: Option<u64>) -> (Incoming, Wants) {
    let shared = Arc::new(Shared::default());
    let wants = Wants(Arc::clone(&shared));
    (Incoming { shared, left }, wants)
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// At most one piece waits.
    piece: Option<Result<Bytes, Broken>>,
    is_over: bool,
    /// Somebody waits for a piece.
    reader: Option<Waker>,
    is_dropped: bool,
    connection: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body, for what answers the request.
#[derive(Debug)]
pub(super) struct Incoming {
    shared: Arc<Shared>,
    left: Option<u64>,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.shared.lock();
        match state.piece.take() {
            Some(piece) => {
                let is_over = state.is_over;
                drop(state);
                let length = piece.as_ref().map_or(0, Bytes::len) as u64;
                self.left = if is_over {
                    Some(0)
                } else {
                    self.left.map(|left| left.saturating_sub(length))
                };
                Poll::Ready(Some(piece.map(Frame::data)))
            }
            None if state.is_over => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                let connection = state.connection.take();
                drop(state);
                if let Some(connection) = connection.filter(|connection| !connection.will_wake(cx.waker())) {
                    connection.wake();
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        state.is_over && state.piece.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_dropped = true;
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

/// What becomes of a body, for its connection. If this is dropped before the end, the body is broken.
#[derive(Debug)]
pub(super) struct Wants(Arc<Shared>);

impl Wants {
    /// Ready when a piece is wanted, with true, or nobody wants the body any more.
    pub(super) fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock();
        if state.is_dropped {
            return Poll::Ready(false);
        }
        if state.reader.is_some() && state.piece.is_none() {
            return Poll::Ready(true);
        }
        state.connection = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the next piece to who waits for it; `is_over`: the last one.
    pub(super) fn give(&self, piece: Option<Result<Bytes, Broken>>, is_over: bool) {
        let mut state = self.0.lock();
        state.piece = piece;
        state.is_over |= is_over;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        let is_over = self.0.lock().is_over;
        if !is_over {
            self.give(Some(Err(Broken::Answered)), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn wanted(wants: &Wants) -> Option<bool> {
        match wants.poll_wanted(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(wanted) => Some(wanted),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_piece_is_read_only_when_it_is_wanted() {
        let (mut body, wants) = incoming(Some(3));
        assert_eq!(wanted(&wants), None);
        assert!(body.frame().now_or_never().is_none());
        assert_eq!(wanted(&wants), Some(true));
        wants.give(Some(Ok(Bytes::from_static(b"ab"))), false);
        assert_eq!(wanted(&wants), None);
        let piece = body.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "ab");
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(wanted(&wants), None);
        assert!(body.frame().now_or_never().is_none());
        wants.give(Some(Ok(Bytes::from_static(b"c"))), true);
        drop(wants);
        assert!(!body.is_end_stream());
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(body.is_end_stream());
        assert!(body.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_body_that_nobody_wants_is_not_read() {
        let (body, wants) = incoming(None);
        drop(body);
        assert_eq!(wanted(&wants), Some(false));
    }

    #[test]
    fn a_body_that_is_not_read_to_its_end_is_broken() {
        let (mut body, wants) = incoming(None);
        drop(wants);
        let broken = body.frame().now_or_never().unwrap().unwrap();
        assert_eq!(broken.unwrap_err(), Broken::Answered);
        assert!(body.is_end_stream());
    }
}
