//! The bodies of requests and answers, as the connection they belong to must know of them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Phase;

/// Bytes a second that a body comes with at least, after the first wait.
const SLOWEST: u64 = 4 * 1024;

/// The body of a request was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the request came too slowly")]
pub struct TooSlow;

/// Whether an error that reading a body gave is, or was caused by, [`TooSlow`].
pub fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}

/// The body of a request that must come: each piece within `patience`, and all of it with 4 KiB a second after that.
pub fn request_body<B: Body>(body: B, patience: Duration, phase: Arc<Phase>) -> RequestBody<B> {
    RequestBody {
        body,
        patience,
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
    patience: Duration,
    phase: Arc<Phase>,
    wait: Option<Wait>,
    bytes: u64,
    ended: bool,
}

#[derive(Debug)]
struct Wait {
    began: Instant,
    /// A piece has come since the alarm was set.
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
                let length = frame.data_ref().map_or(0, Buf::remaining);
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
        let patience = this.patience;
        let wait = this.wait.get_or_insert_with(|| Wait {
            began: now,
            moved: false,
            alarm: Box::pin(sleep_until(now + patience)),
        });
        if std::mem::take(&mut wait.moved) {
            let whole = wait.began + patience + Duration::from_secs(this.bytes / SLOWEST);
            wait.alarm.as_mut().reset(whole.min(now + patience));
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

/// A request under way. Dropping it ends it.
#[derive(Debug)]
pub struct Served(Arc<Phase>);

impl Served {
    /// A request begins.
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

/// The body of an answer. Its request is under way until it has ended.
pub fn response_body<B>(body: B, served: Served) -> ResponseBody<B> {
    ResponseBody { body, _served: served }
}

/// See [`response_body`].
#[derive(Debug)]
pub struct ResponseBody<B> {
    body: B,
    _served: Served,
}

impl<B: Body + Unpin> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
