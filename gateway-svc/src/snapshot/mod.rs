//! What the registry says, in memory: an immutable snapshot, replaced as a whole whenever a revision comes.

mod consumers;
mod parse;
mod state;
mod store;
mod teams;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use parse::installation;
pub(crate) use state::Snapshot;
pub(crate) use store::{Feed, Store};
pub(crate) use teams::CallerTeams;
