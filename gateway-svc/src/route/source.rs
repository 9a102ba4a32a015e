//! Whose server has something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::SystemTime,
};

use crate::domain::Audience;

/// The installation that an assignment is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its uid.
    pub(crate) installation: Arc<str>,
    /// Of a personal one: whom its owner has agreed to, besides the author of the gateway or agent and admins.
    /// `None`: all who may use the gateway or agent.
    pub(crate) consented: Option<Consent>,
}

/// What the owner of a pinned personal installation has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    /// Who may call with their account.
    pub(crate) to: Audience,
    /// When they agreed. Teams that were created later under these names are others.
    pub(crate) at: SystemTime,
}

/// Whose server has something that a gateway or agent exposes.
#[derive(Debug)]
pub(crate) struct Source {
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// What it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<Pinned>>,
    /// A [`Uris`].
    uris: AtomicU8,
}

/// Whether clients know resources of a source by other URIs than its server, as far as this replica has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uris {
    /// No other source of the table has resources.
    Alone,
    /// Nobody has listed them yet.
    Unknown,
    /// By the same.
    Same,
    /// Some by others.
    Others,
}

impl Uris {
    const ALL: [Self; 4] = [Self::Alone, Self::Unknown, Self::Same, Self::Others];
}

impl Source {
    pub(crate) const fn new(entry_uid: Arc<str>, pinned: Option<Arc<Pinned>>) -> Self {
        Self {
            entry_uid,
            pinned,
            uris: AtomicU8::new(Uris::Alone as u8),
        }
    }

    /// Where it is among the others.
    pub(super) fn place(&self) -> (&str, Option<&str>) {
        place(&self.entry_uid, self.pinned.as_ref())
    }

    /// What distinguishes something of it: entry, pinned, chosen name, the server's own name.
    pub(crate) fn identity<'a>(&'a self, chosen: &'a str, own: &'a str) -> [&'a str; 4] {
        let (entry, pinned) = self.place();
        [entry, pinned.unwrap_or_default(), chosen, own]
    }

    /// Whether clients know resources of it by other URIs.
    pub(crate) fn uris(&self) -> Uris {
        Uris::ALL[usize::from(self.uris.load(Relaxed))]
    }

    /// A client has seen its resources, and knows some by other URIs, or none.
    pub(crate) fn seen(&self, by_others: bool) {
        let now = if by_others { Uris::Others } else { Uris::Same };
        // What some client knows by another URI, the next one may.
        if self.uris() == Uris::Unknown || self.uris() == Uris::Same && by_others {
            self.uris.store(now as u8, Relaxed);
        }
    }
}

/// What distinguishes sources; not what is known of their URIs.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        (&self.entry_uid, &self.pinned) == (&other.entry_uid, &other.pinned)
    }
}

impl Eq for Source {}

/// Where a source of this entry is among others.
pub(super) fn place<'a>(entry_uid: &'a str, pinned: Option<&'a Arc<Pinned>>) -> (&'a str, Option<&'a str>) {
    (entry_uid, pinned.map(|pinned| &*pinned.installation))
}

/// Says of the sources of a table what their places tell: `whole` have resources, from the oldest to the newest, and `all` have tools.
pub(super) fn set_apart(whole: &[Arc<Source>], all: &[Arc<Source>]) {
    let set = |source: &Source, uris: Uris| source.uris.store(uris as u8, Relaxed);
    let Some((oldest, newer)) = whole.split_first() else {
        return;
    };
    all.iter().for_each(|source| set(source, Uris::Same));
    newer.iter().for_each(|source| set(source, Uris::Unknown));
    // It gives way to none.
    set(oldest, if newer.is_empty() { Uris::Alone } else { Uris::Same });
}
