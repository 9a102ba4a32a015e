//! Reads the bodies of requests into memory, and no more at a time than there is to spare: in total, and for one person or token.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use service_kit::{app::RequestBody, edge};

/// This much of each body is not counted: almost all are shorter, and as much is read ahead in any case.
const FREE: usize = 64 << 10;

/// How much of request bodies may be in memory at a time.
#[derive(Debug)]
pub(crate) struct Buffers {
    total: usize,
    each: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Bytes by sender; only senders that hold some.
    each: HashMap<String, usize>,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than the limit. If its length was declared, none of it was read.
    TooLarge,
    /// It arrived too slowly.
    TooSlow,
    /// The connection ended before it was complete.
    BrokeOff,
    /// Its sender sends too much at a time.
    TooMuch,
    /// All senders together send too much.
    Full,
}

impl Buffers {
    /// At most `total` bytes at a time, `each` for one sender.
    pub(crate) fn new(total: usize, each: usize) -> Self {
        Self {
            total,
            each,
            held: Mutex::default(),
        }
    }

    /// Reads a body of at most `max` bytes, sent by `sender`. Its bytes count until what comes with them is dropped.
    ///
    /// # Errors
    /// If there is no room for it, or if it does not come whole.
    pub(crate) async fn read<'a>(
        &'a self,
        body: impl Into<RequestBody>,
        sender: &'a str,
        max: usize,
    ) -> Result<(Bytes, Room<'a>), Unread> {
        let mut room = Room {
            buffers: self,
            sender,
            bytes: 0,
        };
        let mut body = match body.into() {
            RequestBody::Whole(whole) if whole.len() > max => return Err(Unread::TooLarge),
            RequestBody::Whole(whole) => {
                room.grow(whole.len().saturating_sub(FREE))?;
                return Ok((whole, room));
            }
            RequestBody::Coming(body) => body,
        };
        if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(Unread::TooLarge);
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| why(&error))?.into_data() else {
                continue;
            };
            let length = first.len() + all.len() + data.len();
            if length > max {
                return Err(Unread::TooLarge);
            }
            room.grow(length.saturating_sub(FREE))?;
            // One piece is not copied.
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if !first.is_empty() {
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
        }
        let read = if all.is_empty() { first } else { all.freeze() };
        Ok((read, room))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing panics between two changes that belong together.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that a body takes of the budget, returned on drop.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    buffers: &'a Buffers,
    sender: &'a str,
    bytes: usize,
}

impl Room<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Unread> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.buffers.lock();
        let own = held.each.get(self.sender).copied().unwrap_or_default() + more;
        if own > self.buffers.each {
            return Err(Unread::TooMuch);
        }
        if held.total + more > self.buffers.total {
            return Err(Unread::Full);
        }
        held.total += more;
        match held.each.get_mut(self.sender) {
            Some(known) => *known = own,
            None => drop(held.each.insert(self.sender.to_owned(), own)),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.buffers.lock();
        held.total -= self.bytes;
        if let Some(own) = held.each.get_mut(self.sender) {
            *own -= self.bytes;
            if *own == 0 {
                held.each.remove(self.sender);
            }
        }
    }
}

fn why(error: &axum::Error) -> Unread {
    if edge::is_too_slow(error) {
        Unread::TooSlow
    } else {
        Unread::BrokeOff
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures::{StreamExt as _, stream};
    use pretty_assertions::assert_eq;

    use super::*;

    fn chunked(pieces: usize) -> Body {
        let piece = Bytes::from(vec![7; FREE]);
        Body::from_stream(stream::repeat(piece).take(pieces).map(Ok::<_, Infallible>))
    }

    #[tokio::test]
    async fn counts_what_one_and_all_hold() {
        let buffers = Buffers::new(FREE * 5, FREE * 3);
        let (bytes, alice) = buffers.read(chunked(4), "alice", FREE * 10).await.unwrap();
        assert_eq!(bytes.len(), FREE * 4);
        let refused = buffers.read(chunked(2), "alice", FREE * 10).await.unwrap_err();
        assert_eq!(refused, Unread::TooMuch, "alice has hers");
        assert_eq!(buffers.read(chunked(1), "alice", FREE).await.unwrap().0.len(), FREE);
        let (_, _bob) = buffers.read(chunked(3), "bob", FREE * 10).await.unwrap();
        let refused = buffers.read(chunked(2), "carol", FREE * 10).await.unwrap_err();
        assert_eq!(refused, Unread::Full, "nothing is left");
        drop(alice);
        assert!(buffers.read(chunked(2), "carol", FREE * 10).await.is_ok());
        assert_eq!(buffers.lock().each.len(), 1, "a sender that holds nothing is forgotten");
    }

    #[tokio::test]
    async fn refuses_what_is_too_large_unread() {
        let buffers = Buffers::new(1 << 30, 1 << 30);
        let told = Body::from(vec![0; 11]);
        assert_eq!(buffers.read(told, "alice", 10).await.unwrap_err(), Unread::TooLarge);
        let untold = chunked(3);
        assert_eq!(buffers.read(untold, "alice", FREE).await.unwrap_err(), Unread::TooLarge);
        assert_eq!(buffers.read(Body::from("{}"), "alice", 10).await.unwrap().0, "{}");
        let whole = |length| RequestBody::Whole(vec![0; length].into());
        assert_eq!(
            buffers.read(whole(11), "alice", 10).await.unwrap_err(),
            Unread::TooLarge
        );
        assert_eq!(buffers.read(whole(10), "alice", 10).await.unwrap().0.len(), 10);
        assert_eq!(buffers.lock().total, 0);
    }
}
