//! What waits for one call that is read slower than its server speaks. Neither takes the room of the other: what is asked, the server waits for,
//! and what it notifies of is only progress and log.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Said;
use crate::upstream::Asking;

/// Bytes of notifications that wait, and of requests.
const MOST: usize = 256 << 10;
/// Requests that wait.
const REQUESTS: usize = 16;
/// What a message costs besides its text.
const MESSAGE: usize = 256;

/// Each with its number in the order in which they are taken.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    notifications: VecDeque<(u64, Bytes)>,
    /// Bytes of the notifications.
    notified: usize,
    requests: VecDeque<(u64, Asking)>,
    next: u64,
}

impl Waiting {
    /// Adds it, and returns a request for which there is no room. Notifications for which there is none are left out, the oldest first: the last say
    /// how far the server is.
    pub(super) fn push(&mut self, said: Said) -> Option<Asking> {
        self.next += 1;
        match said {
            Said::Notification(text) => self.notify(text),
            Said::Request(asking) => return self.request(asking),
        }
        None
    }

    fn notify(&mut self, text: Bytes) {
        let bytes = MESSAGE + text.len();
        if bytes > MOST {
            return;
        }
        while self.notified + bytes > MOST {
            self.next_notification();
        }
        self.notified += bytes;
        self.notifications.push_back((self.next, text));
    }

    /// A longer one that waits alone holds room in the budget for answers.
    fn request(&mut self, asking: Asking) -> Option<Asking> {
        let length = |asking: &Asking| MESSAGE + asking.message().len();
        let waiting: usize = self.requests.iter().map(|(_, asking)| length(asking)).sum();
        let is_full = self.requests.len() == REQUESTS || waiting > 0 && waiting + length(&asking) > MOST;
        if is_full {
            return Some(asking);
        }
        self.requests.push_back((self.next, asking));
        None
    }

    /// The next in order.
    pub(super) fn pop(&mut self) -> Option<Said> {
        let number = |(number, _): &(u64, Bytes)| *number;
        let notified = self.notifications.front().map(number);
        match self.requests.front() {
            Some((asked, _)) if notified.is_none_or(|notified| *asked < notified) => {
                self.requests.pop_front().map(|(_, asking)| Said::Request(asking))
            }
            _ => self.next_notification().map(Said::Notification),
        }
    }

    fn next_notification(&mut self) -> Option<Bytes> {
        let (_, text) = self.notifications.pop_front()?;
        self.notified -= MESSAGE + text.len();
        Some(text)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notifications.is_empty() && self.requests.is_empty()
    }

    /// Forgets the request that the server knows by this id.
    pub(super) fn withdraw(&mut self, id: &[u8]) {
        self.requests.retain(|(_, asking)| asking.own_id() != id);
    }

    /// The requests, which nobody takes.
    pub(super) fn into_requests(self) -> impl Iterator<Item = Asking> {
        self.requests.into_iter().map(|(_, asking)| asking)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn left(waiting: &mut Waiting) -> Vec<u8> {
        let taken = std::iter::from_fn(|| waiting.pop());
        let first = |said| match said {
            Said::Notification(text) => text[0],
            Said::Request(asking) => panic!("{asking:?}"),
        };
        taken.map(first).collect()
    }

    #[test]
    fn of_notifications_the_last_wait_as_many_as_there_is_room_for() {
        let mut waiting = Waiting::default();
        let mut say = |n: u8, bytes: usize| assert!(waiting.push(Said::Notification(vec![n; bytes].into())).is_none());
        for n in 0..4 {
            say(n, MOST / 3);
        }
        say(4, MOST);
        say(5, 1);
        assert_eq!(waiting.notified, 2 * (MESSAGE + MOST / 3) + MESSAGE + 1);
        assert_eq!(left(&mut waiting), [2, 3, 5]);
        assert_eq!(waiting.notified, 0);
        for _ in 0..2 * MOST / MESSAGE {
            waiting.push(Said::Notification(Bytes::from_static(b"{}")));
        }
        assert_eq!(left(&mut waiting).len(), MOST / (MESSAGE + 2));
    }
}
