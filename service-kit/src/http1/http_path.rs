//! What reads and writes HTTP/1.1.

/// What reads and writes HTTP/1.1 where most requests pass. What clients and servers see of it is the same, except for messages that are not
/// valid, and the limits of heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpPath {
    /// This crate's [`http1`](super).
    #[default]
    Own,
    /// hyper.
    Hyper,
}
