//! How much time and memory an upstream may take.

use std::time::Duration;

/// Bounds of what one upstream may cost. A call beyond them fails; nothing else notices.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// To connect.
    pub(crate) connect: Duration,
    /// To answer `initialize`.
    pub(crate) initialize: Duration,
    /// To take a message beside calls: a cancellation, or the answer to a ping.
    pub(crate) aside: Duration,
    /// To begin an answer. A server that answers with plain JSON works all this time.
    pub(crate) headers: Duration,
    /// Between two pieces of an answer.
    pub(crate) idle: Duration,
    /// For a whole call.
    pub(crate) total: Duration,
    /// One message.
    pub(crate) max_message: usize,
    /// All messages of one stream.
    pub(crate) max_stream: usize,
    /// All long answers to callers at a time; and those to one caller.
    pub(crate) room: usize,
    pub(crate) room_each: usize,
    /// For a long answer, until others are gone.
    pub(crate) room_wait: Duration,
    /// Calls to one upstream at a time; further ones wait.
    pub(crate) concurrency: usize,
}

/// [`Limits::concurrency`] that are not set otherwise: no caller may have more than half of them under way.
pub const CALLS_OF_A_SESSION: usize = 512;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            initialize: Duration::from_secs(30),
            aside: Duration::from_secs(10),
            headers: Duration::from_secs(300),
            idle: Duration::from_secs(600),
            total: Duration::from_secs(3600),
            max_message: 16 << 20,
            max_stream: 64 << 20,
            room: 1 << 30,
            room_each: 64 << 20,
            room_wait: Duration::from_secs(60),
            concurrency: CALLS_OF_A_SESSION,
        }
    }
}
