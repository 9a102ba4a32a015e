//! Heads that come in pieces, for tests.

use std::fmt::Debug;

use bytes::BytesMut;

use super::Malformed;

/// What is read, with what is behind it; `None` where more must come.
pub(super) type Read<T> = Result<Option<(T, Vec<u8>)>, Malformed>;

/// Reads a text whole and byte by byte, each with another of the readers that `reader` makes: they must read the same.
pub(super) fn read_in_pieces<T, R>(text: &[u8], reader: impl Fn() -> R) -> Read<T>
where
    T: Debug + PartialEq,
    R: FnMut(&mut BytesMut) -> Result<Option<T>, Malformed>,
{
    let read = |length| {
        let (mut read, mut came) = (reader(), BytesMut::new());
        let mut pieces = text.chunks(length);
        for piece in pieces.by_ref() {
            came.extend_from_slice(piece);
            if let Some(head) = read(&mut came)? {
                came.extend(pieces.flatten());
                return Ok(Some((head, came.to_vec())));
            }
        }
        Ok(None)
    };
    let whole = read(usize::MAX);
    assert_eq!(read(1), whole, "{:?}", text.escape_ascii().to_string());
    whole
}
