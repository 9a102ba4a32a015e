//! The lists of several servers as one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    item::{Found, Item, ListKind},
    template::{fits, is_specific},
    uris,
};
use crate::{
    resolve::Reached,
    route::{Named, Source, assign, is_with_hash, without_hash},
};

/// A list of all servers.
#[derive(Debug)]
pub(crate) struct Listing {
    /// From the oldest source to the newest, in each server's own order; then those that no server lists.
    items: Vec<Item>,
    /// How many of them are listed.
    listed: usize,
    by_exposed: HashMap<Arc<str>, usize>,
    /// Those that the client knows by another URI than their server, by the server's.
    renamed: HashMap<Arc<str>, Vec<usize>>,
    /// From the oldest to the newest.
    sources: Vec<Asked>,
    /// Bytes, roughly.
    pub(super) size: usize,
}

/// A source that was asked.
#[derive(Debug)]
struct Asked {
    source: Arc<Source>,
    /// Uid of the installation that it led to.
    installation: Arc<str>,
    /// What its URIs get that an older source has.
    tag: Box<str>,
    answered: bool,
    /// It failed, and what it lists is not known.
    failed: bool,
}

/// What one server lists.
pub(super) struct Listed {
    pub(super) source: Arc<Source>,
    /// Slug of its entry.
    pub(super) entry: Arc<str>,
    /// Uid of the installation.
    pub(super) installation: Arc<str>,
    /// `None`: it lists nothing, or did not answer.
    pub(super) items: Option<Vec<Item>>,
    /// The latter.
    pub(super) failed: bool,
    /// URIs of resources that it has, whether or not it lists them.
    pub(super) shows: Vec<Arc<str>>,
}

impl Listed {
    /// Of a source. `None`: it lists nothing, or did not answer.
    pub(super) fn new(reached: Reached, kind: ListKind, items: Option<Vec<Item>>) -> Self {
        let Reached {
            source,
            entry,
            installation,
            shows,
        } = reached;
        let shows = if kind == ListKind::Resources { shows } else { Vec::new() };
        Self {
            source,
            entry,
            installation,
            items,
            failed: false,
            shows,
        }
    }

    /// It did not answer.
    pub(super) fn failed(self) -> Self {
        Self { failed: true, ..self }
    }
}

/// A server of a list.
#[derive(Clone, Copy, Debug)]
pub(in crate::calls) enum Of<'a> {
    /// By the uid of its installation.
    Installation(&'a str),
    Source(&'a Source),
}

/// Whose a URI is that a server names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The server's own: as the client knows it, if that is something else.
    Own(Option<Arc<str>>),
    /// Another server's.
    Anothers,
    Nobodys,
}

impl Listing {
    /// Items as one list: under names that differ. `listed` begins with the oldest source.
    pub(super) fn of(kind: ListKind, prefixed: bool, listed: Vec<Listed>) -> Self {
        let mut sources = Vec::with_capacity(listed.len());
        let (mut items, mut unlisted) = (Vec::new(), Vec::new());
        for (index, one) in listed.into_iter().enumerate() {
            let tag = uris::tag(&one.source, &one.entry);
            let answered = one.items.is_some();
            let mut own: Vec<Item> = one.items.unwrap_or_default();
            // What it listed last may be of an earlier table.
            own.iter_mut().for_each(|item| item.source = Arc::clone(&one.source));
            let known: HashSet<&Arc<str>> = own
                .iter()
                .map(|item| &item.own)
                .filter(|_| !one.shows.is_empty())
                .collect();
            let shows = one.shows.iter().filter(|uri| !known.contains(uri));
            unlisted.extend(shows.map(|uri| (index, Item::unlisted(&one.source, uri))));
            items.push((one.entry, own));
            sources.push(Asked {
                source: one.source,
                installation: one.installation,
                tag,
                answered,
                failed: one.failed && !answered,
            });
        }
        let mut made = Self {
            listed: items.iter().map(|(_, own)| own.len()).sum(),
            items: Vec::new(),
            by_exposed: HashMap::new(),
            renamed: HashMap::new(),
            sources,
            size: 0,
        };
        match kind {
            ListKind::Prompts => {
                let exposed = prompt_names(prefixed, &items);
                made.items = items.into_iter().flat_map(|(_, own)| own).collect();
                made.name(exposed.into_iter().map(Arc::from));
            }
            ListKind::Resources | ListKind::Templates => {
                let of_each = items.into_iter().enumerate();
                let listed = of_each.flat_map(|(index, (_, own))| own.into_iter().map(move |item| (index, item)));
                let (of, all): (Vec<usize>, Vec<Item>) = listed.chain(unlisted).unzip();
                made.items = all;
                made.name_uris(&of);
            }
        }
        made.size = made.items.iter().map(Item::size).sum::<usize>() + 256;
        made
    }

