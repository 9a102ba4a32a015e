//! The bodies of responses, whatever reads them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::{self, OwnBody};

/// The body of a response. Once it was read to its end, its connection is kept; one that is dropped before closes it, unless the rest has come.
#[derive(Debug)]
pub(crate) enum Body {
    Own(OwnBody),
    Hyper(Incoming),
}

/// Why a body has no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is not complete")]
    Own(#[source] http1::BodyError),
    #[error("the body is not complete")]
    Hyper(#[source] hyper::Error),
}

impl BodyError {
    /// What is wrong with the answer.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Own(http1::BodyError::Malformed(malformed)) => malformed.to_string(),
            Self::Own(http1::BodyError::Broken(_)) | Self::Hyper(_) => "it ended early".to_owned(),
        }
    }
}

impl Body {
    /// How many bytes have not come of a body of a stated length, as far as [`Self::poll_missing`] can receive them.
    pub(super) fn missing(&self) -> usize {
        match self {
            Self::Own(body) => body.missing(),
            Self::Hyper(_) => 0,
        }
    }

    /// All of a body of a stated length, once nothing of it is missing as far as [`Self::poll_missing`] can receive it: nothing is waited for then.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Own(body) => body.take_whole(),
            Self::Hyper(_) => None,
        }
    }

    /// Receives some of what is missing, behind what has come.
    pub(super) fn poll_missing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match self {
            Self::Own(body) => body.poll_missing(cx).map_err(BodyError::Own),
            Self::Hyper(_) => Poll::Ready(Ok(())),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.get_mut() {
            Self::Own(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BodyError::Own)),
            Self::Hyper(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BodyError::Hyper)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Hyper(body) => body.size_hint(),
        }
    }
}
