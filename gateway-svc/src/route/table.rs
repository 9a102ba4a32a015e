//! The table of one gateway or agent.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    names::{self, Named, Since},
    seen::{Fingerprints, Seen},
    source::{self, Pinned, Source},
};
use crate::domain::{CALL_TOOL, Consumer, Entry, Lifecycle, SEARCH_TOOLS, ToolSet};

/// A tool assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Registry revision at which it was created; 0 where that is not known.
    pub(crate) since: i64,
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// The server's own name of the tool; `None`: all tools of the entry.
    pub(crate) tool: Option<Arc<str>>,
    /// What it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<Pinned>>,
    /// A name that was chosen for it.
    pub(crate) exposed_name: Option<Arc<str>>,
}

/// An entry that may have tools here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// Its tools; `None` where none were discovered.
    pub(crate) tools: Option<&'a ToolSet>,
}

impl<'a> Candidate<'a> {
    /// Its tools, and since which revision it has each.
    fn known(self) -> impl Iterator<Item = (&'a Arc<str>, i64)> {
        let names = self.tools.into_iter().flat_map(ToolSet::names);
        let since = &self.entry.tools_since;
        names.enumerate().map(|(place, name)| (name, since.at(place)))
    }

    /// Since when a tool is there with all others, which are assigned since `since`; `None`: its entry does not have it.
    fn joined(&self, tool: &str, since: Since<'a>) -> Option<Since<'a>> {
        let place = self.tools?.place(tool)?;
        Some(joined(since, self.entry.tools_since.at(place)))
    }
}

/// Where an exposed name leads. There are a million of these: what they hold is shared.
#[derive(Debug)]
pub(crate) struct Route {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// Whose server has it.
    pub(crate) source: Arc<Source>,
}

impl Route {
    /// Whether it is called this while an older one has its name, made of entry and tool.
    fn is_also(&self, exposed_name: &str) -> bool {
        let identity = self.source.identity("", &self.tool);
        names::is_with_hash(exposed_name, &self.exposed_name, identity)
    }
}

/// Everything one gateway or agent exposes, to all callers together.
#[derive(Debug, Default)]
pub(crate) struct Table {
    id: TableId,
    /// Names that no tool has here.
    reserved: &'static [&'static str],
    /// Sorted by exposed name.
    routes: Box<[Route]>,
    /// Those with all of an entry, also its prompts and resources, from the oldest to the newest.
    whole: Box<[Arc<Source>]>,
    /// The same, by their places.
    whole_by_place: Box<[Arc<Source>]>,
    /// Those of the routes and of whole entries, each once.
    sources: Box<[Arc<Source>]>,
    /// Uid of an entry that it has whole, and a tool of it that is assigned by itself, too.
    single: HashSet<(Arc<str>, Arc<str>)>,
    fingerprints: Fingerprints,
}

/// What distinguishes a table from every other that is, or was while this is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableId(Arc<u8>);

impl PartialEq for TableId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TableId {}

impl Hash for TableId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The sources of a table in the making. Tools that are resolved at call time share one for their entry.
#[derive(Default)]
struct Sources<'a> {
    unpinned: HashMap<&'a str, Arc<Source>>,
    /// Each with its age.
    whole: Vec<(Since<'a>, Arc<Source>)>,
}

impl<'a> Sources<'a> {
    fn of(&mut self, entry: &'a Entry, pinned: Option<&Arc<Pinned>>) -> Arc<Source> {
        let source = |pinned| Arc::new(Source::new(Arc::clone(&entry.uid), pinned));
        match pinned {
            // Each has been agreed to by itself.
            Some(pinned) => source(Some(Arc::clone(pinned))),
            None => Arc::clone(self.unpinned.entry(&entry.uid).or_insert_with(|| source(None))),
        }
    }

    fn of_whole(&mut self, entry: &'a Entry, pinned: Option<&Arc<Pinned>>, since: Since<'a>) -> Arc<Source> {
        let source = self.of(entry, pinned);
        self.whole.push((since, Arc::clone(&source)));
        source
    }

    /// From the oldest to the newest.
    fn whole(self) -> Box<[Arc<Source>]> {
        let mut whole = self.whole;
        whole.sort_by(|(since, one), (later, other)| (since, one.place()).cmp(&(later, other.place())));
        let mut known = HashSet::new();
        let whole = whole.into_iter().map(|(_, source)| source);
        whole.filter(|source| known.insert(Arc::as_ptr(source))).collect()
    }
}

/// A route that is to get a name.
struct Wanted<'a> {
    entry: &'a Entry,
    tool: &'a Arc<str>,
    source: Arc<Source>,
    explicit: Option<&'a str>,
    /// Uid of its assignment; empty for automatic mode.
    assignment: &'a str,
    /// Its age.
    since: Since<'a>,
}