    /// `of` says of each item which of the sources has it.
    fn name_uris(&mut self, of: &[usize]) {
        // What is not listed is as old as what is.
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.sources.len()];
        for (index, &source) in of.iter().enumerate() {
            places[source].push(index);
        }
        let of_each = self.sources.iter().zip(&places);
        let owns = of_each.map(|(asked, places)| (&*asked.tag, places.iter().map(|&at| &self.items[at].own).collect()));
        let exposed = uris::exposed(owns);
        let mut named = vec![Arc::default(); self.items.len()];
        for (at, exposed) in places.concat().into_iter().zip(exposed) {
            named[at] = exposed;
        }
        self.name(named);
    }

    fn name(&mut self, exposed: impl IntoIterator<Item = Arc<str>>) {
        for (index, (item, exposed)) in self.items.iter_mut().zip(exposed).enumerate() {
            self.by_exposed.entry(Arc::clone(&exposed)).or_insert(index);
            if exposed != item.own {
                self.renamed.entry(Arc::clone(&item.own)).or_default().push(index);
            }
            item.exposed = exposed;
        }
    }

    /// The items after the one of this name or URI; all where there is none. `None`: that is not in the list.
    pub(crate) fn after(&self, exposed: Option<&str>) -> Option<&[Item]> {
        let first = match exposed {
            Some(exposed) => self.by_exposed.get(exposed)? + 1,
            None => 0,
        };
        self.items[..self.listed].get(first..)
    }

    /// What a source has listed, as far as it has answered.
    pub(super) fn of_source(&self, source: &Source) -> Option<Vec<Item>> {
        let asked = self.sources.iter().find(|asked| *asked.source == *source)?;
        let listed = self.items[..self.listed].iter();
        let of_it = listed.filter(|item| *item.source == *source);
        asked.answered.then(|| of_it.cloned().collect())
    }

    /// The prompt, resource or template that the client knows by this.
    pub(super) fn find(&self, exposed: &str) -> Option<Found> {
        Some(self.items[*self.by_exposed.get(exposed)?].found())
    }

    /// The prompt that had this name while an older one had the one that it has now.
    pub(super) fn find_renamed(&self, name: &str) -> Option<Found> {
        let plain = without_hash(name)?;
        let item = &self.items[*self.by_exposed.get(plain)?];
        is_with_hash(name, plain, item.source.identity("", &item.own)).then(|| item.found())
    }

    /// What a URI with the tag of a source stands for, whether or not the source needs it and lists that.
    pub(super) fn tagged(&self, uri: &str) -> Option<Found> {
        let mut sources = self.sources.iter().filter(|_| uris::may_be_tagged(uri));
        sources.find_map(|asked| {
            Some(Found {
                own: uri.strip_suffix(&*asked.tag)?.into(),
                source: Arc::clone(&asked.source),
            })
        })
    }

    /// The only source that has anything: it may have more than it lists.
    pub(super) fn only(&self) -> Option<&Arc<Source>> {
        let mut answered = self.sources.iter().filter(|asked| asked.answered);
        let only = answered.next()?;
        answered.next().is_none().then_some(&only.source)
    }

    /// The template that this URI may be made from: of the oldest source that has one. One that says whose URIs it makes comes before those
    /// that fit everybody's; `specific`: those are not looked at.
    pub(super) fn matching(&self, uri: &str, specific: bool) -> Option<Found> {
        let fitting = || self.items.iter().filter(|item| fits(&item.own, uri));
        let first = fitting().find(|item| is_specific(&item.own));
        let item = first.or_else(|| fitting().next().filter(|_| !specific))?;
        Some(Found {
            source: Arc::clone(&item.source),
            own: uri.into(),
        })
    }

    /// Whether this server is one of those whose list it is.
    pub(super) fn is_of(&self, server: Of<'_>) -> bool {
        self.asked(server).is_some()
    }

    /// Whose a URI is that this server names.
    pub(super) fn whose(&self, server: Of<'_>, own: &str) -> Whose {
        let Some(asked) = self.asked(server) else {
            return match self.by_exposed.contains_key(own) {
                true => Whose::Anothers,
                false => Whose::Nobodys,
            };
        };
        let is_its = |item: &&Item| *item.source == *asked.source;
        let renamed = self.renamed.get(own).into_iter().flatten();
        if let Some(item) = renamed.map(|&index| &self.items[index]).find(is_its) {
            return Whose::Own(Some(Arc::clone(&item.exposed)));
        }
        match self.by_exposed.get(own).map(|&index| &self.items[index]) {
            Some(item) if is_its(&item) => Whose::Own(None),
            Some(_) => Whose::Anothers,
            None => Whose::Nobodys,
        }
    }

    /// The same of a URI that no server lists, by the templates that it may be made from.
    pub(super) fn made_by(&self, server: Of<'_>, own: &str) -> Whose {
        let Some(first) = self.matching(own, false) else {
            return Whose::Nobodys;
        };
        let Some(asked) = self.asked(server) else {
            return Whose::Anothers;
        };
        if *first.source == *asked.source {
            return Whose::Own(None);
        }
        let mut own_ones = self.items.iter().filter(|item| *item.source == *asked.source);
        match own_ones.any(|item| fits(&item.own, own)) {
            true => Whose::Own(Some(format!("{own}{}", asked.tag).into())),
            false => Whose::Anothers,
        }
    }

    /// Says of each source whether clients know something of it by another URI. Not that none is, before all resources are known, also those of the
    /// older sources; nor if the list is of only some of the `all` sources that there are: other callers have others.
    pub(super) fn tell_sources(&self, kind: ListKind, all: usize) {
        let renamed = self.renamed.values().flatten().map(|&index| &self.items[index].source);
        renamed
            .filter(|_| kind != ListKind::Prompts)
            .for_each(|source| source.seen(true));
        if kind != ListKind::Resources || self.sources.len() != all {
            return;
        }
        let known = self.sources.iter().take_while(|asked| !asked.failed);
        known
            .filter(|asked| asked.answered)
            .for_each(|asked| asked.source.seen(false));
    }

    fn asked(&self, server: Of<'_>) -> Option<&Asked> {
        self.sources.iter().find(|asked| match server {
            Of::Installation(uid) => *asked.installation == *uid,
            Of::Source(source) => *asked.source == *source,
        })
    }
}

fn prompt_names(prefixed: bool, listed: &[(Arc<str>, Vec<Item>)]) -> Vec<String> {
    // Those of a source are of the same age.
    let mut named = Vec::new();
    for ((entry, items), age) in listed.iter().zip(0..) {
        named.extend(items.iter().map(|item| Named {
            prefix: prefixed.then_some(&**entry),
            tool: &item.own,
            explicit: None,
            since: (age, ""),
            identity: item.source.identity("", &item.own),
        }));
    }
    assign(&named, &[])
}
