//! Progress messages that wait for their callers, bounded by bytes: the bridge holds them outside of its server's memory limit.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages that wait for one caller.
const MESSAGES: usize = 64;
/// Bytes that wait for one caller.
const CALL_BYTES: usize = 1 << 20;
/// Bytes that wait for all callers together.
const ALL_BYTES: usize = 16 << 20;

/// The room that all callers share.
pub(crate) struct Backlog(Arc<Semaphore>);

/// Where the messages of one request come in.
pub(crate) struct Sender {
    queue: mpsc::Sender<Held>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Where they go out. Dropped, it gives back what they took.
pub(crate) struct Receiver(mpsc::Receiver<Held>);

/// A message, and the room that it takes until it is read.
struct Held {
    text: String,
    _room: [OwnedSemaphorePermit; 2],
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
        let room = |of: &Arc<Semaphore>| {
            let bytes = u32::try_from(text.len()).ok()?;
            Arc::clone(of).try_acquire_many_owned(bytes).ok()
        };
        if let (Some(own), Some(all)) = (room(&self.own), room(&self.all)) {
            let _ = self.queue.try_send(Held {
                text,
                _room: [own, all],
            });
        }
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
