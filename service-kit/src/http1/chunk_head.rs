//! What surrounds the data of a chunk that is written (RFC 9112, section 7.1).

use std::num::NonZeroUsize;

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What follows the last chunk: it ends the body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The hexadecimal digits of the largest length.
const MAX_DIGITS: usize = size_of::<usize>() * 2;

/// The line in front of a chunk's data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    line: [u8; MAX_DIGITS + 2],
    start: usize,
}

impl ChunkHead {
    /// For data of this length. A chunk without data would end the body.
    pub fn new(length: NonZeroUsize) -> Self {
        let mut line = [b'\n'; MAX_DIGITS + 2];
        line[MAX_DIGITS] = b'\r';
        let (mut start, mut left) = (MAX_DIGITS, length.get());
        while left > 0 {
            start -= 1;
            line[start] = b"0123456789abcdef"[left % 16];
            left /= 16;
        }
        Self { line, start }
    }
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        &self.line[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http1::{BodyReader, Framing};

    #[test]
    fn chunks_that_are_written_are_read_again() {
        for length in [1, 9, 15, 16, 255, 4096, 70_000] {
            let data = vec![b'x'; length];
            let head = ChunkHead::new(NonZeroUsize::new(length).unwrap());
            let mut written = BytesMut::from(&[head.as_ref(), &data, CHUNK_END, LAST_CHUNK].concat()[..]);
            let mut reader = BodyReader::new(Framing::Chunked);
            assert_eq!(reader.read(&mut written).unwrap().unwrap(), data, "{length}");
            assert!(reader.is_ended() && written.is_empty(), "{length}");
        }
    }

    #[test]
    fn a_size_is_hexadecimal_without_zeros_in_front() {
        assert_eq!(ChunkHead::new(NonZeroUsize::MIN).as_ref(), b"1\r\n");
        assert_eq!(
            ChunkHead::new(NonZeroUsize::new(0xabc_def0).unwrap()).as_ref(),
            b"abcdef0\r\n"
        );
        assert_eq!(
            ChunkHead::new(NonZeroUsize::MAX).as_ref(),
            format!("{:x}\r\n", usize::MAX).as_bytes()
        );
    }
}
