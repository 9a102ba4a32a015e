//! What this service knows of entries and installations, from the watch and from authorizations.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use registry_model::destination::{Part, ValuesByOthers};

use super::{condition::Condition, destination::Present, owner::Owner, plan::Plan, record::Record};

/// The part of an installation that this service uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstallationView {
    pub(crate) uid: String,
    pub(crate) entry_uid: String,
    /// Number of the entry revision it runs.
    pub(crate) entry_revision: i64,
    /// The registry's revision of its last change.
    pub(crate) registry_revision: i64,
    pub(crate) generation: i64,
    /// It is deleted, and waits for cleanup.
    pub(crate) deleted: bool,
    /// Set for a personal installation whose values were set by somebody other than its owner.
    pub(crate) foreign: Option<ValuesByOthers>,
    pub(crate) shown: Shown,
}

/// The part of an entry that this service uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryView {
    pub(crate) uid: String,
    /// `entries/{entry}`.
    pub(crate) name: String,
    /// Number of its current revision.
    pub(crate) entry_revision: i64,
    /// The registry's revision of its last change.
    pub(crate) registry_revision: i64,
    /// It is deleted, and waits for cleanup.
    pub(crate) deleted: bool,
    /// Of its current revision.
    pub(crate) plan: Arc<Plan>,
    pub(crate) shown: Shown,
}

/// What this service has reported, as the registry shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The generation that was reported last; 0: none.
    pub(crate) credential_generation: i64,
    pub(crate) condition: Option<Reported>,
}

/// CREDENTIAL_READY, as the registry shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) ready: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
}

impl Shown {
    /// Whether anything was ever reported.
    pub(crate) fn is_any(&self) -> bool {
        self.credential_generation > 0 || self.condition.is_some()
    }

    /// Whether the registry has this report already.
    pub(crate) fn has(&self, report: &Condition) -> bool {
        self.credential_generation == report.credential_generation
            && self.condition.as_ref().is_some_and(|condition| {
                condition.ready == report.ready
                    && condition.reason == report.reason
                    && condition.message == report.message
                    && condition.observed_generation == report.observed_generation
            })
    }
}

/// Whose credential a person works on, as authorized at that moment.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// With the plan of the entry revision it runs, and its values.
    Installation(InstallationView, Arc<Plan>, Vec<Part>),
    Entry(EntryView),
}

impl Subject {
    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Installation(view, ..) => Owner::Installation(view.uid.clone()),
            Self::Entry(view) => Owner::Entry(view.uid.clone()),
        }
    }

    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Installation(view, ..) => format!("installations/{}", view.uid),
            Self::Entry(view) => view.name.clone(),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        match self {
            Self::Installation(_, plan, _) => plan,
            Self::Entry(view) => &view.plan,
        }
    }

    /// The entry of an installation.
    pub(crate) fn entry(&self) -> Option<Owner> {
        match self {
            Self::Installation(view, ..) => Some(Owner::Entry(view.entry_uid.clone())),
            Self::Entry(_) => None,
        }
    }

    /// The entry, where secrets stored on it go to the same server as the installation's own.
    pub(crate) fn mixed_with(&self) -> Option<Owner> {
        match self {
            Self::Installation(view, plan, _) if plan.is_mixed() => Some(Owner::Entry(view.entry_uid.clone())),
            _ => None,
        }
    }

    /// The present destination of its secrets, given the record of [`Self::mixed_with`]. `None` for an entry without a server.
    pub(crate) fn present(&self, entry: Option<&Record>) -> Option<Present> {
        match self {
            Self::Installation(view, plan, values) => plan.present(view.foreign.as_ref(), values, entry),
            Self::Entry(view) => view.plan.present(None, &[], None),
        }
    }

    pub(crate) fn deleted(&self) -> bool {
        match self {
            Self::Installation(view, ..) => view.deleted,
            Self::Entry(view) => view.deleted,
        }
    }
}

