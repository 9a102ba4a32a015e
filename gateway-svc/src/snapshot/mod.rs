//! What the registry says, in memory: an immutable snapshot, replaced as a whole whenever a revision comes.
//!
//! A writer (`writer.rs`) builds the next one: it applies objects as they arrive and knows what depends on what. Calls look
//! things up in a [`Snapshot`]; consecutive ones share all that has not changed.

mod concerned;
mod consumers;
mod dependents;
mod feed;
mod installations;
mod parse;
mod restarts;
mod revision;
mod state;
mod store;
mod strings;
mod teams;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watchers;
mod writer;

pub(crate) use feed::Feed;
pub(crate) use state::Snapshot;
pub(crate) use store::Store;
pub(crate) use teams::CallerTeams;
pub(crate) use watchers::Watcher;