impl Wanted<'_> {
    /// What distinguishes two routes, independent of the order in which they were made: entry, pinned, chosen name, tool.
    fn identity(&self) -> [&str; 4] {
        self.source.identity(self.explicit.unwrap_or_default(), self.tool)
    }
}

impl Table {
    /// The route of an exposed name. A tool that had a hash at the end of its name until an older one left keeps that name, too.
    pub(crate) fn find(&self, exposed_name: &str) -> Option<&Route> {
        self.named(exposed_name).or_else(|| {
            let plain = names::without_hash(exposed_name)?;
            self.named(plain).filter(|route| route.is_also(exposed_name))
        })
    }

    fn named(&self, exposed_name: &str) -> Option<&Route> {
        let by_name = |route: &Route| (*route.exposed_name).cmp(exposed_name);
        self.routes
            .binary_search_by(by_name)
            .ok()
            .map(|index| &self.routes[index])
    }

    /// Whether no tool can have this name here.
    pub(super) fn reserves(&self, name: &str) -> bool {
        self.reserved.contains(&name)
    }

    /// What distinguishes it from every other.
    pub(crate) const fn id(&self) -> &TableId {
        &self.id
    }

    /// Of which entries it has all, also the prompts and resources, from the oldest to the newest: by when they were assigned, or automatic mode
    /// began to add them.
    pub(crate) fn whole(&self) -> &[Arc<Source>] {
        &self.whole
    }

    /// Whether this tool of an entry that it has whole is assigned by itself, too.
    pub(crate) fn has_single(&self, entry_uid: &Arc<str>, tool: &Arc<str>) -> bool {
        // Most have none, and are asked about many.
        !self.single.is_empty() && self.single.contains(&(Arc::clone(entry_uid), Arc::clone(tool)))
    }

