//! Gateway to exposed name to assignment: a table for each gateway and agent, built when what it is made from changes.

mod names;
mod table;

pub(crate) use table::{Assignment, Candidate, Route, Table, selects};
