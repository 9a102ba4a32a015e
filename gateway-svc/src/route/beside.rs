//! Tools that a server has for some callers alone: beside those of its entry, which every table has.

use std::{collections::HashSet, sync::Arc};

use super::{
    names::{self, Named},
    source::Source,
    table::{Route, Table},
};

/// Tools of a server, all of which a gateway or agent exposes.
pub(crate) struct More<'a> {
    /// Which has all of the entry.
    pub(crate) source: &'a Arc<Source>,
    /// What names begin with; `None` where prefixes are switched off.
    pub(crate) prefix: Option<&'a str>,
    /// The server's own names.
    pub(crate) tools: Vec<&'a Arc<str>>,
}

/// Where the exposed name of such a tool leads.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// The server's own name.
    pub(crate) tool: &'a Arc<str>,
    /// Whose server has it.
    pub(crate) source: &'a Arc<Source>,
}

impl<'a> From<&'a Route> for Beside<'a> {
    fn from(route: &'a Route) -> Self {
        Self {
            exposed_name: Arc::clone(&route.exposed_name),
            tool: &route.tool,
            source: &route.source,
        }
    }
}

impl Table {
    /// Where these lead, sorted by exposed name; none is one of the table's. A tool that is assigned by itself is not among them.
    pub(crate) fn beside<'a>(&self, more: &[More<'a>]) -> Vec<Beside<'a>> {
        let mut taken: HashSet<Arc<str>> = HashSet::new();
        let mut routes = Vec::new();
        for More { source, prefix, tools } in more {
            for &tool in tools.iter().filter(|tool| !self.has_single(&source.entry_uid, tool)) {
                let named = Named {
                    prefix: *prefix,
                    tool,
                    explicit: None,
                    since: (0, ""),
                    identity: source.identity("", tool),
                };
                let is_taken = |name: &str| self.find(name).is_some() || taken.contains(name) || self.reserves(name);
                let name = names::another(&named, is_taken);
                let exposed_name: Arc<str> = name.into();
                taken.insert(Arc::clone(&exposed_name));
                routes.push(Beside {
                    exposed_name,
                    tool,
                    source,
                });
            }
        }
        routes.sort_unstable_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
        routes
    }
}
