//! Tools, as servers define them and as clients see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Definition;

/// Which tools an entry or an installation has. One is kept for all that have exactly these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolSet(Box<[(Arc<str>, Arc<str>)]>);

/// Since which registry revision an entry has each tool of its set, in the order of their names; a single one where it is the same for all, none
/// where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolsSince(Box<[i64]>);

/// A tool as one caller sees it.
#[derive(Clone, Debug)]
pub(crate) struct ExposedTool {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// Slug of its entry.
    pub(crate) entry: Arc<str>,
    /// The server's own name of it.
    pub(crate) tool: Arc<str>,
    /// Hash of its definition.
    pub(crate) hash: Arc<str>,
    /// The server's definition, to be shown under `exposed_name`.
    pub(crate) definition: Arc<Definition>,
    /// Whether a call of this caller would find an installation that works.
    pub(crate) connected: bool,
}

/// A tool as all see it who see the same definition.
#[derive(Clone, Debug)]
pub(crate) struct ListedTool {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// Slug of its entry.
    pub(crate) entry: Arc<str>,
    /// The server's own name of it.
    pub(crate) tool: Arc<str>,
    /// The server's definition, to be shown under `exposed_name`.
    pub(crate) definition: Arc<Definition>,
}

/// Finds tools, where a gateway or agent does not list them.
pub(crate) const SEARCH_TOOLS: &str = "search_tools";
/// Calls one of those.
pub(crate) const CALL_TOOL: &str = "call_tool";

impl From<ExposedTool> for ListedTool {
    fn from(tool: ExposedTool) -> Self {
        Self {
            exposed_name: tool.exposed_name,
            entry: tool.entry,
            tool: tool.tool,
            definition: tool.definition,
        }
    }
}

/// A tool as its server defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscoveredTool {
    /// The server's own name of it.
    pub(crate) name: String,
    /// The definition exactly as the server gave it.
    pub(crate) definition_json: String,
}

/// What a server has of tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiscoveredTools {
    pub(crate) tools: Vec<DiscoveredTool>,
    /// For people: which of the server's tools are left out, and why. Empty: none.
    pub(crate) left_out: String,
}

impl ToolSet {
    /// The server's own names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The hashes of the definitions.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(_, hash)| hash)
    }

    /// The hash of a tool's definition; `None`: it has no such tool.
    pub(crate) fn hash(&self, tool: &str) -> Option<&Arc<str>> {
        Some(&self.0[self.place(tool)?].1)
    }

    /// Where a tool is among the [`Self::names`]; `None`: it has no such tool.
    pub(crate) fn place(&self, tool: &str) -> Option<usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(tool)).ok()
    }
}

impl ToolsSince {
    /// Since when it has the tool at this place; 0 where that is not known.
    pub(crate) fn at(&self, place: usize) -> i64 {
        match &*self.0 {
            [same] => *same,
            each => each.get(place).copied().unwrap_or_default(),
        }
    }
}

impl From<&[i64]> for ToolsSince {
    fn from(revisions: &[i64]) -> Self {
        Self(revisions.into())
    }
}

/// Of names and the hashes of their definitions.
impl FromIterator<(Arc<str>, Arc<str>)> for ToolSet {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(tools: I) -> Self {
        let mut tools: Vec<_> = tools.into_iter().collect();
        tools.sort_by(|(a, _), (b, _)| a.cmp(b));
        tools.dedup_by(|(a, _), (b, _)| a == b);
        Self(tools.into())
    }
}

/// Tools as a server lists them to one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedTools(BTreeMap<Arc<str>, (Arc<str>, Arc<Definition>)>);

impl ListedTools {
    /// The server's own names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// The hash of a tool's definition, and it; `None`: it has no such tool.
    pub(crate) fn get(&self, tool: &str) -> Option<(&Arc<str>, &Arc<Definition>)> {
        self.0.get(tool).map(|(hash, definition)| (hash, definition))
    }

    /// Whether these are just the tools of a set.
    pub(crate) fn are(&self, set: &ToolSet) -> bool {
        self.0.len() == set.0.len() && self.0.iter().all(|(name, (hash, _))| set.hash(name) == Some(hash))
    }

    /// Whether others have the same names and definitions.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.hashes().eq(other.hashes())
    }

    /// Names, and hashes of definitions.
    fn hashes(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, (hash, _))| (name, hash))
    }

    /// Bytes, roughly.
    fn size(&self) -> usize {
        let of = |(name, (_, definition)): (&Arc<str>, &(Arc<str>, Arc<Definition>))| 256 + definition.len(name);
        self.0.iter().map(of).sum()
    }
}

/// Of the server's own names, and for each the hash of the definition, and it.
impl FromIterator<(Arc<str>, (Arc<str>, Arc<Definition>))> for ListedTools {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, (Arc<str>, Arc<Definition>))>>(tools: I) -> Self {
        Self(tools.into_iter().collect())
    }
}

/// What servers list to one client alone, by the uids of their installations: those that list something else than the registry knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnTools(HashMap<Arc<str>, Arc<ListedTools>>);

impl OwnTools {
    /// What the server of this installation lists; `None`: what the registry knows.
    pub(crate) fn of(&self, installation: &str) -> Option<&ListedTools> {
        self.0.get(installation).map(|tools| &**tools)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with another list of this installation's server; `None`: what the registry knows.
    pub(crate) fn with(&self, installation: &Arc<str>, tools: Option<ListedTools>) -> Self {
        let mut all = self.0.clone();
        match tools {
            Some(tools) => all.insert(Arc::clone(installation), Arc::new(tools)),
            None => all.remove(installation),
        };
        Self(all)
    }

    /// Bytes, roughly.
    pub(crate) fn size(&self) -> usize {
        self.0.values().map(|tools| tools.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_tools_by_name() {
        let set: ToolSet = [("b", "2"), ("a", "1"), ("c", "3"), ("a", "4")]
            .map(|(name, hash)| (name.into(), hash.into()))
            .into_iter()
            .collect();
        assert_eq!(set.names().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(set.hash("a").map(|hash| &**hash), Some("1"));
        assert_eq!(set.hash("d"), None);
    }

    #[test]
    fn knows_since_when_each_is_there() {
        let at = |revisions: &[i64]| [0, 1].map(|place| ToolsSince::from(revisions).at(place));
        assert_eq!(at(&[3, 7]), [3, 7]);
        assert_eq!(at(&[7]), [7, 7]);
        assert_eq!(at(&[]), [0, 0]);
    }
}
