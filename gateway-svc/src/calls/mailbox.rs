//! What waits for a client that listens. There are many, and in most nothing waits: an empty one is small.

use std::{
    collections::VecDeque,
    mem::take,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::upstream::Heard;

/// What waits for a client that reads slower than its servers speak. Then they wait.
pub(super) const WAITING: usize = 16;
/// Bytes of them, besides the last.
const BYTES: usize = 256 << 10;

/// What happens to a client that listens.
#[derive(Debug)]
pub(super) enum Happening {
    Heard(Heard),
    /// It may have sessions that nobody receives, or hear others than before.
    Look,
}

/// One for each that listens.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inside: Mutex<Inside>,
    /// There is something for the one who listens.
    came: Notify,
    /// There is room for one who waits to put something.
    room: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    look: bool,
    heard: VecDeque<Heard>,
    bytes: usize,
    closed: bool,
}

impl Mailbox {
    /// The client may have sessions that nobody receives, or hear others than before.
    pub(super) fn look(&self) {
        self.lock().look = true;
        self.came.notify_one();
    }

    /// Puts it in as soon as there is room. Nothing happens to it where nobody listens any more.
    pub(super) async fn put(&self, heard: Heard) {
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            {
                let mut inside = self.lock();
                if inside.closed {
                    return;
                }
                if inside.heard.len() < WAITING && inside.bytes < BYTES {
                    inside.bytes += heard.length();
                    inside.heard.push_back(heard);
                    self.came.notify_one();
                    return;
                }
            }
            room.await;
        }
    }

    /// The next; `None`: nothing more will come. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&self) -> Option<Happening> {
        loop {
            {
                let mut inside = self.lock();
                if take(&mut inside.look) {
                    return Some(Happening::Look);
                }
                if let Some(heard) = inside.heard.pop_front() {
                    inside.bytes -= heard.length();
                    self.room.notify_one();
                    return Some(Happening::Heard(heard));
                }
                if inside.closed {
                    return None;
                }
            }
            self.came.notified().await;
        }
    }

    /// Nothing more is put in; what is in it can be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.came.notify_one();
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics between two changes that belong together.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::*;
    use crate::upstream::List;

    fn is_heard(mailbox: &Mailbox) -> bool {
        matches!(mailbox.next().now_or_never(), Some(Some(Happening::Heard(_))))
    }

    /// Those who wait for room get it one after another, also where one of them gives up.
    #[tokio::test]
    async fn what_is_put_comes_in_order_and_waits_for_room() {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.look();
        let put = || {
            let mailbox = Arc::clone(&mailbox);
            tokio::spawn(async move { mailbox.put(Heard::Changed(List::Prompts)).await })
        };
        for _ in 0..WAITING {
            put().await.unwrap();
        }
        let (gives_up, waits) = (put(), put());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        assert!(matches!(mailbox.next().await, Some(Happening::Look)));
        gives_up.abort();
        assert!(gives_up.await.unwrap_err().is_cancelled());
        assert!(is_heard(&mailbox));
        waits.await.unwrap();
        mailbox.close();
        put().await.unwrap();
        for _ in 0..WAITING {
            assert!(is_heard(&mailbox));
        }
        assert!(mailbox.next().await.is_none());
    }

    /// However few they are.
    #[tokio::test]
    async fn long_ones_wait_for_room() {
        let mailbox = Mailbox::default();
        let long = || Heard::Notification {
            installation: "i".into(),
            text: vec![b' '; BYTES].into(),
        };
        mailbox.put(long()).await;
        assert!(mailbox.put(long()).now_or_never().is_none());
        assert!(is_heard(&mailbox));
        mailbox.put(long()).await;
        assert!(is_heard(&mailbox) && !is_heard(&mailbox));
    }

    #[tokio::test]
    async fn nobody_waits_for_one_that_is_closed() {
        let mailbox = Arc::new(Mailbox::default());
        for _ in 0..WAITING {
            mailbox.put(Heard::Changed(List::Prompts)).await;
        }
        let waiting = Arc::clone(&mailbox);
        let waits = tokio::spawn(async move { waiting.put(Heard::Changed(List::Prompts)).await });
        tokio::task::yield_now().await;
        mailbox.close();
        waits.await.unwrap();
    }
}
