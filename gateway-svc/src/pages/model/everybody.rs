//! What an admin sees of an entry's installations, whoever owns them.

use contracts::registry::Installation;

/// The first of them.
#[derive(Debug)]
pub(in crate::pages) struct Everybody {
    pub(in crate::pages) installations: Vec<Owned>,
    /// Whether there are others.
    pub(in crate::pages) more: bool,
}

/// An installation, and whose it is.
#[derive(Debug)]
pub(in crate::pages) struct Owned {
    /// For people.
    pub(in crate::pages) owner: String,
    pub(in crate::pages) installation: Installation,
}
