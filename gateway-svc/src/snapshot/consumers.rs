//! Gateways and agents with their assignments and tables.

use std::{collections::HashSet, sync::Arc};

use rpds::HashTrieMapSync;

use super::state::{ToolSet, ToolSets};
use crate::{
    domain::{Consumer, ConsumerRef, Entry},
    route::{Assignment, Candidate, Table, selects},
};

/// A gateway or an agent and everything it exposes.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    /// The gateway or agent.
    pub(crate) consumer: Arc<Consumer>,
    /// What it exposes.
    pub(crate) table: Arc<Table>,
}

/// What a table's making depends on, as far as one revision changed it.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Uids of gateways and agents.
    pub(crate) consumers: HashSet<Arc<str>>,
    /// Uids of entries whose slug, labels, lifecycle or tools changed.
    pub(crate) entries: HashSet<Arc<str>>,
}

/// All gateways and agents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consumers {
    by_uid: HashTrieMapSync<Arc<str>, Exposed>,
    by_name: HashTrieMapSync<ConsumerRef, Arc<str>>,
    assignments: HashTrieMapSync<Arc<str>, Arc<Assignment>>,
    assigned: HashTrieMapSync<Arc<str>, HashTrieMapSync<Arc<str>, Arc<Assignment>>>,
}

impl Consumers {
    /// By kind and slug.
    pub(crate) fn get(&self, name: &ConsumerRef) -> Option<&Exposed> {
        self.by_uid.get(self.by_name.get(name)?)
    }

    /// Uids of all of them.
    pub(crate) fn uids(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.by_uid.keys().cloned()
    }

    /// A new one, or another state of one. Its table is not right before [`Consumers::rebuild`].
    pub(crate) fn put(&mut self, consumer: Consumer, touched: &mut Touched) {
        let uid = Arc::clone(&consumer.uid);
        let table = self
            .by_uid
            .get(&uid)
            .map(|known| Arc::clone(&known.table))
            .unwrap_or_default();
        self.by_name.insert_mut(consumer.name.clone(), Arc::clone(&uid));
        self.by_uid.insert_mut(
            Arc::clone(&uid),
            Exposed {
                consumer: Arc::new(consumer),
                table,
            },
        );
        touched.consumers.insert(uid);
    }

    /// One is gone.
    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(gone) = self.by_uid.get(uid).map(|known| Arc::clone(&known.consumer)) else {
            return;
        };
        self.by_uid.remove_mut(uid);
        // The slug may be somebody else's already.
        if self.by_name.get(&gone.name).is_some_and(|current| **current == *uid) {
            self.by_name.remove_mut(&gone.name);
        }
    }

    /// A new assignment, or another state of one.
    pub(crate) fn put_assignment(&mut self, assignment: Assignment, touched: &mut Touched) {
        self.remove_assignment(&assignment.uid, touched);
        let assignment = Arc::new(assignment);
        let consumer = Arc::clone(&assignment.consumer_uid);
        let mut all = self.assigned.get(&consumer).cloned().unwrap_or_default();
        all.insert_mut(Arc::clone(&assignment.uid), Arc::clone(&assignment));
        self.assigned.insert_mut(Arc::clone(&consumer), all);
        self.assignments.insert_mut(Arc::clone(&assignment.uid), assignment);
        touched.consumers.insert(consumer);
    }

    /// An assignment is gone.
    pub(crate) fn remove_assignment(&mut self, uid: &str, touched: &mut Touched) {
        let Some(gone) = self.assignments.get(uid).map(Arc::clone) else {
            return;
        };
        self.assignments.remove_mut(uid);
        if let Some(known) = self.assigned.get(&gone.consumer_uid) {
            let mut rest = known.clone();
            rest.remove_mut(uid);
            if rest.is_empty() {
                self.assigned.remove_mut(&gone.consumer_uid);
            } else {
                self.assigned.insert_mut(Arc::clone(&gone.consumer_uid), rest);
            }
        }
        touched.consumers.insert(Arc::clone(&gone.consumer_uid));
    }

    /// Builds the tables again that depend on what was touched, and no others.
    pub(crate) fn rebuild(
        &mut self,
        touched: &Touched,
        entries: &HashTrieMapSync<Arc<str>, Arc<Entry>>,
        tools: &ToolSets,
    ) {
        let stale: Vec<Arc<str>> = self
            .by_uid
            .iter()
            .filter(|(uid, exposed)| {
                touched.consumers.contains(*uid)
                    || touched
                        .entries
                        .iter()
                        .any(|entry| self.depends(exposed, entry, entries.get(entry)))
            })
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        for uid in stale {
            let Some(exposed) = self.by_uid.get(&uid) else { continue };
            let consumer = Arc::clone(&exposed.consumer);
            let automatic: Vec<Candidate<'_>> = if consumer.automatic {
                let selected = entries.values().filter(|entry| selects(&consumer, entry));
                selected.map(|entry| candidate(entry, tools.get(&entry.uid))).collect()
            } else {
                Vec::new()
            };
            let assigned = self.assigned.get(&uid).cloned().unwrap_or_default();
            let entry = |uid: &str| entries.get(uid).map(|entry| &**entry);
            let table = Table::build(
                &consumer,
                assigned.values().map(|assignment| &**assignment),
                entry,
                &automatic,
            );
            self.by_uid.insert_mut(
                uid,
                Exposed {
                    consumer,
                    table: Arc::new(table),
                },
            );
        }
    }

    fn depends(&self, exposed: &Exposed, entry_uid: &str, now: Option<&Arc<Entry>>) -> bool {
        exposed.table.draws_on(entry_uid)
            || now.is_some_and(|entry| selects(&exposed.consumer, entry))
            || self
                .assigned
                .get(&exposed.consumer.uid)
                .is_some_and(|all| all.values().any(|assignment| *assignment.entry_uid == *entry_uid))
    }
}

fn candidate<'a>(entry: &'a Arc<Entry>, tools: Option<&Arc<ToolSet>>) -> Candidate<'a> {
    Candidate {
        entry,
        tools: tools.map(|tools| tools.names().cloned().collect()).unwrap_or_default(),
    }
}
