//! How much time and memory an upstream may take.

use std::time::Duration;

/// What one upstream may cost. A call that exceeds it fails; no other call is affected.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// To connect.
    pub(crate) connect: Duration,
    /// To answer `server/discover`, where it is not known whether the server speaks a revision that has it.
    pub(crate) discover: Duration,
    /// For how long what a modern server says of itself counts. It has no sessions, with which that would end.
    pub(crate) discovered: Duration,
    /// To answer `initialize`.
    pub(crate) initialize: Duration,
    /// To accept a message that is not a call: a cancellation, or the answer to a ping.
    pub(crate) side_message: Duration,
    /// To begin an answer. A server that answers with plain JSON works all this time.
    pub(crate) headers: Duration,
    /// Before a server that was given up is tried again, at first.
    pub(crate) away: Duration,
    /// Before a stream that ended is resumed, at least.
    pub(crate) reconnect: Duration,
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

/// The default of [`Limits::concurrency`]. No caller may have more than half of them in progress.
pub const CALLS_OF_A_SESSION: usize = 512;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            discover: Duration::from_secs(5),
            discovered: Duration::from_secs(300),
            initialize: Duration::from_secs(30),
            side_message: Duration::from_secs(10),
            headers: Duration::from_secs(300),
            away: Duration::from_secs(5),
            reconnect: Duration::from_millis(500),
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
