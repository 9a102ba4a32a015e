//! Whose secrets they are, and who provides them.

use std::fmt;

/// Whose secrets they are. A uid is never used again, so a new resource with an old name inherits nothing. Entries come first in
/// order, since many installations may wait for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Uid of an entry.
    Entry(String),
    /// Uid of an installation.
    Installation(String),
}

impl Owner {
    /// `installation` or `entry`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Installation(_) => "installation",
            Self::Entry(_) => "entry",
        }
    }

    pub(crate) fn uid(&self) -> &str {
        match self {
            Self::Installation(uid) | Self::Entry(uid) => uid,
        }
    }

    /// The owner that [`fmt::Display`] wrote.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.split_once(':')? {
            ("installation", uid) => Some(Self::Installation(uid.to_owned())),
            ("entry", uid) => Some(Self::Entry(uid.to_owned())),
            _ => None,
        }
    }

    /// The source of the fields whose values it holds.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Installation(_) => Source::Prompted,
            Self::Entry(_) => Source::Stored,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.uid())
    }
}

/// Who provides a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The person who installs.
    Prompted,
    /// An admin, once for all installations.
    Stored,
}
