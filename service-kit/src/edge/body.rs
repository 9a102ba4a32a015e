//! Bodies of requests and responses that report their progress to the connection, and fail if the client is too slow.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Phase;

/// The lowest rate, in bytes a second, at which a client must send a body and read a response, after the first wait.
pub(super) const SLOWEST: u64 = 4 * 1024;
/// On a multiplexed connection, a response is handed over in pieces of this size, and each must be sent in time. The
/// size is that of an HTTP/2 frame: the streams of a connection take turns by frame, so a longer piece would be
/// finished only when all others are.
const PIECE: usize = 16 << 10;

/// The client sent the body of its request too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the request came too slowly")]
pub struct TooSlow;

/// Whether an error from reading a body is, or was caused by, [`TooSlow`].
pub fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}

/// Wraps the body of a request: each piece must arrive within `client_timeout`, and the whole at 4 KiB a second after that.
pub fn request_body<B: Body>(body: B, client_timeout: Duration, phase: Arc<Phase>) -> RequestBody<B> {
    RequestBody {
        body,
        client_timeout,
        phase,
        wait: None,
        bytes: 0,
        ended: false,
    }
}

/// See [`request_body`].
#[derive(Debug)]
pub struct RequestBody<B: Body> {
    body: B,
    client_timeout: Duration,
    phase: Arc<Phase>,
    wait: Option<Wait>,
    bytes: u64,
    ended: bool,
}

#[derive(Debug)]
struct Wait {
    began: Instant,
    /// A piece has arrived since the alarm was set.
    moved: bool,
    alarm: Pin<Box<Sleep>>,
}

impl<B> Body for RequestBody<B>
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, bytes::Buf::remaining);
                this.bytes += u64::try_from(length).unwrap_or(u64::MAX);
                if let Some(wait) = &mut this.wait {
                    wait.moved |= length > 0;
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        let now = Instant::now();
        let client_timeout = this.client_timeout;
        let wait = this.wait.get_or_insert_with(|| Wait {
            began: now,
            moved: false,
            alarm: Box::pin(sleep_until(now + client_timeout)),
        });
        if std::mem::take(&mut wait.moved) {
            let whole = wait.began + client_timeout + Duration::from_secs(this.bytes / SLOWEST);
            wait.alarm.as_mut().reset(whole.min(now + client_timeout));
        }
        wait.alarm.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.phase.leaves_body_unread();
        }
    }
}

/// A request in progress; it ends when this is dropped.
#[derive(Debug)]
pub struct Served(Arc<Phase>);

impl Served {
    /// Begins a request on a connection.
    pub fn begin(phase: Arc<Phase>) -> Self {
        phase.request_begins();
        Self(phase)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// Wraps the body of a response. On a connection with one response at a time, the request ends with the body, since
/// writing waits for the client. On a multiplexed connection, the request ends when the client has read all of the
/// response: there, a client could read other responses and leave this one waiting.
pub fn response_body<B>(body: B, served: Served) -> ResponseBody<B> {
    ResponseBody {
        body,
        answer: Arc::new(Answer {
            served,
            untaken: AtomicU32::new(0),
        }),
        rest: Bytes::new(),
    }
}

/// See [`response_body`].
#[derive(Debug)]
pub struct ResponseBody<B> {
    body: B,
    answer: Arc<Answer>,
    /// The part of the last frame that is still to be handed over.
    rest: Bytes,
}

/// The state that all pieces of a response share.
#[derive(Debug)]
struct Answer {
    served: Served,
    untaken: AtomicU32,
}

/// A piece of a response. It counts as sent when it is dropped.
struct Piece {
    data: Bytes,
    answer: Arc<Answer>,
    lap: usize,
}

impl Piece {
    fn hand_over(data: Bytes, answer: &Arc<Answer>) -> Bytes {
        let first = answer.untaken.fetch_add(1, Relaxed) == 0;
        Bytes::from_owner(Self {
            data,
            answer: Arc::clone(answer),
            lap: answer.served.0.hands_over(first),
        })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let last = self.answer.untaken.fetch_sub(1, Relaxed) == 1;
        self.answer.served.0.is_taken(self.lap, last);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let next = ready!(Pin::new(&mut this.body).poll_frame(cx));
            if !this.answer.served.0.is_multiplexed() {
                return Poll::Ready(next);
            }
            match next.map(|next| next.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(Piece::hand_over(piece, &this.answer)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let mut hint = self.body.size_hint();
        // The upper bound is set first, because it may not be less than the lower one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
