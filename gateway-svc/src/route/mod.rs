//! Gateway to exposed name to assignment: a table for each gateway and agent, built at its first use after what it is made from
//! has changed.

mod beside;
mod names;
mod seen;
mod source;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use beside::{Beside, More};
pub(crate) use names::{Named, assign, is_with_hash, without_hash};
pub(crate) use seen::Seen;
pub(crate) use source::{Consent, Pinned, Source, Uris};
pub(crate) use table::{Assignment, Candidate, Table, TableId};
