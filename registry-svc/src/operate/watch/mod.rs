//! Watches: what a workload may follow, and what it is sent, as fast as it takes it.

mod relay;
mod send;
mod start;
mod stream;
mod tail;

pub(crate) use relay::Response;
pub(crate) use send::{Messages, Sender, channel};
pub(crate) use start::Start;
pub(crate) use stream::{End, Streams};
