//! The watched objects that are required to run self-hosted servers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use contracts::registry::{Entry, EntryRevision, Installation, Runtime};

use super::{
    compose::self_hosted,
    desired::{Desired, EntryCredential},
};

/// Of remote servers, it keeps only a mark for each entry revision.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the watch's key; `None` if the server is remote.
    revisions: HashMap<String, Option<Arc<EntryRevision>>>,
    /// By the entry's uid, without entries that have no credential.
    entries: HashMap<String, EntryCredential>,
    /// By uid: those with a self-hosted server, and those whose entry revision is not known yet.
    installations: HashMap<String, Arc<Installation>>,
    /// By the owner's uid.
    runtimes: HashMap<String, Arc<Runtime>>,
}

impl Index {
    /// Adds an entry revision; returns the installations that were waiting for it.
    pub(crate) fn put_revision(&mut self, key: String, revision: EntryRevision) -> BTreeSet<String> {
        let revision = self_hosted(&revision).is_some().then(|| Arc::new(revision));
        if self.revisions.insert(key.clone(), revision).is_some() {
            return BTreeSet::new();
        }
        let waits = |installation: &&Arc<Installation>| revision_key(installation) == key;
        let waiting = self.installations.values().filter(waits);
        waiting.map(|installation| installation.uid.clone()).collect()
    }

    /// Adds or replaces an entry; returns its installations if the state of its credential has changed.
    pub(crate) fn put_entry(&mut self, entry: &Entry) -> BTreeSet<String> {
        let credential = EntryCredential::of(entry);
        let known = if credential == EntryCredential::default() {
            self.entries.remove(&entry.uid)
        } else {
            self.entries.insert(entry.uid.clone(), credential)
        };
        if known.unwrap_or_default() == credential {
            return BTreeSet::new();
        }
        let installed = |installation: &&Arc<Installation>| installation.entry_uid == entry.uid;
        let installations = self.installations.values().filter(installed);
        installations.map(|installation| installation.uid.clone()).collect()
    }

    /// Adds or replaces an installation. One whose server is remote is left out, unless it still has a reconciler (`here`).
    pub(crate) fn put_installation(&mut self, installation: Installation, here: bool) {
        let remote = matches!(self.revisions.get(&revision_key(&installation)), Some(None));
        if remote && !here {
            self.installations.remove(&installation.uid);
        } else {
            self.installations
                .insert(installation.uid.clone(), Arc::new(installation));
        }
    }

    pub(crate) fn put_runtime(&mut self, key: String, runtime: Runtime) {
        self.runtimes.insert(key, Arc::new(runtime));
    }

    pub(crate) fn remove_revision(&mut self, key: &str) {
        self.revisions.remove(key);
    }

    pub(crate) fn remove_entry(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// Removes an installation and its runtime.
    pub(crate) fn remove_installation(&mut self, uid: &str) {
        self.installations.remove(uid);
        self.runtimes.remove(uid);
    }

    pub(crate) fn remove_runtime(&mut self, key: &str) {
        self.runtimes.remove(key);
    }

    /// The desired state of an installation; `None` if it is not in the index.
    pub(crate) fn desired(&self, uid: &str) -> Option<Desired> {
        let installation = self.installations.get(uid)?;
        let revision = match self.revisions.get(&revision_key(installation)) {
            Some(Some(revision)) => Some(Arc::clone(revision)),
            // An empty revision stands for a remote server.
            Some(None) => Some(Arc::default()),
            None => None,
        };
        Some(Desired {
            installation: Arc::clone(installation),
            revision,
            entry: self.entries.get(&installation.entry_uid).copied().unwrap_or_default(),
        })
    }

    pub(crate) fn runtime(&self, uid: &str) -> Option<Arc<Runtime>> {
        self.runtimes.get(uid).cloned()
    }

    /// Whether an installation is in the index.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.installations.contains_key(uid)
    }

    /// The uids of all installations in the index.
    pub(crate) fn installations(&self) -> impl Iterator<Item = &String> {
        self.installations.keys()
    }
}

fn revision_key(installation: &Installation) -> String {
    format!("{}/{}", installation.entry_uid, installation.running_entry_revision)
}

#[cfg(test)]
mod tests {
    use contracts::registry::{Condition, ConditionType, RemoteServer, SelfHostedServer, entry_revision::Server};
    use pretty_assertions::assert_eq;

    use super::*;

    fn revision(server: Server) -> EntryRevision {
        EntryRevision {
            server: Some(server),
            ..EntryRevision::default()
        }
    }

    fn here() -> EntryRevision {
        revision(Server::SelfHosted(SelfHostedServer::default()))
    }

    fn elsewhere() -> EntryRevision {
        revision(Server::Remote(RemoteServer::default()))
    }

    fn installation(uid: &str, running_entry_revision: i64) -> Installation {
        Installation {
            uid: uid.to_owned(),
            entry_uid: "e".to_owned(),
            running_entry_revision,
            ..Installation::default()
        }
    }

    #[test]
    fn keeps_nothing_of_servers_that_run_elsewhere() {
        let mut index = Index::default();
        index.put_revision("e/1".to_owned(), elsewhere());
        index.put_revision("e/2".to_owned(), here());
        index.put_installation(installation("remote", 1), false);
        index.put_installation(installation("ours", 2), false);
        assert!(index.desired("remote").is_none());
        assert!(index.desired("ours").unwrap().revision.is_some());
        // One that becomes remote stays until its reconciler has stopped the server.
        index.put_installation(installation("ours", 1), true);
        let moved = index.desired("ours").unwrap().revision.unwrap();
        assert_eq!(self_hosted(&moved), None);
        assert_eq!(index.installations().collect::<Vec<_>>(), ["ours"]);
    }

    #[test]
    fn survives_a_revision_that_comes_too_late() {
        let mut index = Index::default();
        index.put_installation(installation("i", 1), false);
        assert!(index.desired("i").unwrap().revision.is_none());
        assert_eq!(
            index.put_revision("e/1".to_owned(), here()),
            BTreeSet::from(["i".to_owned()])
        );
        assert!(index.desired("i").unwrap().revision.is_some());
        assert_eq!(index.put_revision("e/1".to_owned(), here()), BTreeSet::new());
        index.remove_revision("e/1");
        assert!(index.desired("i").unwrap().revision.is_none());
    }

    #[test]
    fn a_change_of_texts_affects_no_installation() {
        let mut index = Index::default();
        index.put_revision("e/1".to_owned(), here());
        index.put_installation(installation("i", 1), false);
        let mut entry = Entry {
            uid: "e".to_owned(),
            display_name: "One".to_owned(),
            ..Entry::default()
        };
        assert_eq!(index.put_entry(&entry), BTreeSet::new());
        entry.credential_generation = 1;
        assert_eq!(index.put_entry(&entry), BTreeSet::from(["i".to_owned()]));
        entry.display_name = "Two".to_owned();
        entry.labels.insert("a".to_owned(), "b".to_owned());
        assert_eq!(index.put_entry(&entry), BTreeSet::new());
        entry.conditions.push(Condition {
            r#type: ConditionType::CredentialReady.into(),
            ..Condition::default()
        });
        assert_eq!(index.put_entry(&entry), BTreeSet::from(["i".to_owned()]));
    }
}
