//! Which tables depend on what.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    domain::{Consumer, Entry, Label, Lifecycle},
    route::Assignment,
};

/// Gateways and agents by what they are assigned, and by how many assignments; all by uid.
#[derive(Debug, Default)]
struct Counts(HashMap<Arc<str>, HashMap<Arc<str>, usize>>);

impl Counts {
    fn add(&mut self, assigned: &Arc<str>, consumer_uid: &Arc<str>) {
        let consumers = self.0.entry(Arc::clone(assigned)).or_default();
        *consumers.entry(Arc::clone(consumer_uid)).or_default() += 1;
    }

    fn subtract(&mut self, assigned: &str, consumer_uid: &str) {
        let Some(consumers) = self.0.get_mut(assigned) else {
            return;
        };
        if let Some(count) = consumers.get_mut(consumer_uid) {
            *count -= 1;
            if *count == 0 {
                consumers.remove(consumer_uid);
            }
        }
        if consumers.is_empty() {
            self.0.remove(assigned);
        }
    }

    fn get(&self, assigned: &str) -> impl Iterator<Item = &Arc<str>> {
        self.0.get(assigned).into_iter().flat_map(HashMap::keys)
    }
}

/// Which gateways and agents have tables that are made from an entry, by assignment or by label; all by uid.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    /// The gateway or agent of each assignment.
    assignments: HashMap<Arc<str>, Arc<str>>,
    /// By entry: the gateways and agents to which tools of it are assigned, and by how many assignments.
    by_entry: Counts,
    /// By installation: those with assignments that are pinned to it.
    by_pinned: Counts,
    /// By label: the gateways and agents in automatic mode that carry it.
    automatic: HashMap<Label, HashSet<Arc<str>>>,
}

impl Dependents {
    /// Adds an assignment; returns the gateway or agent that it belonged to before.
    pub(super) fn assigned(
        &mut self,
        uid: Arc<str>,
        consumer_uid: &Arc<str>,
        assignment: &Assignment,
    ) -> Option<Arc<str>> {
        self.by_entry.add(&assignment.entry_uid, consumer_uid);
        if let Some(pinned) = &assignment.pinned {
            self.by_pinned.add(&pinned.installation, consumer_uid);
        }
        self.assignments.insert(uid, Arc::clone(consumer_uid))
    }

    /// Removes an assignment; returns the gateway or agent that it belonged to.
    pub(super) fn unassigned(&mut self, uid: &str) -> Option<Arc<str>> {
        self.assignments.remove(uid)
    }

    /// Counts this assignment less for a gateway or agent.
    pub(super) fn release(&mut self, consumer_uid: &str, assignment: &Assignment) {
        self.by_entry.subtract(&assignment.entry_uid, consumer_uid);
        if let Some(pinned) = &assignment.pinned {
            self.by_pinned.subtract(&pinned.installation, consumer_uid);
        }
    }

    /// Those with assignments that are pinned to an installation.
    pub(super) fn of_pinned(&self, installation_uid: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_pinned.get(installation_uid)
    }

    /// All whose tables may have tools of an entry.
    pub(super) fn with_entry(&self, entry: &Entry) -> impl Iterator<Item = &Arc<str>> {
        let automatic = entry.labels.iter().filter_map(|label| self.automatic.get(label));
        self.by_entry.get(&entry.uid).chain(automatic.flatten())
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
        let tools = |entry: &Entry| (entry.tools.clone(), entry.tools_since.clone());
        let shown = |entry: &Entry| (Arc::clone(&entry.slug), tools(entry), entry.deleted);
        let same_tools = before.map(shown) == now.map(shown);
        if !same_tools {
            stale.extend(self.by_entry.get(&entry.uid).cloned());
        }
        // If nothing else has changed, labels that were there before and still are make no difference, unless they select since another revision.
        let drafts = |entry: Option<&Entry>| entry.map(|entry| entry.lifecycle == Lifecycle::Draft);
        let same = same_tools && drafts(before) == drafts(now);
        let unchanged = |label: &Label| {
            let [was, is] = [before, now].map(|entry| entry.and_then(|entry| entry.labels.since(label)));
            same && was.is_some() && was == is
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
