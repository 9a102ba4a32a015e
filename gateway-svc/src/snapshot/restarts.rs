//! Who is asked for their tools after a restart of a server that all installations of an entry share.
//!
//! There may be very many of them, and after most restarts all have the tools that they had. So a few are asked, and only where one of them has
//! others than before, as after an update of the package, all are.

use std::{collections::HashMap, sync::Arc};

use super::state::Snapshot;
use crate::domain::{ConditionState, Endpoint, Installation, Runtime};

/// How many are asked whose tools are known.
const ASKED: usize = 3;
/// Among how many these are looked for.
const LOOKED_AT: usize = 100;

/// By uid of the entry: where its server was when all were asked last. Each start has another endpoint.
#[derive(Debug, Default)]
pub(super) struct Restarts(HashMap<Arc<str>, Endpoint>);

impl Restarts {
    /// An installation of the entry has other tools than before. Returns whether all are to be asked: once after each start.
    pub(super) fn has_other_tools(&mut self, entry_uid: &Arc<str>, runtime: &Runtime) -> bool {
        let Some(endpoint) = &runtime.endpoint else {
            return false;
        };
        let before = self.0.insert(Arc::clone(entry_uid), endpoint.clone());
        before.as_ref() != Some(endpoint)
    }

    /// The entry is gone.
    pub(super) fn forget(&mut self, entry_uid: &str) {
        self.0.remove(entry_uid);
    }
}

/// The uids of those that are asked now that the server of an entry is in this state: all whose tools were never discovered, and a few of the
/// others.
pub(super) fn asked(snapshot: &Snapshot, entry_uid: &Arc<str>, runtime: &Runtime) -> Vec<Arc<str>> {
    let revision = snapshot.revisions.get(&(Arc::clone(entry_uid), runtime.revision));
    // Where each caller has a credential of their own, people ask.
    if runtime.endpoint.is_none() || revision.is_some_and(|revision| revision.per_caller) {
        return Vec::new();
    }
    let is_known = |installation: &&Arc<Installation>| {
        installation.revision == runtime.revision
            && installation.discovered.is_some()
            && installation.credential.status == ConditionState::True
    };
    let all = snapshot.installations.of_entry(entry_uid);
    let known = all.take(LOOKED_AT).filter(is_known).take(ASKED);
    let undiscovered = snapshot.installations.undiscovered(entry_uid);
    undiscovered
        .chain(known.map(|installation| &installation.uid))
        .cloned()
        .collect()
}
