//! The watched objects that are required to run self-hosted servers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use contracts::registry::{Entry, EntryRevision, Installation, Runtime};

use registry_model::tenancy::is_shared;

use super::{
    compose::self_hosted,
    desired::{Desired, EntryCredential, Owner, SharingEntry},
    sharing::Sharing,
};

/// Of remote servers, it keeps only a mark for each entry revision; of installations that share a server, only which they are. "Owners" are
/// the uids of installations and of entries, each of which may have a server.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the watch's key; `None` if the server is remote.
    revisions: HashMap<String, Option<Arc<EntryRevision>>>,
    /// By the entry's uid.
    entries: HashMap<String, Known>,
    /// By uid: those with a server of their own, and those whose entry revision is not known yet.
    installations: HashMap<String, Arc<Installation>>,
    sharing: Sharing,
    /// By the owner's uid.
    runtimes: HashMap<String, Arc<Runtime>>,
}

/// An entry, as far as servers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The number of its current revision.
    revision: i64,
    deleted: bool,
    credential: EntryCredential,
}

impl Index {
    /// Adds an entry revision; returns the owners that were waiting for it.
    pub(crate) fn put_revision(&mut self, key: String, revision: EntryRevision) -> BTreeSet<String> {
        let entry = (revision.entry_uid.clone(), revision.number);
        let revision = self_hosted(&revision).is_some().then(|| Arc::new(revision));
        let shared = revision.as_deref().is_some_and(is_shared);
        if self.revisions.insert(key.clone(), revision).is_some() {
            return BTreeSet::new();
        }
        let waits = |installation: &&Arc<Installation>| revision_key(installation) == key;
        let waiting: Vec<_> = self.installations.values().filter(waits).cloned().collect();
        let mut owners = BTreeSet::new();
        for installation in waiting {
            let shares = shared && installation.delete_time.is_none();
            let entry = shares.then_some(installation.entry_uid.as_str());
            owners.extend(self.sharing.set(&installation.uid, entry));
            owners.insert(installation.uid.clone());
        }
        let (uid, number) = entry;
        if self.entries.get(&uid).is_some_and(|known| known.revision == number) {
            owners.insert(uid);
        }
        owners
    }

    /// Adds or replaces an entry; returns the owners for which something has changed.
    pub(crate) fn put_entry(&mut self, entry: &Entry) -> BTreeSet<String> {
        let known = Known {
            revision: entry.entry_revision,
            deleted: entry.delete_time.is_some(),
            credential: EntryCredential::of(entry),
        };
        let before = self.entries.insert(entry.uid.clone(), known).unwrap_or_default();
        let mut owners = BTreeSet::new();
        if before != known {
            owners.insert(entry.uid.clone());
        }
        if before.credential != known.credential {
            let installed = |installation: &&Arc<Installation>| installation.entry_uid == entry.uid;
            let installations = self.installations.values().filter(installed);
            owners.extend(installations.map(|installation| installation.uid.clone()));
        }
        owners
    }

    /// Adds or replaces an installation. One that has no server of its own is left out, unless it still has a reconciler (`here`). Returns
    /// the owners for which something has changed.
    pub(crate) fn put_installation(&mut self, installation: Installation, here: bool) -> BTreeSet<String> {
        let revision = self.revisions.get(&revision_key(&installation));
        let shared = matches!(revision, Some(Some(revision)) if is_shared(revision));
        let own = match revision {
            Some(None) => false,
            Some(Some(_)) => !shared,
            None => true,
        };
        let shares = shared && installation.delete_time.is_none();
        let entry = shares.then_some(installation.entry_uid.as_str());
        let mut owners = BTreeSet::from_iter(self.sharing.set(&installation.uid, entry));
        if own || here {
            owners.insert(installation.uid.clone());
            self.installations
                .insert(installation.uid.clone(), Arc::new(installation));
        } else {
            self.installations.remove(&installation.uid);
        }
        owners
    }

    pub(crate) fn put_runtime(&mut self, key: String, runtime: Runtime) {
        self.runtimes.insert(key, Arc::new(runtime));
    }

    pub(crate) fn remove_revision(&mut self, key: &str) {
        self.revisions.remove(key);
    }

    /// Removes an entry and its runtime.
    pub(crate) fn remove_entry(&mut self, uid: &str) {
        self.entries.remove(uid);
        self.runtimes.remove(uid);
    }

    /// Removes an installation and its runtime. Returns its entry if it was the last that shared a server.
    pub(crate) fn remove_installation(&mut self, uid: &str) -> Option<String> {
        self.installations.remove(uid);
        self.runtimes.remove(uid);
        self.sharing.set(uid, None)
    }