    /// The sources of all routes and of whole entries, each once, always in the same order.
    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The same and those with all of an entry, some of them twice.
    pub(crate) fn all_sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.sources.iter().chain(&self.whole)
    }

    /// The fingerprint of the list of those who see this of each source, if it was computed before.
    pub(crate) fn fingerprint(&self, seen: &[Seen]) -> Option<u64> {
        self.fingerprints.get(seen)
    }

    /// Keeps it for the others who see the same.
    pub(crate) fn keep_fingerprint(&self, seen: Box<[Seen]>, fingerprint: u64) {
        self.fingerprints.put(seen, fingerprint);
    }

    /// The sources that have all of an entry.
    pub(crate) fn whole_of(&self, entry_uid: &str) -> &[Arc<Source>] {
        let whole = &self.whole_by_place;
        let first = whole.partition_point(|known| *known.entry_uid < *entry_uid);
        let of_it = whole[first..].partition_point(|known| *known.entry_uid == *entry_uid);
        &whole[first..first + of_it]
    }

    /// Whether it has all of this source's entry.
    pub(crate) fn has_whole(&self, source: &Source) -> bool {
        let whole = &self.whole_by_place;
        let first = whole.partition_point(|known| known.place() < source.place());
        let mut alike = whole[first..]
            .iter()
            .take_while(|known| known.place() == source.place());
        alike.any(|known| **known == *source)
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
        let mut sources = Sources::default();
        let mut whole = Vec::new();
        // What automatic mode had before it was assigned is as old as that.
        let selected = |assignment: &Assignment, entry: &'a Entry| {
            let selected = assignment.pinned.is_none().then(|| selected_since(consumer, entry));
            selected.flatten()
        };
        for (uid, assignment) in assigned {
            let Some(candidate) = entry(&assignment.entry_uid).filter(|candidate| !candidate.entry.deleted) else {
                continue;
            };
            let made = (assignment.since, &**uid);
            let since = |selected: Option<Since<'a>>| selected.map_or(made, |selected| made.min(selected));
            let selected = selected(assignment, candidate.entry);
            match &assignment.tool {
                Some(tool) => wanted.push(Wanted {
                    entry: candidate.entry,
                    tool,
                    source: sources.of(candidate.entry, assignment.pinned.as_ref()),
                    explicit: assignment.exposed_name.as_deref(),
                    assignment: uid,
                    since: since(selected.and_then(|selected| candidate.joined(tool, selected))),
                }),
                None => whole.push((uid, since(selected), assignment, candidate)),
            }
        }
        // A tool that was there with all others, and is assigned by itself now, is as old as it was with them.
        let mut oldest: HashMap<_, (Since<'_>, Candidate<'a>)> = HashMap::new();
        for &(_, since, assignment, candidate) in &whole {
            let of_whole = oldest.entry(source::place(&candidate.entry.uid, assignment.pinned.as_ref()));
            let (known, _) = of_whole.or_insert((since, candidate));
            *known = (*known).min(since);
        }
        for one in &mut wanted {
            let of_whole = oldest.get(&one.source.place());
            let joined = of_whole.and_then(|(since, candidate)| candidate.joined(one.tool, *since));
            one.since = joined.map_or(one.since, |joined| one.since.min(joined));
        }
        let single: HashSet<(&str, &str)> = wanted.iter().map(|one| (&*one.entry.uid, &**one.tool)).collect();
        let others = |candidate: Candidate<'a>| {
            let uid = &*candidate.entry.uid;
            let known = candidate.known();
            known.filter(|(tool, _)| !single.contains(&(uid, &***tool)))
        };
        let mut covered: HashSet<&str> = HashSet::new();
        for (uid, since, assignment, candidate) in whole {
            covered.insert(&candidate.entry.uid);
            let source = sources.of_whole(candidate.entry, assignment.pinned.as_ref(), since);
            wanted.extend(others(candidate).map(|(tool, known)| Wanted {
                entry: candidate.entry,
                tool,
                source: Arc::clone(&source),
                explicit: None,
                assignment: uid,
                since: joined(since, known),
            }));
        }
        let others_of = automatic
            .into_iter()
            .filter(|candidate| !covered.contains(&*candidate.entry.uid));
        let selected = others_of.filter_map(|one| Some((selected_since(consumer, one.entry)?, one)));
        for (since, candidate) in selected {
            let source = sources.of_whole(candidate.entry, None, since);
            wanted.extend(others(candidate).map(|(tool, known)| Wanted {
                entry: candidate.entry,
                tool,
                source: Arc::clone(&source),
                explicit: None,
                assignment: "",
                since: joined(since, known),
            }));
        }
        let whole = sources.whole();
        let entries: HashSet<&str> = whole.iter().map(|source| &*source.entry_uid).collect();
        let single = single.iter().filter(|(entry_uid, _)| entries.contains(entry_uid));
        let single = single.map(|&(entry_uid, tool)| (entry_uid.into(), tool.into()));
        Self {
            single: single.collect(),
            ..Self::of(consumer, wanted, whole)
        }
    }

    fn of(consumer: &Consumer, mut wanted: Vec<Wanted<'_>>, whole: Box<[Arc<Source>]>) -> Self {
        // Of equal assignments, the first by uid is used.
        wanted
            .sort_unstable_by(|a, b| (a.identity(), a.since, a.assignment).cmp(&(b.identity(), b.since, b.assignment)));
        wanted.dedup_by(|a, b| a.identity() == b.identity());
        let named: Vec<Named<'_>> = wanted
            .iter()
            .map(|wanted| Named {
                prefix: (!consumer.omit_entry_prefix).then_some(&*wanted.entry.slug),
                tool: wanted.tool,
                explicit: wanted.explicit,
                since: wanted.since,
                identity: wanted.identity(),
            })
            .collect();
        let reserved: &'static [&'static str] = if consumer.searched {
            &[SEARCH_TOOLS, CALL_TOOL]
        } else {
            &[]
        };
        let names = names::assign(&named, reserved);
        let mut routes: Box<[Route]> = wanted
            .iter()
            .zip(names)
            .map(|(wanted, name)| Route {
                exposed_name: name.into(),
                tool: Arc::clone(wanted.tool),
                source: Arc::clone(&wanted.source),
            })
            .collect();
        routes.sort_unstable_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
        let mut known = HashSet::new();
        let sources = routes.iter().map(|route| &route.source).chain(&whole);
        let sources = sources.filter(|source| known.insert(Arc::as_ptr(source)));
        let sources: Box<[Arc<Source>]> = sources.cloned().collect();
        source::set_apart(&whole, &sources);
        let mut whole_by_place = whole.clone();
        whole_by_place.sort_by(|one, other| one.place().cmp(&other.place()));
        Self {
            id: TableId::default(),
            reserved,
            routes,
            whole,
            whole_by_place,
            sources,
            single: HashSet::new(),
            fingerprints: Fingerprints::default(),
        }
    }
}

/// Since when a tool is there that its entry has since `known`, of all whose tools are assigned since `since`.
fn joined((since, uid): Since<'_>, known: i64) -> Since<'_> {
    (since.max(known), uid)
}

/// Since when automatic mode assigns the tools of this entry: since at least one key: value pair is the same. `None`: it does not.
fn selected_since<'a>(consumer: &Consumer, entry: &'a Entry) -> Option<Since<'a>> {
    if !consumer.automatic || entry.deleted || entry.lifecycle == Lifecycle::Draft {
        return None;
    }
    Some((consumer.labels.shared_since(&entry.labels)?, &entry.uid))
}
