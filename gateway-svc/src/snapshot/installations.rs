//! Installations, and whose they are.

use std::sync::Arc;

use rpds::{HashTrieMapSync, HashTrieSetSync};

use crate::domain::{Installation, Owner};

/// All installations.
#[derive(Clone, Debug, Default)]
pub(super) struct Installations {
    by_uid: HashTrieMapSync<Arc<str>, Arc<Installation>>,
    /// By the uid of their entry.
    by_entry: HashTrieMapSync<Arc<str>, Owned>,
}

/// The installations of one entry, by whose they are; without deleted ones.
#[derive(Clone, Debug, Default)]
struct Owned {
    users: HashTrieMapSync<Arc<str>, Arc<Installation>>,
    teams: HashTrieMapSync<Arc<str>, Arc<Installation>>,
    /// Uids of those that await their discovery.
    undiscovered: HashTrieSetSync<Arc<str>>,
}

impl Owned {
    fn put(&mut self, installation: &Arc<Installation>) {
        if installation.awaits_discovery() {
            self.undiscovered.insert_mut(Arc::clone(&installation.uid));
        }
        match &installation.owner {
            Owner::User(user) => self.users.insert_mut(Arc::clone(user), Arc::clone(installation)),
            Owner::Team(team) => self.teams.insert_mut(Arc::clone(team), Arc::clone(installation)),
        }
    }

    fn of(&self, owner: &Owner) -> Option<&Arc<Installation>> {
        match owner {
            Owner::User(user) => self.users.get(user),
            Owner::Team(team) => self.teams.get(team),
        }
    }
}

impl Installations {
    /// By uid; also one that waits for cleanup.
    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Installation>> {
        self.by_uid.get(uid)
    }

    /// A person's own, of an entry.
    pub(super) fn personal(&self, entry_uid: &str, user: &str) -> Option<&Arc<Installation>> {
        self.by_entry.get(entry_uid)?.users.get(user)
    }

    /// A team's, of an entry.
    pub(super) fn of_team(&self, entry_uid: &str, team: &str) -> Option<&Arc<Installation>> {
        self.by_entry.get(entry_uid)?.teams.get(team)
    }

    /// All of an entry, without deleted ones.
    pub(super) fn of_entry(&self, entry_uid: &str) -> impl Iterator<Item = &Arc<Installation>> {
        let owned = self.by_entry.get(entry_uid).into_iter();
        owned.flat_map(|owned| owned.users.values().chain(owned.teams.values()))
    }

    /// Uids of those of an entry that await their discovery.
    pub(super) fn undiscovered(&self, entry_uid: &str) -> impl Iterator<Item = &Arc<str>> {
        let owned = self.by_entry.get(entry_uid).into_iter();
        owned.flat_map(|owned| owned.undiscovered.iter())
    }

    /// A new one, or another state of one.
    pub(super) fn put(&mut self, installation: Installation) {
        self.forget_owner(&installation.uid);
        let installation = Arc::new(installation);
        if !installation.deleted {
            match self.by_entry.get_mut(&installation.entry_uid) {
                Some(owned) => owned.put(&installation),
                None => {
                    let mut owned = Owned::default();
                    owned.put(&installation);
                    self.by_entry.insert_mut(Arc::clone(&installation.entry_uid), owned);
                }
            }
        }
        self.by_uid.insert_mut(Arc::clone(&installation.uid), installation);
    }

    /// One is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        self.forget_owner(uid);
        self.by_uid.remove_mut(uid);
    }

    /// Takes an installation out of the index of owners, unless another has its place already.
    fn forget_owner(&mut self, uid: &str) {
        let Some(known) = self.by_uid.get(uid) else { return };
        let Some(owned) = self.by_entry.get_mut(&known.entry_uid) else {
            return;
        };
        owned.undiscovered.remove_mut(uid);
        if owned.of(&known.owner).is_none_or(|current| *current.uid != *uid) {
            return;
        }
        match &known.owner {
            Owner::User(user) => owned.users.remove_mut(user),
            Owner::Team(team) => owned.teams.remove_mut(team),
        };
        if owned.users.is_empty() && owned.teams.is_empty() {
            self.by_entry.remove_mut(&known.entry_uid);
        }
    }
}
