//! A message in pieces, which are sent without being copied.

use std::ops::Range;

use bytes::Bytes;

use crate::upstream::Reply;

/// Some may be empty.
pub(super) type Pieces = [Bytes; 5];

/// A change of a result: this in place of what is there.
pub(super) type Change = (Range<usize>, Bytes);

/// A message in one piece.
pub(super) fn whole(message: Bytes) -> Pieces {
    let mut pieces = Pieces::default();
    pieces[0] = message;
    pieces
}

/// A server's reply under the client's id, with at most one change of its result.
pub(super) fn answer(reply: &Reply, id: &str, change: Option<Change>) -> Pieces {
    let Some(change) = change else {
        let [before, id, after] = reply.with_id(id.as_bytes());
        return [before, id, after, Bytes::new(), Bytes::new()];
    };
    let mut pieces = Pieces::default();
    for (piece, part) in pieces.iter_mut().zip(changed(reply, id, vec![change])) {
        *piece = part;
    }
    pieces
}

/// A server's reply under the client's id, with changes of its result in their order: each adds two pieces to the three without.
pub(super) fn changed(reply: &Reply, id: &str, changes: Vec<Change>) -> Vec<Bytes> {
    let whole = reply.with_id(id.as_bytes());
    let Some(result) = reply.result() else {
        return whole.into();
    };
    let mut pieces = Vec::with_capacity(whole.len() + 2 * changes.len());
    let mut changes = Some(changes);
    for piece in whole {
        // The result lies before or after the id, as a part of the same memory.
        match offset(&result, &piece).zip(changes.take_if(|_| offset(&result, &piece).is_some())) {
            Some((start, changes)) => {
                let mut copied = 0;
                for (range, text) in changes {
                    pieces.push(piece.slice(copied..start + range.start));
                    pieces.push(text);
                    copied = start + range.end;
                }
                pieces.push(piece.slice(copied..));
            }
            None => pieces.push(piece),
        }
    }
    pieces
}

/// Where a part is in this.
fn offset(part: &Bytes, within: &Bytes) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(within.as_ptr() as usize)?;
    (start + part.len() <= within.len()).then_some(start)
}
