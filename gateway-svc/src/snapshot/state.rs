//! One state of the registry. Cloning shares everything; a change copies only what it touches.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use contracts::registry::{Change, ObjectKind, WatchedObject, change, watched_object::Object};
use rpds::{HashTrieMapSync, HashTrieSetSync};
use service_kit::UserId;

use super::{
    consumers::{Consumers, Touched},
    parse,
    teams::{CallerTeams, Teams},
};
use crate::{
    domain::{Caller, Consumer, ConsumerRef, Entry, Installation, Owner},
    route::Table,
};

/// The tool sets of entries and installations, by uid.
pub(crate) type ToolSets = HashTrieMapSync<Arc<str>, Arc<ToolSet>>;

/// A gateway token that is not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayToken {
    /// `gatewayTokens/{token}`.
    pub(crate) name: Arc<str>,
    /// Who calls with it.
    pub(crate) caller: Caller,
    /// When it ends.
    pub(crate) expires: Option<SystemTime>,
}

/// Which tools an entry or an installation has: the server's own name of each, and the hash of its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolSet(BTreeMap<Arc<str>, Arc<str>>);

impl ToolSet {
    /// Of names and hashes.
    pub(crate) fn new(tools: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        Self(tools.into_iter().collect())
    }

    /// The server's own names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// The hash of a tool's definition; `None`: it has no such tool.
    pub(crate) fn hash(&self, tool: &str) -> Option<&Arc<str>> {
        self.0.get(tool)
    }
}

/// The installations of one entry, by whose they are; without deleted ones.
#[derive(Clone, Debug, Default)]
struct Installed {
    users: HashTrieMapSync<UserId, Arc<Installation>>,
    teams: HashTrieMapSync<Arc<str>, Arc<Installation>>,
}

/// One state of the registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    revision: i64,
    entries: HashTrieMapSync<Arc<str>, Arc<Entry>>,
    installations: HashTrieMapSync<Arc<str>, Arc<Installation>>,
    installed: HashTrieMapSync<Arc<str>, Installed>,
    consumers: Consumers,
    teams: Teams,
    deactivated: HashTrieMapSync<Arc<str>, UserId>,
    deactivated_users: HashTrieSetSync<UserId>,
    tokens: HashTrieMapSync<[u8; 32], Arc<GatewayToken>>,
    token_hashes: HashTrieMapSync<Arc<str>, [u8; 32]>,
    definitions: HashTrieMapSync<Arc<str>, Arc<str>>,
    tool_sets: ToolSets,
}

impl Snapshot {
    /// The registry revision it shows.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// A gateway or an agent, whoever asks.
    pub(crate) fn consumer(&self, name: &ConsumerRef) -> Option<&Arc<Consumer>> {
        self.consumers.get(name).map(|exposed| &exposed.consumer)
    }

    /// What a gateway or an agent exposes, whoever asks.
    pub(crate) fn table(&self, name: &ConsumerRef) -> Option<&Arc<Table>> {
        self.consumers.get(name).map(|exposed| &exposed.table)
    }

    /// An entry by uid.
    pub(crate) fn entry(&self, uid: &str) -> Option<&Arc<Entry>> {
        self.entries.get(uid)
    }

    /// An installation by uid; also one that waits for cleanup.
    pub(crate) fn installation(&self, uid: &str) -> Option<&Arc<Installation>> {
        self.installations.get(uid)
    }

    /// All installations, in no particular order.
    pub(crate) fn installations(&self) -> impl Iterator<Item = &Arc<Installation>> {
        self.installations.values()
    }

    /// A person's own installation of an entry.
    pub(crate) fn personal(&self, entry_uid: &str, user: &UserId) -> Option<&Arc<Installation>> {
        self.installed.get(entry_uid)?.users.get(user)
    }

    /// A team's installation of an entry.
    pub(crate) fn of_team(&self, entry_uid: &str, team: &str) -> Option<&Arc<Installation>> {
        self.installed.get(entry_uid)?.teams.get(team)
    }

    /// The teams a caller belongs to.
    pub(crate) fn teams_of(&self, caller: &Caller) -> Arc<CallerTeams> {
        self.teams.of(caller)
    }

    /// A gateway token by the SHA-256 of its text.
    pub(crate) fn gateway_token(&self, hash: &[u8; 32]) -> Option<&Arc<GatewayToken>> {
        self.tokens.get(hash)
    }

    /// Whether a user has been shut out: nothing of theirs works any more.
    pub(crate) fn is_deactivated(&self, user: &UserId) -> bool {
        self.deactivated_users.contains(user)
    }

    /// The tools of an entry or an installation, if any were discovered.
    pub(crate) fn tools(&self, owner_uid: &str) -> Option<&Arc<ToolSet>> {
        self.tool_sets.get(owner_uid)
    }

    /// A tool definition by hash.
    pub(crate) fn definition(&self, hash: &str) -> Option<&Arc<str>> {
        self.definitions.get(hash)
    }

    /// A snapshot of the registry.
    pub(crate) fn from_objects(revision: i64, objects: Vec<WatchedObject>) -> Self {
        let mut snapshot = Self {
            revision,
            ..Self::default()
        };
        let mut touched = Touched::default();
        for object in objects {
            snapshot.put(object, &mut touched);
        }
        touched.entries.clear();
        touched.consumers.extend(snapshot.consumers.uids());
        snapshot
            .consumers
            .rebuild(&touched, &snapshot.entries, &snapshot.tool_sets);
        snapshot
    }

