//! Sends messages to watchers, as fast as each of them takes them, and never holds more of them in memory than a fixed amount.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::relay::{Message, Response};
use crate::domain::Error;

/// A message is about as large at most (bytes), unless one object is larger.
pub(super) const PART: usize = 1 << 20;
/// What all messages may take that are read and not sent yet (KiB).
const BUDGET: u32 = 32 << 10;
/// Messages that may wait for a watcher; the registry then waits for it.
const IN_FLIGHT: usize = 2;
/// A watcher that reads nothing for this time is dropped: others need the memory it holds.
pub(super) const STALLED: Duration = Duration::from_secs(30);

/// The stream has ended: the watcher is gone, or is dropped because it does not read.
#[derive(Debug)]
pub(super) struct Ended;

/// What may be in memory for all watchers; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET as usize)))
    }
}

impl Budget {
    /// Waits until this many bytes may be read.
    pub(super) async fn take(&self, bytes: usize) -> Result<Room, Ended> {
        let permit = Arc::clone(&self.0).acquire_many_owned(kib(bytes)).await;
        permit.map(Room).map_err(|_| Ended)
    }
}

/// Room for some bytes, until it is dropped.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Gives back what exceeds this many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        *self = self.split(bytes);
    }

    /// Takes a part of it, or what is left.
    fn split(&mut self, bytes: usize) -> Self {
        let kib = (kib(bytes) as usize).min(self.0.num_permits());
        Self(self.0.split(kib).expect("no more than there is"))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(BUDGET).min(BUDGET)
}

/// Sends to one watcher.
#[derive(Debug)]
pub(crate) struct Sender(mpsc::Sender<Result<Sending, Error>>);

#[derive(Debug)]
struct Sending {
    message: Message,
    room: Option<Room>,
}

/// What a watcher gets.
#[derive(Debug)]
pub(crate) struct Messages {
    receiver: mpsc::Receiver<Result<Sending, Error>>,
    /// Of the message that was given out last: it is on its way once the next one is asked for.
    leaving: Option<Room>,
}

/// A way to one watcher.
pub(crate) fn channel() -> (Sender, Messages) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let messages = Messages {
        receiver,
        leaving: None,
    };
    (Sender(sender), messages)
}

impl Sender {
    /// Sends a message that takes next to nothing.
    pub(super) async fn send(&self, message: Message) -> Result<(), Ended> {
        self.enqueue(Sending { message, room: None }, STALLED).await
    }

    /// Sends a message that was read into `room`, of which it takes what it needs. A watcher that does not take it in time is dropped.
    pub(super) async fn send_of(&self, message: Message, room: &mut Room, patience: Duration) -> Result<(), Ended> {
        let bytes = message.encoded_len();
        let room = Some(room.split(bytes));
        self.enqueue(Sending { message, room }, patience).await
    }

    async fn enqueue(&self, sending: Sending, patience: Duration) -> Result<(), Ended> {
        let sent = timeout(patience, self.0.send(Ok(sending))).await;
        if sent.is_err() {
            tracing::warn!(
                watch.patience_s = patience.as_secs(),
                "a watcher does not read and is dropped"
            );
        }
        sent.map_err(|_| Ended)?.map_err(|_| Ended)
    }

    /// Ends the stream with an error, if there is a place for it.
    pub(crate) fn fail(self, error: Error) {
        let _gone = self.0.try_send(Err(error));
    }

    /// Completes when the reader of the messages is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Stream for Messages {
    type Item = Result<Response, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.leaving = None;
        let next = std::task::ready!(self.receiver.poll_recv(cx));
        Poll::Ready(next.map(|next| {
            next.map(|Sending { message, room }| {
                self.leaving = room;
                Response { message: Some(message) }
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::Bookmark;
    use futures::{FutureExt as _, StreamExt as _};
    use prost::bytes::Bytes;

    use super::{super::relay::SnapshotObjects, *};

    fn large() -> Message {
        Message::SnapshotObjects(SnapshotObjects {
            objects: vec![Bytes::from(vec![0; PART])],
        })
    }

    #[tokio::test]
    async fn what_is_on_its_way_takes_room_until_the_next_message_is_asked_for() {
        let budget = Budget::default();
        let free = || budget.0.available_permits();
        let all = free();
        let (sender, mut messages) = channel();
        let mut room = budget.take(2 * PART).await.unwrap();
        sender.send_of(large(), &mut room, STALLED).await.unwrap();
        let held = all - free();
        drop(room);
        assert!(
            free() > all - held && free() < all,
            "the message has a part of the room"
        );
        messages.next().await.unwrap().unwrap();
        assert!(free() < all, "it is not sent yet");
        assert!(messages.next().now_or_never().is_none());
        assert_eq!(free(), all);
    }

    #[tokio::test]
    async fn whatever_watchers_do_not_take_there_is_a_limit_to_it() {
        let budget = Budget::default();
        let mut watchers = Vec::new();
        let mut sent = 0;
        // Watchers that do not read. Each is sent one message, until there is no more room.
        while let Some(room) = budget.take(PART).now_or_never() {
            let mut room = room.unwrap();
            let (sender, messages) = channel();
            sender.send_of(large(), &mut room, STALLED).await.unwrap();
            sent += 1;
            watchers.push((sender, messages));
        }
        assert_eq!(sent, BUDGET as usize * 1024 / PART);
        watchers.pop();
        assert!(budget.take(PART).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_watcher_that_takes_nothing_is_dropped() {
        let (sender, _messages) = channel();
        let bookmark = || Message::Bookmark(Bookmark { revision: 1 });
        for _ in 0..IN_FLIGHT {
            sender.send(bookmark()).await.unwrap();
        }
        let mut room = Budget::default().take(1).await.unwrap();
        assert!(
            sender
                .send_of(bookmark(), &mut room, Duration::from_millis(50))
                .await
                .is_err()
        );
    }
}
