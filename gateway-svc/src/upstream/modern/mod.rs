//! The edge to servers that speak MCP 2026-07-28: no sessions, facts about the client in every request, questions in results.

pub(super) mod declared;
pub(super) mod discover;
#[cfg(test)]
mod fuzz;
pub(super) mod header;
pub(super) mod mirrored;
pub(crate) mod names;
pub(super) mod question;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod rounds;
mod send;