    /// The state after one more revision.
    pub(crate) fn after(&self, revision: i64, changes: Vec<Change>) -> Self {
        let mut next = Self {
            revision,
            ..self.clone()
        };
        let mut touched = Touched::default();
        for change in changes {
            match change.change {
                Some(change::Change::Put(object)) => next.put(object, &mut touched),
                Some(change::Change::Remove(removal)) => next.remove(removal.kind(), &removal.key, &mut touched),
                None => {}
            }
        }
        next.consumers.rebuild(&touched, &next.entries, &next.tool_sets);
        next
    }

    fn put(&mut self, object: WatchedObject, touched: &mut Touched) {
        let key: Arc<str> = object.key.as_str().into();
        if self.try_put(object, touched).is_none() {
            tracing::error!(registry.object = %key, "the registry sent an object that cannot be understood; it is left out");
        }
    }

    fn try_put(&mut self, object: WatchedObject, touched: &mut Touched) -> Option<()> {
        let key: Arc<str> = object.key.as_str().into();
        match object.object? {
            Object::Entry(entry) => self.put_entry(parse::entry(&entry)?, touched),
            Object::Installation(watched) => self.put_installation(parse::installation(&watched)?),
            Object::Gateway(gateway) => self.consumers.put(parse::gateway(gateway)?, touched),
            Object::Agent(agent) => self.consumers.put(parse::agent(agent)?, touched),
            Object::ToolAssignment(watched) => self.consumers.put_assignment(parse::assignment(&watched)?, touched),
            Object::Team(watched) => {
                let (uid, team) = parse::team(&watched)?;
                self.teams.put(uid, team);
            }
            Object::DeactivatedUser(user) => {
                let user = UserId::parse(parse::id(&user.user, "users")?)?;
                self.deactivated_users.insert_mut(user.clone());
                self.deactivated.insert_mut(key, user);
            }
            Object::GatewayToken(watched) => {
                let (hash, token) = parse::gateway_token(&watched)?;
                if let Some(old) = self.token_hashes.get(&key).copied() {
                    self.tokens.remove_mut(&old);
                }
                self.token_hashes.insert_mut(key, hash);
                self.tokens.insert_mut(hash, Arc::new(token));
            }
            Object::ToolDefinition(definition) => {
                self.definitions
                    .insert_mut(definition.hash.as_str().into(), definition.definition_json.into());
            }
            Object::ToolSet(set) => {
                let owner: Arc<str> = set.owner_uid.as_str().into();
                let set = parse::tool_set(&set);
                if self.tool_sets.get(&owner).is_none_or(|known| **known != set) {
                    self.tool_sets.insert_mut(Arc::clone(&owner), Arc::new(set));
                    touched.entries.insert(owner);
                }
            }
        }
        Some(())
    }

    fn put_entry(&mut self, entry: Entry, touched: &mut Touched) {
        let uid = Arc::clone(&entry.uid);
        touched.entries.insert(Arc::clone(&uid));
        self.entries.insert_mut(uid, Arc::new(entry));
    }

    fn put_installation(&mut self, installation: Installation) {
        self.forget_owner(&Arc::clone(&installation.uid));
        let installation = Arc::new(installation);
        if !installation.deleted {
            let mut installed = self.installed.get(&installation.entry_uid).cloned().unwrap_or_default();
            match &installation.owner {
                Owner::User(user) => installed.users.insert_mut(user.clone(), Arc::clone(&installation)),
                Owner::Team(team) => installed.teams.insert_mut(Arc::clone(team), Arc::clone(&installation)),
            }
            self.installed
                .insert_mut(Arc::clone(&installation.entry_uid), installed);
        }
        self.installations
            .insert_mut(Arc::clone(&installation.uid), installation);
    }

    /// Takes an installation out of the index of owners, unless another has its place already.
    fn forget_owner(&mut self, uid: &str) {
        let Some(known) = self.installations.get(uid) else {
            return;
        };
        let Some(installed) = self.installed.get(&known.entry_uid) else {
            return;
        };
        let mut installed = installed.clone();
        match &known.owner {
            Owner::User(user) if installed.users.get(user).is_some_and(|current| *current.uid == *uid) => {
                installed.users.remove_mut(user);
            }
            Owner::Team(team) if installed.teams.get(team).is_some_and(|current| *current.uid == *uid) => {
                installed.teams.remove_mut(team);
            }
            Owner::User(_) | Owner::Team(_) => return,
        }
        let entry_uid = Arc::clone(&known.entry_uid);
        if installed.users.is_empty() && installed.teams.is_empty() {
            self.installed.remove_mut(&entry_uid);
        } else {
            self.installed.insert_mut(entry_uid, installed);
        }
    }

    fn remove(&mut self, kind: ObjectKind, key: &str, touched: &mut Touched) {
        match kind {
            ObjectKind::Entry => {
                self.entries.remove_mut(key);
                touched.entries.insert(key.into());
            }
            ObjectKind::Installation => {
                self.forget_owner(key);
                self.installations.remove_mut(key);
            }
            ObjectKind::Gateway | ObjectKind::Agent => self.consumers.remove(key),
            ObjectKind::ToolAssignment => self.consumers.remove_assignment(key, touched),
            ObjectKind::Team => self.teams.remove(key),
            ObjectKind::DeactivatedUser => {
                if let Some(user) = self.deactivated.get(key).cloned() {
                    self.deactivated.remove_mut(key);
                    self.deactivated_users.remove_mut(&user);
                }
            }
            ObjectKind::GatewayToken => {
                if let Some(hash) = self.token_hashes.get(key).copied() {
                    self.token_hashes.remove_mut(key);
                    self.tokens.remove_mut(&hash);
                }
            }
            ObjectKind::ToolDefinition => {
                self.definitions.remove_mut(key);
            }
            ObjectKind::ToolSet => {
                self.tool_sets.remove_mut(key);
                touched.entries.insert(key.into());
            }
            ObjectKind::Unspecified => {}
        }
    }
}
