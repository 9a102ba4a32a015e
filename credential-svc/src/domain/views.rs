//! What is known of entries and installations, from the watch and from authorizations.

use std::collections::{BTreeSet, HashMap};

use super::{
    plan::{Plan, Source},
    record::Owner,
};

/// An installation, as far as this service cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstallationView {
    pub(crate) uid: String,
    /// `installations/{installation}`.
    pub(crate) name: String,
    pub(crate) entry_uid: String,
    /// The registry's revision of its last change.
    pub(crate) revision: i64,
    pub(crate) generation: i64,
    /// It waits for cleanup.
    pub(crate) deleted: bool,
    /// Of its running entry revision.
    pub(crate) plan: Plan,
    /// The effective credential's generation as the registry has it from us.
    pub(crate) credential_generation: i64,
    /// What else the registry has from us.
    pub(crate) reported: Option<Reported>,
}

/// CREDENTIAL_READY as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) ready: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
}

/// An entry, as far as this service cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryView {
    pub(crate) uid: String,
    /// `entries/{entry}`.
    pub(crate) name: String,
    /// It waits for cleanup.
    pub(crate) deleted: bool,
    /// Of its current revision.
    pub(crate) plan: Plan,
}

/// Whose credential a person works on, as authorized at that moment.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Installation(InstallationView),
    Entry(EntryView),
}

impl Subject {
    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Installation(view) => Owner::Installation(view.uid.clone()),
            Self::Entry(view) => Owner::Entry(view.uid.clone()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Installation(view) => &view.name,
            Self::Entry(view) => &view.name,
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        match self {
            Self::Installation(view) => &view.plan,
            Self::Entry(view) => &view.plan,
        }
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Installation(_) => Source::Prompted,
            Self::Entry(_) => Source::Stored,
        }
    }

    pub(crate) fn deleted(&self) -> bool {
        match self {
            Self::Installation(view) => view.deleted,
            Self::Entry(view) => view.deleted,
        }
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// By uid.
    installations: HashMap<String, InstallationView>,
    /// Uids of entries that wait for cleanup.
    deleted_entries: BTreeSet<String>,
    loaded: bool,
}

impl Views {
    /// Replaces everything by a snapshot.
    pub(crate) fn replace(&mut self, installations: Vec<InstallationView>, entries: Vec<EntryView>) {
        self.installations = installations.into_iter().map(|view| (view.uid.clone(), view)).collect();
        self.deleted_entries = entries
            .into_iter()
            .filter(|view| view.deleted)
            .map(|view| view.uid)
            .collect();
        self.loaded = true;
    }

    /// Takes an installation, unless a newer state of it is known.
    pub(crate) fn put_installation(&mut self, view: InstallationView) {
        match self.installations.get(&view.uid) {
            Some(known) if known.revision > view.revision => {}
            _ => {
                self.installations.insert(view.uid.clone(), view);
            }
        }
    }

    pub(crate) fn put_entry(&mut self, view: EntryView) {
        if view.deleted {
            self.deleted_entries.insert(view.uid);
        }
    }

    pub(crate) fn remove_installation(&mut self, uid: &str) {
        self.installations.remove(uid);
    }

    pub(crate) fn remove_entry(&mut self, uid: &str) {
        self.deleted_entries.remove(uid);
    }

    pub(crate) fn installation(&self, uid: &str) -> Option<&InstallationView> {
        self.installations.get(uid)
    }

    pub(crate) fn is_deleted_entry(&self, uid: &str) -> bool {
        self.deleted_entries.contains(uid)
    }

    /// Uids of an entry's installations.
    pub(crate) fn installations_of(&self, entry_uid: &str) -> Vec<String> {
        self.installations
            .values()
            .filter(|view| view.entry_uid == entry_uid)
            .map(|view| view.uid.clone())
            .collect()
    }

    /// Everything there is something to do about.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        let installations = self.installations.keys().cloned().map(Owner::Installation);
        installations
            .chain(self.deleted_entries.iter().cloned().map(Owner::Entry))
            .collect()
    }

    /// Whether a snapshot has come.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }
}
