//! What comes from a client, and what has not been sent to it.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use service_kit::{receive::poll_receive, send::poll_send};
use tokio::io::{AsyncRead, AsyncWrite};

/// The connection of a client.
pub(super) struct Client<I> {
    io: I,
    /// Received, not yet read. It holds no memory while nothing is.
    pub(super) came: BytesMut,
    unsent: Unsent,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Client<I> {
    pub(super) fn new(io: I) -> Self {
        Self {
            io,
            came: BytesMut::new(),
            unsent: Unsent::default(),
        }
    }

    /// What has come and is not read, and the connection.
    pub(super) fn into_parts(self) -> (Bytes, I) {
        (self.came.freeze(), self.io)
    }

    /// Receives more, of which at least so much will come. Returns false where the client has closed the connection.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, at_least: u64) -> Poll<io::Result<bool>> {
        poll_receive(&mut self.io, cx, &mut self.came, at_least)
    }

    /// Ready when the client has closed the connection while it waits for its answer, or the connection has failed. What else comes is the next
    /// request, and waits.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.came.is_empty() {
            match ready!(self.poll_receive(cx, 0)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(io::ErrorKind::ConnectionAborted.into()),
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    /// Releases the memory of what has been read.
    pub(super) fn rest(&mut self) {
        if self.came.is_empty() {
            self.came = BytesMut::new();
        }
    }

    /// Sends a piece behind those before it.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.unsent.push(piece);
    }

    /// How much has not been sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.length
    }

    /// Ready when all has been sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            ready!(poll_send(&mut self.io, cx, &mut self.unsent))?;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes the connection.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Pieces that have not been sent.
#[derive(Default)]
struct Unsent {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Unsent {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Unsent {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().zip(slices);
        pieces.map(|(piece, slice)| *slice = io::IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_sent_in_order_however_they_are_split() {
        let mut unsent = Unsent::default();
        for piece in ["ab", "", "cde", "f"] {
            unsent.push(Bytes::from_static(piece.as_bytes()));
        }
        let mut slices = [io::IoSlice::new(&[]); 2];
        assert_eq!(unsent.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"ab"[..], &b"cde"[..]));
        unsent.advance(3);
        assert_eq!((unsent.chunk(), unsent.remaining()), (&b"de"[..], 3));
        unsent.advance(3);
        assert_eq!((unsent.chunk(), unsent.remaining()), (&b""[..], 0));
        assert!(unsent.pieces.is_empty());
    }
}
