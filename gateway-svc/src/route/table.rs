//! The table of one gateway or agent.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use super::names::{self, Named};
use crate::domain::{Consumer, Entry, Lifecycle, rename};

/// A tool assignment as an admin made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Unique for ever.
    pub(crate) uid: Arc<str>,
    /// Uid of the gateway or agent.
    pub(crate) consumer_uid: Arc<str>,
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// Uid of the installation it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<str>>,
    /// A name somebody has chosen.
    pub(crate) exposed_name: Option<Arc<str>>,
}

/// An entry that may have tools here, and the names of those.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// The server's own names of its tools.
    pub(crate) tools: Vec<Arc<str>>,
}

/// Where an exposed name leads.
#[derive(Debug)]
pub(crate) struct Route {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// Uid of the entry.
    pub(crate) entry_uid: Arc<str>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// Uid of the installation it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<Arc<str>>,
    renamed: OnceLock<(Arc<str>, Arc<str>)>,
}

/// Everything one gateway or agent exposes, before it is asked who calls.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_name: HashMap<Arc<str>, usize>,
    routes: Vec<Route>,
    entries: HashSet<Arc<str>>,
}

impl Route {
    /// The definition with the exposed name in it. That of one hash is kept: nearly all callers see the same.
    pub(crate) fn expose(&self, hash: &Arc<str>, definition_json: &str) -> Option<Arc<str>> {
        if let Some((known, renamed)) = self.renamed.get()
            && known == hash
        {
            return Some(Arc::clone(renamed));
        }
        let renamed: Arc<str> = rename(definition_json, &self.exposed_name)?.into();
        // Taken already: another caller sees another definition.
        let _ = self.renamed.set((Arc::clone(hash), Arc::clone(&renamed)));
        Some(renamed)
    }
}

impl Table {
    /// The route of an exposed name.
    pub(crate) fn find(&self, exposed_name: &str) -> Option<&Route> {
        self.by_name.get(exposed_name).map(|&index| &self.routes[index])
    }

    /// All routes, sorted by exposed name.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether tools of this entry (its uid) are in it.
    pub(crate) fn draws_on(&self, entry_uid: &str) -> bool {
        self.entries.contains(entry_uid)
    }

    /// Builds a table from all assignments of the consumer and, in automatic mode, all entries that share a label with it.
    /// `entry` gives the entry of an assignment.
    pub(crate) fn build<'a>(
        consumer: &Consumer,
        assignments: impl IntoIterator<Item = &'a Assignment>,
        entry: impl Fn(&str) -> Option<&'a Entry>,
        automatic: &[Candidate<'a>],
    ) -> Self {
        // Keyed by what tells two routes apart, in an order that is nobody's history: entry, tool, pinned, chosen name.
        type Key<'k> = (&'k str, &'k str, &'k str, &'k str);
        let mut wanted: BTreeMap<Key<'_>, Wanted<'_>> = BTreeMap::new();
        let mut assigned: HashSet<(&str, &str)> = HashSet::new();
        for assignment in assignments {
            let Some(entry) = entry(&assignment.entry_uid).filter(|entry| !entry.deleted) else {
                continue;
            };
            assigned.insert((&entry.uid, &assignment.tool));
            let pinned = assignment.pinned.as_deref().unwrap_or_default();
            let explicit = assignment.exposed_name.as_deref();
            wanted.insert(
                (&entry.uid, &assignment.tool, pinned, explicit.unwrap_or_default()),
                Wanted {
                    entry,
                    tool: &assignment.tool,
                    pinned: assignment.pinned.as_ref(),
                    explicit,
                },
            );
        }
        for candidate in automatic.iter().filter(|candidate| selects(consumer, candidate.entry)) {
            for tool in &candidate.tools {
                if !assigned.contains(&(&*candidate.entry.uid, &**tool)) {
                    let wish = Wanted {
                        entry: candidate.entry,
                        tool,
                        pinned: None,
                        explicit: None,
                    };
                    wanted.insert((&candidate.entry.uid, tool, "", ""), wish);
                }
            }
        }
        let identities: Vec<String> = wanted
            .keys()
            .map(|(entry, tool, pinned, explicit)| format!("{entry}\n{pinned}\n{explicit}\n{tool}"))
            .collect();
        let named: Vec<Named<'_>> = wanted
            .values()
            .zip(&identities)
            .map(|(wanted, identity)| Named {
                prefix: (!consumer.omit_entry_prefix).then_some(&*wanted.entry.slug),
                tool: wanted.tool,
                explicit: wanted.explicit,
                identity,
            })
            .collect();
        let names = names::assign(&named);
        let entries = wanted.values().map(|wanted| Arc::clone(&wanted.entry.uid)).collect();
        let mut routes: Vec<Route> = wanted
            .into_values()
            .zip(names)
            .map(|(wanted, name)| Route {
                exposed_name: name.into(),
                entry_uid: Arc::clone(&wanted.entry.uid),
                tool: Arc::clone(wanted.tool),
                pinned: wanted.pinned.cloned(),
                renamed: OnceLock::new(),
            })
            .collect();
        routes.sort_unstable_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
        let by_name = routes
            .iter()
            .enumerate()
            .map(|(index, route)| (Arc::clone(&route.exposed_name), index))
            .collect();
        Self {
            by_name,
            routes,
            entries,
        }
    }
}

