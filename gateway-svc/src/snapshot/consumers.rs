//! Gateways and agents, what is assigned to them, and their tables.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use rpds::HashTrieMapSync;

use crate::{
    domain::{Consumer, ConsumerRef},
    route::{Assignment, Table},
};

/// The assignments of one gateway or agent, by uid.
pub(super) type Assigned = HashMap<Arc<str>, Assignment>;

/// A gateway or an agent and everything it exposes.
#[derive(Clone, Debug)]
pub(super) struct Exposed {
    /// The gateway or agent.
    pub(super) consumer: Arc<Consumer>,
    /// What it exposes. Built at its first use, and shared by all snapshots in which everything that it is built from is
    /// the same; a change of any of it replaces it.
    pub(super) table: Arc<OnceLock<Table>>,
}

/// All gateways and agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Consumers {
    by_uid: HashTrieMapSync<Arc<str>, Exposed>,
    by_name: HashTrieMapSync<ConsumerRef, Arc<str>>,
    /// By the uid of the gateway or agent, which may come later and go earlier.
    assigned: HashTrieMapSync<Arc<str>, Arc<Assigned>>,
    /// How many take tokens only.
    tokens_only: usize,
}

impl Consumers {
    /// By kind and slug.
    pub(super) fn get(&self, name: &ConsumerRef) -> Option<&Exposed> {
        self.by_uid.get(self.by_name.get(name)?)
    }

    /// By uid.
    pub(super) fn by_uid(&self, uid: &str) -> Option<&Arc<Consumer>> {
        self.by_uid.get(uid).map(|exposed| &exposed.consumer)
    }

    /// Whether any takes tokens only.
    pub(super) fn some_take_tokens_only(&self) -> bool {
        self.tokens_only > 0
    }

    /// What is assigned to one, with the uids of the assignments.
    pub(super) fn assigned(&self, uid: &str) -> impl Iterator<Item = (&Arc<str>, &Assignment)> {
        self.assigned.get(uid).into_iter().flat_map(|assigned| assigned.iter())
    }

    /// A new one, or another state of one, whose table stays as it is.
    pub(super) fn put(&mut self, consumer: Arc<Consumer>) {
        let uid = Arc::clone(&consumer.uid);
        let table = self
            .by_uid
            .get(&uid)
            .map(|known| Arc::clone(&known.table))
            .unwrap_or_default();
        self.by_name.insert_mut(consumer.name.clone(), Arc::clone(&uid));
        let was = self.by_uid(&uid).is_some_and(|known| known.tokens_only);
        self.tokens_only = self.tokens_only + usize::from(consumer.tokens_only) - usize::from(was);
        self.by_uid.insert_mut(uid, Exposed { consumer, table });
    }

    /// One is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(gone) = self.by_uid.get(uid).map(|known| Arc::clone(&known.consumer)) else {
            return;
        };
        self.by_uid.remove_mut(uid);
        self.tokens_only -= usize::from(gone.tokens_only);
        // Another may have the slug already.
        if self.by_name.get(&gone.name).is_some_and(|current| **current == *uid) {
            self.by_name.remove_mut(&gone.name);
        }
    }

    /// A new assignment to the one of this uid.
    pub(super) fn assign(&mut self, consumer_uid: &Arc<str>, uid: Arc<str>, assignment: Assignment) {
        if let Some(assigned) = self.assigned.get_mut(consumer_uid) {
            Arc::make_mut(assigned).insert(uid, assignment);
            return;
        }
        let first = HashMap::from([(uid, assignment)]);
        self.assigned.insert_mut(Arc::clone(consumer_uid), Arc::new(first));
    }

    /// Takes an assignment away.
    pub(super) fn unassign(&mut self, consumer_uid: &str, uid: &str) -> Option<Assignment> {
        let assigned = Arc::make_mut(self.assigned.get_mut(consumer_uid)?);
        let gone = assigned.remove(uid);
        if assigned.is_empty() {
            self.assigned.remove_mut(consumer_uid);
        }
        gone
    }

    /// What the table of the one of this uid is made from has changed: it is built anew at its next use.
    pub(super) fn renew(&mut self, uid: &str) {
        if let Some(exposed) = self.by_uid.get_mut(uid) {
            exposed.table = Arc::default();
        }
    }
}
