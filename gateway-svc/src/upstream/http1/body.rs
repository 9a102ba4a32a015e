//! The body of an answer.

use std::{
    fmt, io,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use service_kit::{
    http1::{BodyReader, Framing, Malformed},
    receive::SHORT_READ,
};

use super::{connection::Connection, kept::Kept};

/// A chunk of at most so many bytes is one piece: of a long event, which as a rule is one chunk, nothing is copied then.
const CHUNK: usize = 256 << 10;
/// Bytes that may come with the last of a chunk.
const FRAMING: usize = 1 << 10;

/// Why a body has no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection ended before it.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// What came is not a body.
    #[error(transparent)]
    Malformed(Malformed),
}

/// The body of an answer, which has its connection until it is read.
pub(crate) struct OwnBody {
    reader: BodyReader,
    /// `None` behind the end, or an error.
    connection: Option<Box<Connection>>,
    /// Where the connection is kept behind the body; `None`: the server closes it.
    home: Option<Weak<Kept>>,
}

impl OwnBody {
    /// The body behind a head.
    pub(super) fn new(connection: Box<Connection>, framing: Framing, home: Option<Weak<Kept>>) -> Self {
        let mut body = Self {
            reader: BodyReader::new(framing),
            connection: Some(connection),
            home,
        };
        body.end_if_read();
        body
    }

    /// How many bytes have not come of a body of a stated length.
    pub(crate) fn missing(&self) -> usize {
        let Some(connection) = &self.connection else { return 0 };
        let left = self.reader.left().and_then(|left| usize::try_from(left).ok());
        left.unwrap_or_default().saturating_sub(connection.came.len())
    }

    /// Receives some of what is missing. Where nothing is taken before nothing is missing, all of the body is one piece, which was not copied together.
    pub(crate) fn poll_missing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let missing = self.missing();
        let Some(connection) = self.connection.as_mut().filter(|_| missing > 0) else {
            return Poll::Ready(Ok(()));
        };
        connection.send(cx);
        let error = match ready!(connection.poll_receive_whole(cx, missing)) {
            Ok(true) => return Poll::Ready(Ok(())),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        let error = connection.ended_early(error);
        self.connection = None;
        Poll::Ready(Err(BodyError::Broken(error)))
    }

    /// All of a body of a stated length, once nothing of it is missing. It has not been read before.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        let connection = self.connection.as_mut()?;
        if self.reader.left()? > connection.came.len() as u64 {
            return None;
        }
        let whole = self.reader.read(&mut connection.came).ok()?;
        self.end_if_read();
        whole
    }

    fn end_if_read(&mut self) {
        if self.reader.is_ended()
            && let Some(mut connection) = self.connection.take()
            && connection.is_at_rest()
            && let Some(home) = self.home.as_ref().and_then(Weak::upgrade)
        {
            home.put(connection);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            let read = self.reader.read_whole(&mut connection.came, CHUNK);
            if let Some(data) = read.map_err(BodyError::Malformed).transpose() {
                self.end_if_read();
                return Poll::Ready(Some(data));
            }
            if self.reader.is_ended() {
                self.end_if_read();
                continue;
            }
            connection.send(cx);
            let missing = self.reader.at_least().saturating_sub(connection.came.len() as u64);
            if let Ok(missing) = usize::try_from(missing)
                && (SHORT_READ..=CHUNK).contains(&missing)
            {
                connection.came.reserve(missing + FRAMING);
            }
            let error = match ready!(connection.poll_receive(cx, missing)) {
                Ok(true) => continue,
                Ok(false) if self.reader.close() => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Ok(false) => None,
                Err(error) => Some(error),
            };
            // Of a chunk that breaks off, what has come may be of use: a whole event.
            if let Ok(Some(data)) = self.reader.read(&mut connection.came) {
                return Poll::Ready(Some(Ok(data)));
            }
            let error = connection.ended_early(error);
            return Poll::Ready(Some(Err(BodyError::Broken(error))));
        }
    }
}

impl http_body::Body for OwnBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = ready!(self.poll_data(cx));
        if matches!(data, Some(Err(_))) {
            self.connection = None;
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.reader.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for OwnBody {
    /// What has come may be all that is left, as with answers to notifications, which nobody reads: many consist of a head and the end of an empty
    /// chunked body.
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            while let Ok(Some(_)) = self.reader.read(&mut connection.came) {}
            self.end_if_read();
        }
    }
}

impl fmt::Debug for OwnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnBody")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
