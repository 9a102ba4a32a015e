//! Sends bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Sends what can be sent of `pieces`, and returns how much that was. A single piece is sent by a system call that costs less than the one for several.
pub fn poll_send<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    pieces: &mut impl Buf,
) -> Poll<io::Result<usize>> {
    let first = pieces.chunk();
    if first.len() < pieces.remaining() {
        return poll_write_buf(Pin::new(io), cx, pieces);
    }
    let sent = ready!(Pin::new(io).poll_write(cx, first))?;
    pieces.advance(sent);
    Poll::Ready(Ok(sent))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn one_piece_or_several_are_sent_as_far_as_there_is_room() {
        for pieces in [["", "abcdef"], ["abc", "def"], ["abcdef", ""]] {
            let (mut ours, mut theirs) = tokio::io::duplex(4);
            let [first, second] = pieces.map(|piece| Bytes::from_static(piece.as_bytes()));
            let mut pieces = first.chain(second);
            let mut came = Vec::new();
            while pieces.has_remaining() {
                let before = pieces.remaining();
                let sent = poll_fn(|cx| poll_send(&mut ours, cx, &mut pieces)).await.unwrap();
                assert_eq!(before - pieces.remaining(), sent);
                let mut buffer = [0; 4];
                let read = theirs.read(&mut buffer).await.unwrap();
                came.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(came, b"abcdef");
        }
    }
}
