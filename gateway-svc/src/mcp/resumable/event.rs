//! An event as it was sent.

use bytes::Bytes;

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Its place in the stream.
    pub(super) number: u64,
    /// The first has the field with the id, and all of the event where it is the only one.
    pub(super) pieces: Vec<Bytes>,
    /// Bytes of the message.
    pub(super) size: usize,
}
