//! Where a stream of events is, and when to ask for the rest of it (WHATWG HTML, section 9.2.6, the fields `id` and `retry`).

use std::time::Duration;

use http::HeaderValue;

/// The longest id that is kept.
const MAX_ID: usize = 1 << 10;

/// What a stream has said of itself.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// The id of the last event that has ended; empty: it has none. One byte longer than is permitted: it is too long.
    last: Vec<u8>,
    /// The id of the event that is being received, if it `has_id`.
    id: Vec<u8>,
    has_id: bool,
    retry: Option<Duration>,
}

impl Mark {
    /// A line with an id begins.
    pub(super) fn begin_id(&mut self, start: &[u8]) {
        self.has_id = true;
        self.id.clear();
        self.extend_id(start);
    }

    /// The line goes on.
    pub(super) fn extend_id(&mut self, more: &[u8]) {
        let room = MAX_ID + 1 - self.id.len();
        self.id.extend_from_slice(&more[..more.len().min(room)]);
    }

    /// A line with a time.
    pub(super) fn set_retry(&mut self, value: &[u8]) {
        let digits = std::str::from_utf8(value).ok();
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(milliseconds) = digits.and_then(|digits| digits.parse().ok()) {
            self.retry = Some(Duration::from_millis(milliseconds));
        }
    }

    /// The event has ended: from now on, the stream is behind it.
    pub(super) fn end_event(&mut self) {
        if std::mem::take(&mut self.has_id) {
            std::mem::swap(&mut self.last, &mut self.id);
        }
    }

    /// The stream has ended, and the event that was being received never will.
    pub(super) fn forget_event(&mut self) {
        self.has_id = false;
    }

    /// The id behind which the stream can be resumed.
    pub(super) fn last(&self) -> Option<HeaderValue> {
        let is_id = (1..=MAX_ID).contains(&self.last.len());
        HeaderValue::from_bytes(&self.last).ok().filter(|_| is_id)
    }

    /// How long to wait before that, if the stream has said it.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }
}
