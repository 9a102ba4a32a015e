//! One list, and what is found in it.

use std::sync::{Arc, OnceLock};

use service_kit::turns::off_thread;
use tokio::sync::OnceCell;

use crate::{
    domain::{ExposedTool, ListedTool},
    search::{Index, Searched, nearest},
};

/// Characters of a query, at most.
pub(crate) const MOST_QUERY: usize = 1_024;
/// The time that a tool takes in an index, in a search, and where names are compared, as the number of bytes that take as long to parse
/// (measured: 20 µs; 0.1 µs; 0.4 µs).
const INDEXING: usize = 2_048;
const SEARCHING: usize = 8;
const COMPARING: usize = 32;

/// Every tool that some callers see at a gateway or agent, sorted by exposed name.
#[derive(Debug)]
pub(crate) struct Listing {
    tools: Box<[ListedTool]>,
    /// The places of the tools by entry, then by exposed name.
    by_entry: OnceLock<Arc<[u32]>>,
    index: OnceCell<Index>,
}

impl Listing {
    pub(super) fn new(tools: Vec<ExposedTool>) -> Self {
        Self {
            tools: tools.into_iter().map(ListedTool::from).collect(),
            by_entry: OnceLock::new(),
            index: OnceCell::new(),
        }
    }

    /// The tools after the one of this exposed name; all where there is none.
    pub(crate) fn after(&self, exposed_name: Option<&str>) -> &[ListedTool] {
        let first = exposed_name.map_or(0, |after| {
            self.tools.partition_point(|tool| *tool.exposed_name <= *after)
        });
        &self.tools[first..]
    }

    /// The tool at a place of the list.
    fn at(&self, place: u32) -> &ListedTool {
        &self.tools[place as usize]
    }

    /// The places of all tools, those of an entry together.
    fn by_entry(&self) -> Arc<[u32]> {
        let sorted = || {
            let mut places: Vec<u32> = (0_u32..).take(self.tools.len()).collect();
            // Where the names of two entries begin alike, they are mixed in the list.
            places.sort_by_key(|&place| &self.at(place).entry);
            places.into()
        };
        Arc::clone(self.by_entry.get_or_init(sorted))
    }

    /// Slugs of the entries, and how many tools each has.
    pub(crate) fn entries(&self) -> Vec<(&Arc<str>, usize)> {
        let mut entries: Vec<(&Arc<str>, usize)> = Vec::new();
        for &place in &*self.by_entry() {
            let entry = &self.at(place).entry;
            match entries.last_mut() {
                Some((last, tools)) if *last == entry => *tools += 1,
                _ => entries.push((entry, 1)),
            }
        }
        entries
    }

    /// The places of what a query finds, the best first; of all tools by entry, where it is empty.
    pub(crate) async fn find(self: &Arc<Self>, query: &str) -> Found {
        let places = match query.trim() {
            "" => self.by_entry(),
            query => self.search(query).await.into(),
        };
        Found {
            list: Arc::clone(self),
            places,
        }
    }

    /// The places of the tools that a query finds, the best first. The first search makes the index, on another thread if there are many tools.
    async fn search(self: &Arc<Self>, query: &str) -> Vec<u32> {
        let tools = self.tools.len();
        let make = || {
            let list = Arc::clone(self);
            off_thread(tools * INDEXING, move || list.indexed())
        };
        self.index.get_or_init(make).await;
        let (list, query) = (Arc::clone(self), query.to_owned());
        let find = move || list.index.get().map(|index| index.search(&query));
        off_thread(tools * SEARCHING, find).await.unwrap_or_default()
    }

    /// The exposed names that are most like one that does not exist.
    pub(crate) async fn nearest(self: &Arc<Self>, name: &str, most: usize) -> Vec<String> {
        let (list, name) = (Arc::clone(self), name.to_owned());
        let find = move || {
            let names = list.tools.iter().map(|tool| &*tool.exposed_name);
            nearest(&name, names, most).into_iter().map(str::to_owned).collect()
        };
        off_thread(self.tools.len() * COMPARING, find).await
    }

    fn indexed(&self) -> Index {
        Index::of(self.tools.iter().map(|tool| Searched {
            exposed_name: &tool.exposed_name,
            tool: &tool.tool,
            entry: &tool.entry,
            definition: tool.definition.to_json(&tool.exposed_name).into(),
        }))
    }
}

/// What a query has found.
#[derive(Debug)]
pub(crate) struct Found {
    list: Arc<Listing>,
    places: Arc<[u32]>,
}

impl Found {
    /// How many tools.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Those after the one of this exposed name; all where there is none. `None`: that is not found.
    pub(crate) fn after(
        &self,
        exposed_name: Option<&str>,
    ) -> Option<impl ExactSizeIterator<Item = &ListedTool> + Clone> {
        let is = |name: &str| {
            self.places
                .iter()
                .position(|&place| *self.list.at(place).exposed_name == *name)
        };
        let first = match exposed_name {
            Some(name) => is(name)? + 1,
            None => 0,
        };
        Some(self.places[first..].iter().map(|&place| self.list.at(place)))
    }

    /// The list that was searched.
    pub(crate) fn list(&self) -> &Listing {
        &self.list
    }
}
