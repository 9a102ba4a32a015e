//! Progress messages that wait for their callers, bounded by bytes: the bridge holds them outside of its server's memory limit.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages that wait for one caller.
const MESSAGES: usize = 64;
/// Bytes that may wait for one caller, however many wait for others.
const RESERVED_BYTES: usize = 16 << 10;
/// Bytes that may wait for one caller on top of that, in the room that all share.
const CALL_BYTES: usize = 1 << 20;
/// The size of that room.
const ALL_BYTES: usize = 16 << 20;

/// The room that all callers share.
pub(crate) struct Backlog(Arc<Semaphore>);

/// Where the messages of one request come in.
pub(crate) struct Sender {
    queue: mpsc::Sender<Held>,
    reserved: Arc<Semaphore>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Where they go out. Dropped, it gives back what they took.
pub(crate) struct Receiver(mpsc::Receiver<Held>);

/// A message, and the room that it takes until it is read.
struct Held {
    text: String,
    _room: Room,
}

/// Given back on drop.
#[expect(dead_code, reason = "what is held is given back by its drop, and never looked at")]
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
    /// Keeps a message for its caller. One without room is dropped: the caller does not read, and the next says more.
    pub(crate) fn offer(&self, mut text: String) {
        text.shrink_to_fit();
        if let Some(room) = self.room(text.len()) {
            let _ = self.queue.try_send(Held { text, _room: room });
        }
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
    /// The next message; `None`: no more will come.
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
            sender.offer("x".repeat(CALL_BYTES / 16));
        }
    }

    #[tokio::test]
    async fn holds_so_many_bytes_for_one_caller() {
        let backlog = Backlog::default();
        let (sender, mut receiver) = backlog.queue();
        sender.offer("x".repeat(CALL_BYTES + 1));
        fill(&sender);
        assert_eq!(receiver.0.len(), 16);
        receiver.recv().await.unwrap();
        fill(&sender);
        assert_eq!(receiver.0.len(), 16, "what was read makes room");
        assert_eq!(backlog.0.available_permits(), ALL_BYTES - CALL_BYTES);
    }

    #[tokio::test]
    async fn who_does_not_read_takes_nothing_that_is_reserved_for_others() {
        let backlog = Backlog::default();
        let unread: Vec<_> = (0..24).map(|_| backlog.queue()).collect();
        unread.iter().for_each(|(sender, _)| fill(sender));
        assert_eq!(backlog.0.available_permits(), 0);
        let (sender, mut receiver) = backlog.queue();
        for _ in 0..2 {
            for _ in 0..5 {
                sender.offer("x".repeat(1 << 10));
            }
            for _ in 0..5 {
                receiver.recv().await.unwrap();
            }
        }
        sender.offer("x".repeat(RESERVED_BYTES + 1));
        assert!(receiver.0.is_empty(), "there is no more than that");
    }

    #[test]
    fn holds_so_many_bytes_for_all_and_lets_go_of_them() {
        let backlog = Backlog::default();
        let queues: Vec<_> = (0..20).map(|_| backlog.queue()).collect();
        queues.iter().for_each(|(sender, _)| fill(sender));
        assert_eq!(backlog.0.available_permits(), 0);
        let (senders, receivers): (Vec<_>, Vec<_>) = queues.into_iter().unzip();
        drop(receivers);
        assert_eq!(backlog.0.available_permits(), ALL_BYTES, "the callers have gone");
        fill(&senders[0]);
        assert_eq!(backlog.0.available_permits(), ALL_BYTES, "nobody reads it");
    }
}
