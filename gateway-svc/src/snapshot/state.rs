//! One state of the registry.

use std::{collections::HashSet, sync::Arc};

use contracts::registry::AuthorizeInstallationResponse;
use rpds::{HashTrieMapSync, HashTrieSetSync};
use service_kit::UserId;

use super::{
    consumers::{Consumers, Exposed},
    installations::Installations,
    parse, revision,
    strings::Strings,
    teams::{CallerTeams, Teams},
};
use crate::{
    domain::{
        Caller, Consumer, ConsumerRef, Definition, Entry, GatewayToken, Installation, Label, Revision, Running,
        Runtime, Shared, ToolSet,
    },
    route::{Candidate, Table},
};

/// One state of the registry. Cloning shares everything; a change copies only what it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(super) revision: i64,
    pub(super) entries: HashTrieMapSync<Arc<str>, Arc<Entry>>,
    /// Uids of the entries that carry a label.
    pub(super) labelled: HashTrieMapSync<Label, HashTrieSetSync<Arc<str>>>,
    /// By uid of the entry and number.
    pub(super) revisions: HashTrieMapSync<(Arc<str>, i64), Arc<Revision>>,
    /// What runs the servers that the orchestrator runs, by uid of the installation, or of the entry whose installations share it.
    pub(super) runtimes: HashTrieMapSync<Arc<str>, Runtime>,
    pub(super) installations: Installations,
    pub(super) consumers: Consumers,
    pub(super) teams: Teams,
    pub(super) deactivated: HashTrieSetSync<UserId>,
    pub(super) tokens: HashTrieMapSync<[u8; 32], Arc<GatewayToken>>,
    pub(super) definitions: HashTrieMapSync<Arc<str>, Arc<Definition>>,
    pub(super) tool_sets: HashTrieMapSync<Arc<str>, Arc<ToolSet>>,
}

impl Snapshot {
    /// The registry revision it shows.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// A gateway or an agent, without regard to the caller.
    pub(crate) fn consumer(&self, name: &ConsumerRef) -> Option<&Arc<Consumer>> {
        self.consumers.get(name).map(|exposed| &exposed.consumer)
    }

    /// Whether any gateway takes tokens only.
    pub(crate) fn some_take_tokens_only(&self) -> bool {
        self.consumers.some_take_tokens_only()
    }

    /// What a gateway or an agent exposes, without regard to the caller. The first call after a change builds the table.
    pub(crate) fn table(&self, name: &ConsumerRef) -> Option<&Table> {
        let exposed = self.consumers.get(name)?;
        Some(exposed.table.get_or_init(|| self.build(exposed)))
    }

    fn build(&self, exposed: &Exposed) -> Table {
        let consumer = &exposed.consumer;
        let candidate = |uid: &str| {
            let entry = self.entries.get(uid)?;
            let tools = entry.tools.as_ref().and_then(|hash| self.tools(hash));
            Some(Candidate { entry, tools })
        };
        let labels = consumer.labels.iter().filter(|_| consumer.automatic);
        let selected: HashSet<&str> = labels
            .filter_map(|label| self.labelled.get(label))
            .flat_map(|entries| entries.iter().map(|uid| &**uid))
            .collect();
        let automatic = selected.into_iter().filter_map(candidate);
        Table::build(consumer, self.consumers.assigned(&consumer.uid), candidate, automatic)
    }

    /// An entry by uid.
    pub(crate) fn entry(&self, uid: &str) -> Option<&Arc<Entry>> {
        self.entries.get(uid)
    }

    /// An installation by uid; also one that waits for cleanup.
    pub(crate) fn installation(&self, uid: &str) -> Option<&Arc<Installation>> {
        self.installations.get(uid)
    }