/// What is known of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The generation to report on: an installation's own, or the number of an entry's revision.
    pub(crate) generation: i64,
    pub(crate) deleted: bool,
    /// `None`: the watch has not brought the entry revision yet.
    pub(crate) plan: Option<Arc<Plan>>,
    /// As `InstallationView::foreign`.
    pub(crate) foreign: Option<ValuesByOthers>,
    /// The entry of an installation.
    pub(crate) entry: Option<Owner>,
    /// As `Subject::mixed_with`.
    pub(crate) mixed_with: Option<Owner>,
    pub(crate) shown: Shown,
}

/// Everything this service knows.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// When the snapshot began (microseconds since 1970); 0: there was none.
    began: i64,
    /// Plans of entry revisions, by [`revision_key`]; shared by all installations that run them.
    plans: HashMap<String, Arc<Plan>>,
    /// By uid.
    installations: HashMap<String, InstallationView>,
    /// By uid.
    entries: HashMap<String, EntryView>,
    /// Uids of the installations of each entry, by the entry's uid.
    installed: HashMap<String, BTreeSet<String>>,
    /// Known from authorizations alone: the watch has not brought them.
    unwatched: BTreeSet<Owner>,
}

/// Key of an entry revision, as in the watch.
pub(crate) fn revision_key(entry_uid: &str, number: i64) -> String {
    format!("{entry_uid}/{number}")
}

impl Views {
    /// Those of a snapshot that begins at this time (microseconds since 1970).
    pub(crate) fn begin(time: i64) -> Self {
        Self {
            began: time,
            ..Self::default()
        }
    }

    /// Whether the snapshot began after this time (microseconds since 1970).
    pub(crate) fn is_newer(&self, time: i64) -> bool {
        self.began > time
    }

    /// Whether the watch shows the owner, and not as deleted.
    pub(crate) fn shows(&self, owner: &Owner) -> bool {
        let deleted = match owner {
            Owner::Installation(uid) => self.installations.get(uid).map(|view| view.deleted),
            Owner::Entry(uid) => self.entries.get(uid).map(|view| view.deleted),
        };
        deleted == Some(false) && !self.unwatched.contains(owner)
    }

    pub(crate) fn put_plan(&mut self, key: String, plan: Arc<Plan>) {
        self.plans.insert(key, plan);
    }

    /// Adds an installation, unless a newer state of it is known: an authorization may be ahead of the watch.
    pub(crate) fn put_installation(&mut self, view: InstallationView) {
        self.unwatched.remove(&Owner::Installation(view.uid.clone()));
        match self.installations.get(&view.uid) {
            Some(known) if known.registry_revision > view.registry_revision => {}
            _ => {
                let installed = self.installed.entry(view.entry_uid.clone()).or_default();
                installed.insert(view.uid.clone());
                self.installations.insert(view.uid.clone(), view);
            }
        }
    }

    /// Adds an entry, unless a newer state of it is known. Where the secrets stored on it have changed, returns the installations whose
    /// destination changes with them.
    pub(crate) fn put_entry(&mut self, view: EntryView) -> Vec<Owner> {
        self.unwatched.remove(&Owner::Entry(view.uid.clone()));
        let known = self.entries.get(&view.uid);
        if known.is_some_and(|known| known.registry_revision > view.registry_revision) {
            return Vec::new();
        }
        let before = known.map(|known| known.shown.credential_generation);
        let owners = if before == Some(view.shown.credential_generation) {
            Vec::new()
        } else {
            self.mixed(&view.uid)
        };
        self.entries.insert(view.uid.clone(), view);
        owners
    }

    /// The installations of an entry whose servers also get secrets stored on it, each as the entry revision that it runs says.
    fn mixed(&self, entry_uid: &str) -> Vec<Owner> {
        let is_mixed = |uid: &&String| {
            let plan = self.installations.get(*uid).and_then(|view| self.plan(view));
            plan.is_some_and(|plan| plan.is_mixed())
        };
        let uids = self.installed.get(entry_uid).into_iter().flatten();
        uids.filter(is_mixed).cloned().map(Owner::Installation).collect()
    }

