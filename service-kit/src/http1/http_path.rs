//! What reads and writes HTTP/1.1.

use std::{fmt, str::FromStr};

/// What reads and writes HTTP/1.1 where most requests pass. What clients and servers see of it is the same, except for messages that are not valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpPath {
    /// This crate's [`http1`](super).
    #[default]
    Own,
    /// hyper.
    Hyper,
}

impl fmt::Display for HttpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own",
            Self::Hyper => "hyper",
        })
    }
}

impl FromStr for HttpPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "own" => Ok(Self::Own),
            "hyper" => Ok(Self::Hyper),
            _ => Err("must be own or hyper"),
        }
    }
}
