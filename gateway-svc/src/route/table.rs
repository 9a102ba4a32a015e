//! The table of one gateway or agent.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use super::names::{self, Named};
use crate::domain::{Audience, Consumer, Entry, Lifecycle, ToolSet};

/// A tool assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// The server's own name of the tool; `None`: all tools of the entry.
    pub(crate) tool: Option<Arc<str>>,
    /// What it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<Pinned>>,
    /// A name that was chosen for it.
    pub(crate) exposed_name: Option<Arc<str>>,
}

/// The installation that an assignment is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its uid.
    pub(crate) installation: Arc<str>,
    /// Of a personal one: whom its owner has agreed to, besides the author of the gateway or agent and admins.
    /// `None`: all who may use the gateway or agent.
    pub(crate) consented: Option<Consent>,
}

/// What the owner of a pinned personal installation has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    /// Who may call with their account.
    pub(crate) to: Audience,
    /// When they agreed. Teams that were created later under these names are others.
    pub(crate) at: SystemTime,
}

/// An entry that may have tools here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// Its tools; `None` where none were discovered.
    pub(crate) tools: Option<&'a ToolSet>,
}

/// Where an exposed name leads. There are a million of these: what they hold is shared.
#[derive(Debug)]
pub(crate) struct Route {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// What it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<Pinned>>,
}

/// Everything one gateway or agent exposes, to all callers together.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Sorted by exposed name.
    routes: Box<[Route]>,
}

/// A route that is to get a name.
struct Wanted<'a> {
    entry: &'a Entry,
    tool: &'a Arc<str>,
    pinned: Option<&'a Arc<Pinned>>,
    explicit: Option<&'a str>,
    /// Uid of its assignment; empty for automatic mode.
    assignment: &'a str,
}

impl Wanted<'_> {
    /// What distinguishes two routes, independent of the order in which they were made: entry, pinned, chosen name, tool.
    fn identity(&self) -> [&str; 4] {
        let pinned = self.pinned.map(|pinned| &*pinned.installation).unwrap_or_default();
        [&self.entry.uid, pinned, self.explicit.unwrap_or_default(), self.tool]
    }
}

impl Table {
    /// The route of an exposed name.
    pub(crate) fn find(&self, exposed_name: &str) -> Option<&Route> {
        let by_name = |route: &Route| (*route.exposed_name).cmp(exposed_name);
        self.routes
            .binary_search_by(by_name)
            .ok()
            .map(|index| &self.routes[index])
    }

    /// All routes, sorted by exposed name.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Builds a table from all assignments of the consumer, with their uids, and, in automatic mode, from entries that share a
    /// label with it. `entry` gives the entry of an assignment.
    ///
    /// Where a tool is assigned individually, an assignment of all tools of its entry does not add it again; and where it is
    /// assigned in either way, automatic mode does not.
    pub(crate) fn build<'a>(
        consumer: &Consumer,
        assigned: impl IntoIterator<Item = (&'a Arc<str>, &'a Assignment)>,
        entry: impl Fn(&str) -> Option<Candidate<'a>>,
        automatic: impl IntoIterator<Item = Candidate<'a>>,
    ) -> Self {
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        let mut whole = Vec::new();
        for (uid, assignment) in assigned {
            let Some(candidate) = entry(&assignment.entry_uid).filter(|candidate| !candidate.entry.deleted) else {
                continue;
            };
            match &assignment.tool {
                Some(tool) => wanted.push(Wanted {
                    entry: candidate.entry,
                    tool,
                    pinned: assignment.pinned.as_ref(),
                    explicit: assignment.exposed_name.as_deref(),
                    assignment: uid,
                }),
                None => whole.push((uid, assignment, candidate)),
            }
        }
        let single: HashSet<(&str, &str)> = wanted.iter().map(|one| (&*one.entry.uid, &**one.tool)).collect();
        let others = |Candidate { entry, tools }: Candidate<'a>| {
            let names = tools.into_iter().flat_map(ToolSet::names);
            names.filter(|tool| !single.contains(&(&*entry.uid, &***tool)))
        };
        let mut covered: HashSet<&str> = HashSet::new();
        for (uid, assignment, candidate) in whole {
            covered.insert(&candidate.entry.uid);
            wanted.extend(others(candidate).map(|tool| Wanted {
                entry: candidate.entry,
                tool,
                pinned: assignment.pinned.as_ref(),
                explicit: None,
                assignment: uid,
            }));
        }
        let selected = automatic
            .into_iter()
            .filter(|candidate| selects(consumer, candidate.entry) && !covered.contains(&*candidate.entry.uid));
        for candidate in selected {
            wanted.extend(others(candidate).map(|tool| Wanted {
                entry: candidate.entry,
                tool,
                pinned: None,
                explicit: None,
                assignment: "",
            }));
        }
        Self::named(consumer, wanted)
    }

    fn named(consumer: &Consumer, mut wanted: Vec<Wanted<'_>>) -> Self {
        // Of equal assignments, the first by uid is used.
        wanted.sort_unstable_by(|a, b| (a.identity(), a.assignment).cmp(&(b.identity(), b.assignment)));
        wanted.dedup_by(|a, b| a.identity() == b.identity());
        let named: Vec<Named<'_>> = wanted
            .iter()
            .map(|wanted| Named {
                prefix: (!consumer.omit_entry_prefix).then_some(&*wanted.entry.slug),
                tool: wanted.tool,
                explicit: wanted.explicit,
                identity: wanted.identity(),
            })
            .collect();
        let names = names::assign(&named);
        let mut routes: Box<[Route]> = wanted
            .iter()
            .zip(names)
            .map(|(wanted, name)| Route {
                exposed_name: name.into(),
                entry_uid: Arc::clone(&wanted.entry.uid),
                tool: Arc::clone(wanted.tool),
                pinned: wanted.pinned.cloned(),
            })
            .collect();
        routes.sort_unstable_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
        Self { routes }
    }
}

/// Whether automatic mode assigns the tools of this entry: at least one key: value pair is the same.
fn selects(consumer: &Consumer, entry: &Entry) -> bool {
    consumer.automatic && !entry.deleted && entry.lifecycle != Lifecycle::Draft && consumer.labels.share(&entry.labels)
}
