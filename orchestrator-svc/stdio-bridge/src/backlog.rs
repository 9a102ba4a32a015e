//! Queues of messages for callers, limited in bytes, since the bridge keeps them outside of its server's memory limit.

use std::sync::Arc;

use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
};

/// Messages in the queue of one caller.
const MESSAGES: usize = 64;
/// Bytes that each caller's queue may have, whatever the others have.
const RESERVED_BYTES: usize = 16 << 10;
/// Bytes that one caller's queue may have in addition, of the room that all share.
const CALL_BYTES: usize = 1 << 20;
/// The size of that room.
const ALL_BYTES: usize = 16 << 20;

/// The room that all callers share.
pub(crate) struct Backlog(Arc<Semaphore>);

/// The sending end of one request's queue.
pub(crate) struct Sender {
    queue: mpsc::Sender<Held>,
    reserved: Arc<Semaphore>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// The receiving end. Its drop frees the room of its messages.
pub(crate) struct Receiver(mpsc::Receiver<Held>);

/// A message, and its room until it is read.
struct Held {
    text: String,
    _room: Room,
}

/// Freed on drop.
#[expect(dead_code, reason = "permits are released by their drop, and never read")]
enum Room {
    Reserved(OwnedSemaphorePermit),
    Shared([OwnedSemaphorePermit; 2]),
}

impl Default for Backlog {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_BYTES)))
    }
}

impl Backlog {
    /// The queue of one request.
    pub(crate) fn queue(&self) -> (Sender, Receiver) {
        let (queue, receiver) = mpsc::channel(MESSAGES);
        let sender = Sender {
            queue,
            reserved: Arc::new(Semaphore::new(RESERVED_BYTES)),
            own: Arc::new(Semaphore::new(CALL_BYTES)),
            all: Arc::clone(&self.0),
        };
        (sender, Receiver(receiver))
    }
}

impl Sender {
    /// Queues a message for its caller.
    ///
    /// # Errors
    /// The message, if there is no room for it, since the caller does not read; or if the caller has gone.
    pub(crate) fn offer(&self, mut text: String) -> Result<(), String> {
        text.shrink_to_fit();
        let Some(room) = self.room(text.len()) else {
            return Err(text);
        };
        self.queue.try_send(Held { text, _room: room }).map_err(|error| {
            let (TrySendError::Full(held) | TrySendError::Closed(held)) = error;
            held.text
        })
    }

    fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes).ok()?;
        let of = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(bytes).ok();
        if let Some(reserved) = of(&self.reserved) {
            return Some(Room::Reserved(reserved));
        }
        Some(Room::Shared([of(&self.own)?, of(&self.all)?]))
    }
}

impl Receiver {
    /// The next message; `None` after the last.
    pub(crate) async fn recv(&mut self) -> Option<String> {
        self.0.recv().await.map(|held| held.text)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn fill(sender: &Sender) {
        for _ in 0..MESSAGES {
            let _ = sender.offer("x".repeat(CALL_BYTES / 16));
        }
    }

    #[tokio::test]
    async fn limits_the_bytes_of_one_caller() {
        let backlog = Backlog::default();
        let (sender, mut receiver) = backlog.queue();
        let _ = sender.offer("x".repeat(CALL_BYTES + 1));
        fill(&sender);
        assert_eq!(receiver.0.len(), 16);
        receiver.recv().await.unwrap();
        fill(&sender);
        assert_eq!(receiver.0.len(), 16, "a message that was read frees its room");
        assert_eq!(backlog.0.available_permits(), ALL_BYTES - CALL_BYTES);
    }

    #[tokio::test]
    async fn a_caller_that_does_not_read_uses_no_room_reserved_for_others() {
        let backlog = Backlog::default();
        let unread: Vec<_> = (0..24).map(|_| backlog.queue()).collect();
        unread.iter().for_each(|(sender, _)| fill(sender));
        assert_eq!(backlog.0.available_permits(), 0);
        let (sender, mut receiver) = backlog.queue();
        for _ in 0..2 {
            for _ in 0..5 {
                let _ = sender.offer("x".repeat(1 << 10));
            }
            for _ in 0..5 {
                receiver.recv().await.unwrap();
            }
        }
        let _ = sender.offer("x".repeat(RESERVED_BYTES + 1));
        assert!(receiver.0.is_empty(), "only the reserved room is left");
    }

    #[test]
    fn limits_the_bytes_of_all_and_frees_them() {
        let backlog = Backlog::default();
        let queues: Vec<_> = (0..20).map(|_| backlog.queue()).collect();
        queues.iter().for_each(|(sender, _)| fill(sender));
        assert_eq!(backlog.0.available_permits(), 0);
        let (senders, receivers): (Vec<_>, Vec<_>) = queues.into_iter().unzip();
        drop(receivers);
        assert_eq!(
            backlog.0.available_permits(),
            ALL_BYTES,
            "the callers have disconnected"
        );
        fill(&senders[0]);
        assert_eq!(backlog.0.available_permits(), ALL_BYTES, "no caller reads it");
    }
}
