//! Receives bytes: short messages without a buffer that waits for them, long ones in long reads.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What one read returns at most of what may be short, in bytes.
pub const SHORT_READ: usize = 8 << 10;
/// What one read returns at most of what is long, in bytes.
pub const LONG_READ: usize = 128 << 10;
/// Where less than this is left of a buffer, the next long read gets another.
const FEW: usize = 2 << 10;

/// Appends what has come to `came`. `at_least`: how many bytes will come, as far as that is known; if they are few, `came` has as much memory as it has
/// bytes, and none while it waits for the first. Returns false where the sender has closed the connection.
pub fn poll_receive<I: AsyncRead + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    came: &mut BytesMut,
    at_least: u64,
) -> Poll<io::Result<bool>> {
    if at_least > SHORT_READ as u64 {
        if came.capacity() - came.len() < FEW {
            let wanted = usize::try_from(at_least).unwrap_or(LONG_READ);
            came.reserve(wanted.min(LONG_READ));
        }
        let received = ready!(poll_read_buf(Pin::new(io), cx, came));
        return Poll::Ready(received.map(|received| received > 0));
    }
    let mut buffer = [const { MaybeUninit::uninit() }; SHORT_READ];
    let mut buffer = ReadBuf::uninit(&mut buffer);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    came.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(!buffer.filled().is_empty()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_may_be_short_takes_no_memory_before_it_comes() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let mut came = BytesMut::new();
        let waits = poll_fn(|cx| Poll::Ready(poll_receive(&mut ours, cx, &mut came, 0).is_pending()));
        assert!(waits.await);
        assert_eq!(came.capacity(), 0);
        theirs.write_all(b"abc").await.unwrap();
        assert!(poll_fn(|cx| poll_receive(&mut ours, cx, &mut came, 0)).await.unwrap());
        assert_eq!(came, "abc");
        drop(theirs);
        assert!(!poll_fn(|cx| poll_receive(&mut ours, cx, &mut came, 0)).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_long_is_read_in_long_pieces() {
        let (mut ours, mut theirs) = tokio::io::duplex(2 * LONG_READ);
        theirs.write_all(&[b'x'; LONG_READ]).await.unwrap();
        let mut came = BytesMut::new();
        let received = poll_fn(|cx| poll_receive(&mut ours, cx, &mut came, LONG_READ as u64)).await;
        assert!(received.unwrap());
        assert_eq!(came.len(), LONG_READ);
    }
}