    /// Adds what an authorization returned. Returns what [`Self::put_entry`] does: the watch brings nothing newer.
    pub(crate) fn put(&mut self, subject: &Subject) -> Vec<Owner> {
        let owner = subject.owner();
        let unwatched = !self.knows(&owner) || self.unwatched.contains(&owner);
        let owners = match subject {
            Subject::Installation(view, plan, _) => {
                let newer = self.installations.get(&view.uid).map(|known| known.registry_revision);
                // The watch may already have removed the plan of an older state, and would not remove it again.
                if newer.is_none_or(|known| known <= view.registry_revision) {
                    let key = revision_key(&view.entry_uid, view.entry_revision);
                    self.plans.entry(key).or_insert_with(|| Arc::clone(plan));
                }
                self.put_installation(view.clone());
                Vec::new()
            }
            Subject::Entry(view) => self.put_entry(view.clone()),
        };
        if unwatched {
            self.unwatched.insert(owner);
        }
        owners
    }

    pub(crate) fn remove_plan(&mut self, key: &str) {
        self.plans.remove(key);
    }

    pub(crate) fn remove_installation(&mut self, uid: &str) {
        self.unwatched.remove(&Owner::Installation(uid.to_owned()));
        let Some(view) = self.installations.remove(uid) else {
            return;
        };
        if let Some(installed) = self.installed.get_mut(&view.entry_uid) {
            installed.remove(uid);
            if installed.is_empty() {
                self.installed.remove(&view.entry_uid);
            }
        }
    }

    pub(crate) fn remove_entry(&mut self, uid: &str) {
        self.unwatched.remove(&Owner::Entry(uid.to_owned()));
        self.entries.remove(uid);
    }

    pub(crate) fn installation(&self, uid: &str) -> Option<&InstallationView> {
        self.installations.get(uid)
    }

    /// An entry by uid.
    pub(crate) fn entry(&self, uid: &str) -> Option<&EntryView> {
        self.entries.get(uid)
    }

    /// The plan an installation runs.
    pub(crate) fn plan(&self, view: &InstallationView) -> Option<&Arc<Plan>> {
        self.plans.get(&revision_key(&view.entry_uid, view.entry_revision))
    }

    /// What is known of an owner; `None`: it does not exist, or the watch has not brought it yet.
    pub(crate) fn of(&self, owner: &Owner) -> Option<Known> {
        match owner {
            Owner::Installation(uid) => self.installations.get(uid).map(|view| Known {
                generation: view.generation,
                deleted: view.deleted,
                plan: self.plan(view).cloned(),
                entry: Some(Owner::Entry(view.entry_uid.clone())),
                mixed_with: self
                    .plan(view)
                    .filter(|plan| plan.is_mixed())
                    .map(|_| Owner::Entry(view.entry_uid.clone())),
                foreign: view.foreign.clone(),
                shown: view.shown.clone(),
            }),
            Owner::Entry(uid) => self.entries.get(uid).map(|view| Known {
                generation: view.entry_revision,
                deleted: view.deleted,
                plan: Some(Arc::clone(&view.plan)),
                foreign: None,
                entry: None,
                mixed_with: None,
                shown: view.shown.clone(),
            }),
        }
    }

    /// The generation of an owner's credential that was reported last.
    pub(crate) fn reported(&self, owner: &Owner) -> i64 {
        let shown = match owner {
            Owner::Installation(uid) => self.installations.get(uid).map(|view| &view.shown),
            Owner::Entry(uid) => self.entries.get(uid).map(|view| &view.shown),
        };
        shown.map_or(0, |shown| shown.credential_generation)
    }

    /// Whether the registry has it.
    pub(crate) fn knows(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Installation(uid) => self.installations.contains_key(uid),
            Owner::Entry(uid) => self.entries.contains_key(uid),
        }
    }

    /// All owners.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        let installations = self.installations.keys().cloned().map(Owner::Installation);
        installations
            .chain(self.entries.keys().cloned().map(Owner::Entry))
            .collect()
    }
}