    /// What an installation runs; `None` where its entry or the revision is not known.
    pub(crate) fn running(&self, installation: &Arc<Installation>) -> Option<Running> {
        let entry = self.entries.get(&installation.entry_uid)?;
        let revision = self
            .revisions
            .get(&(Arc::clone(&installation.entry_uid), installation.revision))?;
        let owner = if revision.shared {
            &installation.entry_uid
        } else {
            &installation.uid
        };
        let runtime = self.runtimes.get(owner);
        Some(self.runs(
            Arc::clone(installation),
            Arc::clone(entry),
            Arc::clone(revision),
            runtime,
        ))
    }

    /// An installation with what runs its server; a remote one is where its entry says.
    fn runs(
        &self,
        installation: Arc<Installation>,
        entry: Arc<Entry>,
        revision: Arc<Revision>,
        runtime: Option<&Runtime>,
    ) -> Running {
        // What was entered for one destination goes to no other, also while an update is under way.
        let serves = |runtime: &Runtime| {
            runtime.revision == installation.revision || {
                let runs = (Arc::clone(&installation.entry_uid), runtime.revision);
                let runs = self.revisions.get(&runs).and_then(|runs| runs.destination.as_ref());
                runs.is_some() && runs == revision.destination.as_ref()
            }
        };
        let (runtime, shared) = match runtime {
            _ if !revision.shared => (runtime, None),
            Some(another) if !serves(another) => (None, Some(Shared::RunsAnother)),
            runtime => {
                let shared = Shared::Serves {
                    ready: runtime.and_then(|runtime| runtime.ready.clone()),
                    earlier: runtime.is_some_and(|runtime| runtime.revision < installation.revision),
                };
                (runtime, Some(shared))
            }
        };
        let (endpoint, tool_list_changes) = match runtime {
            _ if !revision.self_hosted => (revision.remote.clone(), 0),
            Some(runtime) => (runtime.endpoint.clone(), runtime.tool_list_changes),
            None => (None, 0),
        };
        Running {
            installation,
            entry,
            revision,
            endpoint,
            tool_list_changes,
            shared,
        }
    }

    /// An installation as the registry has just returned it, which may be newer than what was watched. `None` where it is not
    /// understood, or its entry is not known yet.
    pub(crate) fn authorized(&self, answer: &AuthorizeInstallationResponse) -> Option<Running> {
        let strings = &mut Strings::default();
        let installation = parse::installation(answer.installation.as_ref()?, strings)?;
        let entry = Arc::clone(self.entries.get(&installation.entry_uid)?);
        let revision = revision::parse(answer.running_entry_revision.as_ref()?, strings)?;
        let runtime = answer.runtime.as_ref().map(parse::runtime);
        Some(self.runs(Arc::new(installation), entry, Arc::new(revision), runtime.as_ref()))
    }

    /// A person's own installation of an entry.
    pub(crate) fn personal(&self, entry_uid: &str, user: &UserId) -> Option<&Arc<Installation>> {
        self.installations.personal(entry_uid, user.as_str())
    }

    /// A team's installation of an entry.
    pub(crate) fn of_team(&self, entry_uid: &str, team: &str) -> Option<&Arc<Installation>> {
        self.installations.of_team(entry_uid, team)
    }

    /// The teams a caller belongs to.
    pub(crate) fn teams_of(&self, caller: &Caller) -> Arc<CallerTeams> {
        self.teams.of(caller)
    }

    /// A gateway token by the SHA-256 of its text.
    pub(crate) fn gateway_token(&self, hash: &[u8; 32]) -> Option<&Arc<GatewayToken>> {
        self.tokens.get(hash)
    }

    /// Whether a user is deactivated: none of their tokens is accepted.
    pub(crate) fn is_deactivated(&self, user: &UserId) -> bool {
        self.deactivated.contains(user)
    }

    /// A set of tools by hash.
    pub(crate) fn tools(&self, hash: &str) -> Option<&ToolSet> {
        self.tool_sets.get(hash).map(|set| &**set)
    }

    /// A tool's definition by hash.
    pub(crate) fn definition(&self, hash: &str) -> Option<&Arc<Definition>> {
        self.definitions.get(hash)
    }
}
