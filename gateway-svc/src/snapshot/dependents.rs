//! Which tables depend on what.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::domain::{Consumer, Entry, Label, Lifecycle};

/// Which gateways and agents have tables that are made from an entry, by assignment or by label; all by uid.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    /// The gateway or agent of each assignment.
    assignments: HashMap<Arc<str>, Arc<str>>,
    /// By entry: the gateways and agents to which tools of it are assigned, and by how many assignments.
    by_entry: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
    /// By label: the gateways and agents in automatic mode that carry it.
    automatic: HashMap<Label, HashSet<Arc<str>>>,
}

impl Dependents {
    /// Adds an assignment; returns the gateway or agent that it belonged to before.
    pub(super) fn assigned(
        &mut self,
        uid: Arc<str>,
        consumer_uid: &Arc<str>,
        entry_uid: &Arc<str>,
    ) -> Option<Arc<str>> {
        let consumers = self.by_entry.entry(Arc::clone(entry_uid)).or_default();
        *consumers.entry(Arc::clone(consumer_uid)).or_default() += 1;
        self.assignments.insert(uid, Arc::clone(consumer_uid))
    }

    /// Removes an assignment; returns the gateway or agent that it belonged to.
    pub(super) fn unassigned(&mut self, uid: &str) -> Option<Arc<str>> {
        self.assignments.remove(uid)
    }

    /// Counts one assignment of this entry less for a gateway or agent.
    pub(super) fn release(&mut self, consumer_uid: &str, entry_uid: &str) {
        let Some(consumers) = self.by_entry.get_mut(entry_uid) else {
            return;
        };
        if let Some(count) = consumers.get_mut(consumer_uid) {
            *count -= 1;
            if *count == 0 {
                consumers.remove(consumer_uid);
            }
        }
        if consumers.is_empty() {
            self.by_entry.remove(entry_uid);
        }
    }

    /// A gateway or agent has changed, or is gone.
    pub(super) fn relabel(&mut self, before: Option<&Consumer>, now: Option<&Consumer>) {
        for consumer in before.into_iter().filter(|consumer| consumer.automatic) {
            for label in consumer.labels.iter() {
                if let Some(consumers) = self.automatic.get_mut(label) {
                    consumers.remove(&consumer.uid);
                    if consumers.is_empty() {
                        self.automatic.remove(label);
                    }
                }
            }
        }
        for consumer in now.into_iter().filter(|consumer| consumer.automatic) {
            for label in consumer.labels.iter() {
                let consumers = self.automatic.entry(label.clone()).or_default();
                consumers.insert(Arc::clone(&consumer.uid));
            }
        }
    }

    /// Adds to `stale` the gateways and agents whose tables change with an entry.
    pub(super) fn of_entry(&self, before: Option<&Entry>, now: Option<&Entry>, stale: &mut HashSet<Arc<str>>) {
        let Some(entry) = now.or(before) else { return };
        let shown = |entry: &Entry| (Arc::clone(&entry.slug), entry.tools.clone(), entry.deleted);
        let same_tools = before.map(shown) == now.map(shown);
        if !same_tools && let Some(consumers) = self.by_entry.get(&entry.uid) {
            stale.extend(consumers.keys().cloned());
        }
        // If nothing else has changed, labels that were there before and still are make no difference.
        let drafts = |entry: Option<&Entry>| entry.map(|entry| entry.lifecycle == Lifecycle::Draft);
        let same = same_tools && drafts(before) == drafts(now);
        let unchanged = |label: &Label| {
            same && [before, now]
                .into_iter()
                .all(|entry| entry.is_some_and(|entry| entry.labels.contains(label)))
        };
        let labels = [before, now]
            .into_iter()
            .flatten()
            .flat_map(|entry| entry.labels.iter());
        for label in labels.filter(|label| !unchanged(label)) {
            stale.extend(self.automatic.get(label).into_iter().flatten().cloned());
        }
    }
}