    pub(crate) fn remove_runtime(&mut self, key: &str) {
        self.runtimes.remove(key);
    }

    /// The desired state of an owner; `None` if it is not in the index.
    pub(crate) fn desired(&self, uid: &str) -> Option<Desired> {
        if let Some(installation) = self.installations.get(uid) {
            let entry = self.entries.get(&installation.entry_uid);
            return Some(Desired {
                owner: Owner::Installation(Arc::clone(installation)),
                revision: self.revision(&revision_key(installation)),
                entry: entry.map(|known| known.credential).unwrap_or_default(),
            });
        }
        let known = self.entries.get(uid)?;
        Some(Desired {
            owner: Owner::Entry(SharingEntry {
                uid: uid.to_owned(),
                revision: known.revision,
                in_use: self.sharing.in_use(uid),
                deleted: known.deleted,
            }),
            revision: self.revision(&key(uid, known.revision)),
            entry: known.credential,
        })
    }

    fn revision(&self, key: &str) -> Option<Arc<EntryRevision>> {
        match self.revisions.get(key)? {
            Some(revision) => Some(Arc::clone(revision)),
            // An empty revision stands for a remote server.
            None => Some(Arc::default()),
        }
    }

    pub(crate) fn runtime(&self, uid: &str) -> Option<Arc<Runtime>> {
        self.runtimes.get(uid).cloned()
    }

    /// Whether an owner is in the index.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.installations.contains_key(uid) || self.entries.contains_key(uid)
    }

    /// All owners in the index.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &String> {
        self.installations.keys().chain(self.entries.keys())
    }
}

fn revision_key(installation: &Installation) -> String {
    key(&installation.entry_uid, installation.running_entry_revision)
}

fn key(entry_uid: &str, number: i64) -> String {
    format!("{entry_uid}/{number}")
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        Condition, ConditionType, RemoteServer, SelfHostedServer, StreamableHttpTransport, Tenancy,
        entry_revision::Server, self_hosted_server::Transport,
    };
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
        assert_eq!(index.owners().collect::<Vec<_>>(), ["ours"]);
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
        let both = BTreeSet::from(["e", "i"].map(str::to_owned));
        entry.credential_generation = 1;
        assert_eq!(index.put_entry(&entry), both);
        entry.display_name = "Two".to_owned();
        entry.labels.insert("a".to_owned(), "b".to_owned());
        assert_eq!(index.put_entry(&entry), BTreeSet::new());
        entry.conditions.push(Condition {
            r#type: ConditionType::CredentialReady.into(),
            ..Condition::default()
        });
        assert_eq!(index.put_entry(&entry), both);
    }

    /// Whatever comes first, and however many there are: only the first and the last of them concern the server.
    #[test]
    fn installations_that_share_a_server_are_only_counted() {
        let transport = Transport::StreamableHttp(StreamableHttpTransport {
            tenancy: Tenancy::Shared.into(),
            ..StreamableHttpTransport::default()
        });
        let shared = || EntryRevision {
            entry_uid: "e".to_owned(),
            number: 1,
            ..revision(Server::SelfHosted(SelfHostedServer {
                transport: Some(transport.clone()),
                ..SelfHostedServer::default()
            }))
        };
        let entry = Entry {
            uid: "e".to_owned(),
            entry_revision: 1,
            ..Entry::default()
        };
        let in_use = |index: &Index| match index.desired("e").unwrap().owner {
            Owner::Entry(entry) => entry.in_use,
            Owner::Installation(_) => panic!("it is an entry"),
        };
        let concerned = BTreeSet::from(["e".to_owned()]);
        let mut index = Index::default();
        index.put_installation(installation("early", 1), false);
        index.put_entry(&entry);
        assert!(!in_use(&index));
        assert!(index.put_revision("e/1".to_owned(), shared()).contains("e"));
        assert!(in_use(&index));
        for _ in 0..2 {
            assert_eq!(index.put_installation(installation("late", 1), false), BTreeSet::new());
        }
        assert!(index.desired("late").is_none());
        // One that had a server of its own until now stays until that is stopped.
        let here = BTreeSet::from(["moved".to_owned()]);
        assert_eq!(index.put_installation(installation("moved", 1), true), here);
        assert!(index.desired("moved").unwrap().server().is_none());
        let deleted = Installation {
            delete_time: Some(Default::default()),
            ..installation("moved", 1)
        };
        index.put_installation(deleted, true);
        assert_eq!(index.remove_installation("early"), None);
        assert!(in_use(&index));
        assert_eq!(index.remove_installation("late").as_deref(), Some("e"));
        assert!(!in_use(&index));
        assert_eq!(index.put_installation(installation("again", 1), false), concerned);
    }
}
