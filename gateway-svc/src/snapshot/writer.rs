//! Makes the next snapshot: of the objects of the registry as they come, and of changes to the last one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use contracts::registry::{self as pb, Change, ObjectKind, WatchedObject, change, watched_object::Object};
use rpds::HashTrieSetSync;
use service_kit::UserId;

use super::{
    concerned::Concerned,
    dependents::Dependents,
    parse,
    restarts::{self, Restarts},
    revision,
    state::Snapshot,
    strings::Strings,
};
use crate::domain::{Consumer, Definition, Entry, Installation};

/// The next state, and what only its construction needs: which tables depend on what, and which object has which key.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    next: Snapshot,
    strings: Strings,
    dependents: Dependents,
    restarts: Restarts,
    deactivated: HashMap<String, UserId>,
    token_hashes: HashMap<String, [u8; 32]>,
    changed: Changed,
    concerned: Concerned,
}

/// What has changed since the last snapshot.
#[derive(Debug, Default)]
struct Changed {
    /// Uids of gateways and agents that expose something else.
    tables: HashSet<Arc<str>>,
    /// Uids of installations whose servers may have to be asked for their tools.
    installations: HashSet<Arc<str>>,
    teams: bool,
}

impl Writer {
    /// Takes what one revision changed.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change.change {
                Some(change::Change::Put(object)) => self.put(object),
                Some(change::Change::Remove(removal)) => self.remove(removal.kind(), &removal.key),
                None => {}
            }
        }
    }

    /// Everything up to now as a snapshot of this revision; and the uids of installations that came, changed or went since the
    /// last one, or whose runtime or entry's credential did.
    pub(crate) fn snapshot(&mut self, revision: i64) -> (Snapshot, HashSet<Arc<str>>) {
        let changed = std::mem::take(&mut self.changed);
        for uid in changed.tables {
            self.next.consumers.renew(&uid);
            self.concern_those_at(&uid);
        }
        if changed.teams {
            self.next.teams.forget();
        }
        self.next.revision = revision;
        (self.next.clone(), changed.installations)
    }

    /// Whom the last snapshot may concern, of those who knew the one at which this was asked before.
    pub(super) fn concerned(&mut self) -> Concerned {
        std::mem::replace(&mut self.concerned, Concerned::nobody())
    }

    /// A gateway or agent, by uid. One that comes later concerns those who wait for it then.
    fn concern_those_at(&mut self, consumer_uid: &str) {
        if let Some(consumer) = self.next.consumers.by_uid(consumer_uid) {
            self.concerned.consumer(&consumer.name);
        }
    }

    /// An object that came or changed. One that cannot be understood is left out.
    pub(crate) fn put(&mut self, object: WatchedObject) {
        let WatchedObject { key, object } = object;
        // A newer registry may send kinds that are unknown here.
        let Some(object) = object else { return };
        if self.try_put(&key, object).is_none() {
            tracing::error!(registry.object = %key, "the registry sent an object that cannot be understood; it is left out");
        }
    }

    fn try_put(&mut self, key: &str, object: Object) -> Option<()> {
        let strings = &mut self.strings;
        match object {
            Object::Entry(entry) => {
                let entry = parse::entry(&entry, strings)?;
                self.put_entry(entry);
            }
            Object::EntryRevision(of) => {
                let number = of.number;
                let revision = Arc::new(revision::parse(&of, strings)?);
                let entry_uid = strings.get(&of.entry_uid);
                self.next.revisions.insert_mut((entry_uid, number), revision);
            }
            Object::Installation(installation) => {
                let installation = parse::installation(&installation, strings)?;
                self.put_installation(installation);
            }
            Object::Runtime(runtime) => self.put_runtime(&runtime),
            Object::Gateway(gateway) => {
                let gateway = parse::gateway(&gateway, strings)?;
                self.put_consumer(gateway);
            }
            Object::Agent(agent) => {
                let agent = parse::agent(&agent, strings)?;
                self.put_consumer(agent);
            }
            Object::ToolAssignment(assignment) => self.put_assignment(key, &assignment)?,
            Object::Team(team) => {
                let uid = strings.get(&team.uid);
                if self.next.teams.put(uid, parse::team(&team, strings)?) {
                    self.changed.teams = true;
                    // Whom its mappings take in is seen by who waits.
                    self.concerned.everybody();
                }
            }
            Object::TeamMember(member) => {
                let user = strings.get(parse::id(&member.user, "users")?);
                self.next.teams.put_member(strings.get(&member.team_uid), user);
                self.concerned.subject(member.user);
                self.changed.teams = true;
            }
            Object::DeactivatedUser(user) => {
                let user = UserId::parse(parse::id(&user.user, "users")?)?;
                self.concerned.subject(user.resource_name());
                self.next.deactivated.insert_mut(user.clone());
                self.deactivated.insert(key.to_owned(), user);
            }
            Object::GatewayToken(watched) => {
                let (hash, token) = parse::gateway_token(&watched)?;
                if let Some(old) = self.token_hashes.insert(key.to_owned(), hash) {
                    self.remove_token(&old);
                }
                self.next.tokens.insert_mut(hash, Arc::new(token));
            }
            Object::FeatureDefinition(of) => {
                let definition = Arc::new(Definition::parse(&of.definition_json)?);
                self.next.definitions.insert_mut(strings.get(&of.hash), definition);
            }
            Object::FeatureSet(set) => {
                if let Some(tools) = parse::tool_set(&set, strings) {
                    self.next.tool_sets.insert_mut(strings.get(&set.hash), Arc::new(tools));
                }
            }
            // Exchanges do not leave the gateway that has them.
            Object::GatewayReplica(_) => {}
        }
        Some(())
    }

    fn remove_token(&mut self, hash: &[u8; 32]) {
        if let Some(gone) = self.next.tokens.get(hash) {
            self.concerned.subject(gone.caller.subject_name());
        }
        self.next.tokens.remove_mut(hash);
    }

    fn put_entry(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        let before = self.next.entries.get(&entry.uid).map(Arc::clone);
        let credential = |entry: &Arc<Entry>| (entry.credential.clone(), entry.credential_generation);
        if before.as_ref().map(credential) != Some(credential(&entry)) {
            self.wake_installations_of(&entry.uid);
        }
        self.relate(before.as_deref(), Some(&entry));
        if before.is_some_and(|before| before.audience != entry.audience) {
            let shown_at = self.dependents.with_entry(&entry);
            for consumer in shown_at.filter_map(|uid| self.next.consumers.by_uid(uid)) {
                self.concerned.consumer(&consumer.name);
            }
        }
        self.next.entries.insert_mut(Arc::clone(&entry.uid), entry);
    }

    /// An entry is now another, or gone: notes whose tables are to be built anew, and which labels it carries.
    fn relate(&mut self, before: Option<&Entry>, now: Option<&Entry>) {
        self.dependents.of_entry(before, now, &mut self.changed.tables);
        let labelled = &mut self.next.labelled;
        let labels = |entry: Option<&Entry>| entry.map(|entry| entry.labels.clone()).unwrap_or_default();
        let (old, new) = (labels(before), labels(now));
        let Some(uid) = now.or(before).map(|entry| &entry.uid) else {
            return;
        };
        for label in old.iter().filter(|label| !new.contains(label)) {
            if let Some(entries) = labelled.get_mut(label) {
                entries.remove_mut(uid);
                if entries.is_empty() {
                    labelled.remove_mut(label);
                }
            }
        }
        for label in new.iter().filter(|label| !old.contains(label)) {
            if !labelled.contains_key(label) {
                labelled.insert_mut(label.clone(), HashTrieSetSync::default());
            }
            if let Some(entries) = labelled.get_mut(label) {
                entries.insert_mut(Arc::clone(uid));
            }
        }
    }

    fn wake_installations_of(&mut self, entry_uid: &str) {
        let installations = self.next.installations.of_entry(entry_uid);
        let uids = installations.map(|installation| Arc::clone(&installation.uid));
        self.changed.installations.extend(uids);
    }

    /// An installation that came, or changed. Where it shares a server and has other tools than before, the others may have, too.
    fn put_installation(&mut self, installation: Installation) {
        self.changed.installations.insert(Arc::clone(&installation.uid));
        let before = self.next.installations.get(&installation.uid).map(Arc::clone);
        // Its entry and its owner never change. Another revision may run elsewhere.
        let seen = |made: &Installation| {
            let Installation {
                created,
                once_ready,
                deleted,
                revision,
                tools,
                ..
            } = made;
            (*created, *once_ready, *deleted, *revision, tools.clone())
        };
        if before.as_deref().map(seen) != Some(seen(&installation)) {
            self.concern_users_of(&installation);
        }
        let before = before.as_ref().and_then(|before| before.tools.as_ref());
        if before.is_some()
            && before != installation.tools.as_ref()
            && let Some(runtime) = self.next.runtimes.get(&installation.entry_uid)
            && self.restarts.has_other_tools(&installation.entry_uid, runtime)
        {
            self.wake_installations_of(&installation.entry_uid);
        }
        self.next.installations.put(installation);
    }

    /// Those to whom an installation leads.
    fn concern_users_of(&mut self, installation: &Installation) {
        self.concerned.subject(installation.owner.resource_name());
        for consumer in self.dependents.of_pinned(&installation.uid) {
            if let Some(consumer) = self.next.consumers.by_uid(consumer) {
                self.concerned.consumer(&consumer.name);
            }
        }
    }

    /// The runtime of an installation, or one that all installations of an entry share. It may come before its owner.
    fn put_runtime(&mut self, runtime: &pb::Runtime) {
        let of_installation = self.next.installations.get(&runtime.owner_uid);
        let of_installation = of_installation.map(|installation| Arc::clone(&installation.uid));
        let uid = of_installation
            .clone()
            .unwrap_or_else(|| self.strings.get(&runtime.owner_uid));
        let runtime = parse::runtime(runtime);
        match of_installation {
            Some(uid) => drop(self.changed.installations.insert(uid)),
            None => {
                let asked = restarts::asked(&self.next, &uid, &runtime);
                self.changed.installations.extend(asked);
            }
        }
        self.next.runtimes.insert_mut(uid, runtime);
    }

    fn put_consumer(&mut self, consumer: Consumer) {
        let consumer = Arc::new(consumer);
        let before = self.next.consumers.by_uid(&consumer.uid).map(Arc::clone);
        let exposes = |consumer: &Arc<Consumer>| {
            let Consumer {
                automatic,
                omit_entry_prefix,
                searched,
                labels,
                ..
            } = &**consumer;
            (*automatic, *omit_entry_prefix, *searched, labels.clone())
        };
        if before.as_ref().map(exposes) != Some(exposes(&consumer)) {
            self.changed.tables.insert(Arc::clone(&consumer.uid));
        }
        let seen = |consumer: &Arc<Consumer>| (consumer.name.clone(), consumer.audience.clone());
        if before.as_ref().map(seen) != Some(seen(&consumer)) {
            for consumer in before.iter().chain([&consumer]) {
                self.concerned.consumer(&consumer.name);
            }
        }
        self.dependents.relabel(before.as_deref(), Some(&consumer));
        self.next.consumers.put(consumer);
    }

    fn remove_consumer(&mut self, uid: &str) {
        let before = self.next.consumers.by_uid(uid).map(Arc::clone);
        self.dependents.relabel(before.as_deref(), None);
        self.concern_those_at(uid);
        self.next.consumers.remove(uid);
    }

    fn put_assignment(&mut self, key: &str, assignment: &pb::ToolAssignment) -> Option<()> {
        if !parse::assigns_tools(assignment) {
            return Some(());
        }
        let (consumer_uid, assignment) = parse::assignment(assignment, &mut self.strings)?;
        let uid: Arc<str> = key.into();
        let before = self.dependents.assigned(Arc::clone(&uid), &consumer_uid, &assignment);
        if let Some(before) = before {
            self.unassign(before, key);
        }
        self.next.consumers.assign(&consumer_uid, uid, assignment);
        self.changed.tables.insert(consumer_uid);
        Some(())
    }

    fn remove_assignment(&mut self, uid: &str) {
        if let Some(consumer_uid) = self.dependents.unassigned(uid) {
            self.unassign(consumer_uid, uid);
        }
    }

    fn unassign(&mut self, consumer_uid: Arc<str>, uid: &str) {
        if let Some(gone) = self.next.consumers.unassign(&consumer_uid, uid) {
            self.dependents.release(&consumer_uid, &gone);
        }
        self.changed.tables.insert(consumer_uid);
    }

    fn remove(&mut self, kind: ObjectKind, key: &str) {
        match kind {
            ObjectKind::Entry => {
                let before = self.next.entries.get(key).map(Arc::clone);
                self.relate(before.as_deref(), None);
                self.next.entries.remove_mut(key);
                self.next.runtimes.remove_mut(key);
                self.restarts.forget(key);
            }
            ObjectKind::EntryRevision => {
                if let Some((entry_uid, number)) = key.rsplit_once('/')
                    && let Ok(number) = number.parse()
                {
                    self.next.revisions.remove_mut(&(Arc::from(entry_uid), number));
                }
            }
            ObjectKind::Installation => {
                self.changed.installations.insert(key.into());
                if let Some(gone) = self.next.installations.get(key).map(Arc::clone) {
                    self.concern_users_of(&gone);
                }
                self.next.installations.remove(key);
                self.next.runtimes.remove_mut(key);
            }
            ObjectKind::Runtime => {
                self.changed.installations.insert(key.into());
                self.next.runtimes.remove_mut(key);
            }
            ObjectKind::Gateway | ObjectKind::Agent => self.remove_consumer(key),
            ObjectKind::ToolAssignment => self.remove_assignment(key),
            ObjectKind::Team => {
                self.next.teams.remove(key);
                self.changed.teams = true;
                self.concerned.everybody();
            }
            ObjectKind::TeamMember => {
                if let Some((team_uid, user)) = key.split_once('/') {
                    self.next.teams.remove_member(team_uid, user);
                    self.changed.teams = true;
                    self.concerned.subject(format!("users/{user}"));
                }
            }
            ObjectKind::DeactivatedUser => {
                if let Some(user) = self.deactivated.remove(key) {
                    // The streams that they had have ended.
                    self.next.deactivated.remove_mut(&user);
                }
            }
            ObjectKind::GatewayToken => {
                if let Some(hash) = self.token_hashes.remove(key) {
                    self.remove_token(&hash);
                }
            }
            ObjectKind::FeatureDefinition => {
                self.next.definitions.remove_mut(key);
            }
            ObjectKind::FeatureSet => {
                self.next.tool_sets.remove_mut(key);
            }
            ObjectKind::GatewayReplica | ObjectKind::Unspecified => {}
        }
    }
}
