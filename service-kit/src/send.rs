//! Sends bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Sends what can be sent of `pieces`. Fails where nothing can be sent any more. A single piece is sent by a system call that costs less than the one for several.
pub fn poll_send<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    pieces: &mut impl Buf,
) -> Poll<io::Result<()>> {
    let first = pieces.chunk();
    let sent = if first.len() < pieces.remaining() {
        ready!(poll_write_buf(Pin::new(io), cx, pieces))?
    } else {
        let sent = ready!(Pin::new(io).poll_write(cx, first))?;
        pieces.advance(sent);
        sent
    };
    Poll::Ready(if sent == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(())
    })
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
                poll_fn(|cx| poll_send(&mut ours, cx, &mut pieces)).await.unwrap();
                let mut buffer = [0; 4];
                let read = theirs.read(&mut buffer).await.unwrap();
                assert_eq!(before - pieces.remaining(), read);
                came.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(came, b"abcdef");
        }
    }

    #[tokio::test]
    async fn what_takes_nothing_any_more_is_an_error() {
        for [first, second] in [["", "abcdef"], ["abc", "def"]] {
            let mut pieces = Buf::chain(first.as_bytes(), second.as_bytes());
            let mut full = io::Cursor::new(Box::<[u8]>::default());
            let sent = poll_fn(|cx| poll_send(&mut full, cx, &mut pieces)).await;
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::WriteZero);
        }
    }
}