struct Wanted<'a> {
    entry: &'a Entry,
    tool: &'a Arc<str>,
    pinned: Option<&'a Arc<str>>,
    explicit: Option<&'a str>,
}

/// Whether automatic mode assigns the tools of this entry: at least one key: value pair is the same.
pub(crate) fn selects(consumer: &Consumer, entry: &Entry) -> bool {
    consumer.automatic
        && !entry.deleted
        && entry.lifecycle != Lifecycle::Draft
        && consumer
            .labels
            .iter()
            .any(|(key, value)| entry.labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Audience, ConsumerKind, ConsumerRef};

    fn entry(slug: &str, label: &str) -> Entry {
        Entry {
            uid: format!("uid-{slug}").into(),
            slug: slug.into(),
            display_name: slug.into(),
            labels: [("team".to_owned(), label.to_owned())].into(),
            audience: Audience {
                organization: true,
                teams: Vec::new(),
                author: None,
            },
            lifecycle: Lifecycle::Approved,
            deleted: false,
        }
    }

    fn consumer(automatic: bool, label: &str) -> Consumer {
        Consumer {
            name: ConsumerRef::new(ConsumerKind::Gateway, "g"),
            uid: "g".into(),
            display_name: "g".to_owned(),
            description: String::new(),
            labels: [
                ("team".to_owned(), label.to_owned()),
                ("other".to_owned(), "x".to_owned()),
            ]
            .into(),
            automatic,
            audience: Audience {
                organization: true,
                teams: Vec::new(),
                author: None,
            },
            passthrough_headers: Vec::new(),
            omit_entry_prefix: false,
        }
    }

    fn assignment(uid: &str, entry: &str, tool: &str, pinned: Option<&str>, name: Option<&str>) -> Assignment {
        Assignment {
            uid: uid.into(),
            consumer_uid: "g".into(),
            entry_uid: format!("uid-{entry}").into(),
            tool: tool.into(),
            pinned: pinned.map(Into::into),
            exposed_name: name.map(Into::into),
        }
    }

    fn names(table: &Table) -> Vec<&str> {
        table.routes().iter().map(|route| &*route.exposed_name).collect()
    }

    #[test]
    fn holds_what_was_assigned() {
        let time = entry("time", "core");
        let assignments = [
            assignment("1", "time", "now", None, None),
            assignment("2", "time", "now", None, None),
            assignment("3", "time", "convert", Some("i1"), Some("tz")),
            assignment("4", "gone", "x", None, None),
        ];
        let table = Table::build(
            &consumer(false, "core"),
            &assignments,
            |uid| (uid == "uid-time").then_some(&time),
            &[],
        );
        assert_eq!(names(&table), ["time__now", "tz"]);
        assert_eq!(table.find("tz").unwrap().pinned.as_deref(), Some("i1"));
        assert!(table.find("time__convert").is_none());
        assert!(table.draws_on("uid-time") && !table.draws_on("uid-gone"));
    }

    #[test]
    fn automatic_mode_adds_every_tool_of_entries_that_share_a_label() {
        let (time, mail) = (entry("time", "core"), entry("mail", "other-team"));
        let draft = Entry {
            lifecycle: Lifecycle::Draft,
            ..entry("draft", "core")
        };
        let deprecated = Entry {
            lifecycle: Lifecycle::Deprecated,
            ..entry("old", "core")
        };
        let tools = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<Arc<str>>>();
        let candidates = [
            Candidate {
                entry: &time,
                tools: tools(&["now", "convert"]),
            },
            Candidate {
                entry: &mail,
                tools: tools(&["send"]),
            },
            Candidate {
                entry: &draft,
                tools: tools(&["x"]),
            },
            Candidate {
                entry: &deprecated,
                tools: tools(&["y"]),
            },
        ];
        let assignments = [assignment("1", "time", "now", None, Some("clock"))];
        let lookup = |uid: &str| (uid == "uid-time").then_some(&time);
        let table = Table::build(&consumer(true, "core"), &assignments, lookup, &candidates);
        assert_eq!(names(&table), ["clock", "old__y", "time__convert"]);
        let manual = Table::build(&consumer(false, "core"), &assignments, lookup, &candidates);
        assert_eq!(names(&manual), ["clock"]);
    }

    #[test]
    fn keeps_the_definition_it_was_asked_for_first() {
        let time = entry("time", "core");
        let assignments = [assignment("1", "time", "now", None, None)];
        let table = Table::build(&consumer(false, "core"), &assignments, |_| Some(&time), &[]);
        let route = table.find("time__now").unwrap();
        let first = route.expose(&"h1".into(), r#"{"name":"now","a":1}"#).unwrap();
        assert_eq!(&*first, r#"{"name":"time__now","a":1}"#);
        assert!(Arc::ptr_eq(&first, &route.expose(&"h1".into(), "").unwrap()));
        assert_eq!(
            &*route.expose(&"h2".into(), r#"{"name":"now","a":2}"#).unwrap(),
            r#"{"name":"time__now","a":2}"#
        );
        assert_eq!(route.expose(&"h3".into(), "nonsense"), None);
    }
}
