//! Prompts and resources: the lists of several servers as one, and which server has what.
//!
//! A client gets them from its own sessions, as it would from the servers themselves. What it was shown is remembered for a while, so that
//! a name or URI that it sends finds its server.

mod fetch;
mod item;
mod template;

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::sync::Cache;

pub(super) use fetch::own_call;
pub(crate) use item::{Item, ListKind};
use template::fits;

use super::{Calls, Visitor};
use crate::{
    domain::{CallError, ConsumerRef, Installation},
    resolve,
    route::{Named, Source, assign},
    upstream::{Client, Updated},
};

/// How long what a client was shown is remembered after it was last used, and how many bytes of all clients.
const REMEMBERED: Duration = Duration::from_secs(3600);
const REMEMBERED_BYTES: u64 = 128 << 20;
/// What a URI gets that several servers have, for all but the first of them; then the slug of its entry follows.
const DISTINGUISHED: &str = "#chandlery:";

/// Lists as clients were shown them.
pub(super) struct Lists(Cache<Key, Arc<Listing>>);

/// Client, subject, gateway or agent, and which of its lists.
type Key = (Client, Arc<str>, String, ListKind);

impl Default for Lists {
    fn default() -> Self {
        let weight = |_: &Key, listing: &Arc<Listing>| u32::try_from(listing.size).unwrap_or(u32::MAX);
        Self(
            Cache::builder()
                .weigher(weight)
                .max_capacity(REMEMBERED_BYTES)
                .time_to_idle(REMEMBERED)
                .build(),
        )
    }
}

impl Lists {
    fn get(&self, visitor: &Visitor<'_>, kind: ListKind) -> Option<Arc<Listing>> {
        self.0.get(&key(visitor, kind))
    }

    fn remember(&self, visitor: &Visitor<'_>, kind: ListKind, listing: &Arc<Listing>) {
        self.0.insert(key(visitor, kind), Arc::clone(listing));
    }
}

fn key(visitor: &Visitor<'_>, kind: ListKind) -> Key {
    let subject = Arc::clone(visitor.subject);
    (visitor.client.clone(), subject, visitor.consumer.to_string(), kind)
}

/// A list of all servers.
#[derive(Debug)]
pub(crate) struct Listing {
    /// In the order of the entries, and of each server's own.
    items: Vec<Item>,
    by_exposed: HashMap<Arc<str>, usize>,
    /// Those that the client knows by another URI than their server, by the server's.
    renamed: HashMap<Arc<str>, Vec<usize>>,
    /// The sources that were asked.
    sources: Vec<Arc<Source>>,
    /// Bytes, roughly.
    size: usize,
}

/// What a client's name or URI stands for.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Whose server has it.
    pub(crate) source: Arc<Source>,
    /// As that server knows it.
    pub(crate) own: Arc<str>,
}

/// What one server lists.
struct Listed {
    source: Arc<Source>,
    /// Slug of its entry.
    entry: Arc<str>,
    items: Vec<Item>,
}

impl Listing {
    /// Items as one list: under names that differ.
    fn of(kind: ListKind, prefixed: bool, listed: Vec<Listed>) -> Self {
        let sources = listed.iter().map(|listed| Arc::clone(&listed.source)).collect();
        let exposed = match kind {
            ListKind::Prompts => prompt_names(prefixed, &listed),
            ListKind::Resources | ListKind::Templates => uris(&listed),
        };
        let mut items: Vec<Item> = listed.into_iter().flat_map(|listed| listed.items).collect();
        let mut by_exposed = HashMap::with_capacity(items.len());
        let mut renamed: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        for (index, (item, exposed)) in items.iter_mut().zip(exposed).enumerate() {
            let exposed: Arc<str> = exposed.into();
            by_exposed.entry(Arc::clone(&exposed)).or_insert(index);
            if kind == ListKind::Resources && exposed != item.own {
                renamed.entry(Arc::clone(&item.own)).or_default().push(index);
            }
            item.exposed = exposed;
        }
        let size = items.iter().map(Item::size).sum::<usize>() + 256;
        Self {
            items,
            by_exposed,
            renamed,
            sources,
            size,
        }
    }

    /// The items after the one of this name or URI; all where there is none. `None`: that is not in the list.
    pub(crate) fn after(&self, exposed: Option<&str>) -> Option<&[Item]> {
        let first = match exposed {
            Some(exposed) => self.by_exposed.get(exposed)? + 1,
            None => 0,
        };
        self.items.get(first..)
    }

    fn find(&self, exposed: &str) -> Option<Found> {
        let item = &self.items[*self.by_exposed.get(exposed)?];
        Some(Found {
            source: Arc::clone(&item.source),
            own: Arc::clone(&item.own),
        })
    }

    /// The URI that the client knows a resource of this installation's server by, if it is another than the server's.
    fn exposed_uri(&self, installation: &Installation, own: &str) -> Option<&Arc<str>> {
        let is_of = |source: &Source| match &source.pinned {
            Some(pinned) => pinned.installation == installation.uid,
            None => source.entry_uid == installation.entry_uid,
        };
        let mut items = self.renamed.get(own)?.iter().map(|&index| &self.items[index]);
        items.find(|item| is_of(&item.source)).map(|item| &item.exposed)
    }

    /// The first template that this URI may be made from.
    fn matching(&self, uri: &str) -> Option<Found> {
        let item = self.items.iter().find(|item| fits(&item.own, uri))?;
        Some(Found {
            source: Arc::clone(&item.source),
            own: uri.into(),
        })
    }
}

fn prompt_names(prefixed: bool, listed: &[Listed]) -> Vec<String> {
    let mut named = Vec::new();
    for Listed { source, entry, items } in listed {
        let pinned = source.pinned.as_ref().map(|pinned| &*pinned.installation);
        named.extend(items.iter().map(|item| Named {
            prefix: prefixed.then_some(&**entry),
            tool: &item.own,
            explicit: None,
            identity: [&source.entry_uid, pinned.unwrap_or_default(), "", &item.own],
        }));
    }
    assign(&named, &[])
}

/// URIs stay what they are, since servers and clients read them; but for those that two servers have.
fn uris(listed: &[Listed]) -> Vec<String> {
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut uris = Vec::new();
    for (index, Listed { entry, items, .. }) in listed.iter().enumerate() {
        for item in items {
            let first = *taken.entry(&item.own).or_insert(index);
            uris.push(if first == index {
                item.own.to_string()
            } else {
                format!("{}{DISTINGUISHED}{entry}", item.own)
            });
        }
    }
    uris
}

impl Calls {
    /// The list as the client was shown it, or as it is now.
    pub(crate) async fn known_list(&self, visitor: &Visitor<'_>, kind: ListKind) -> Result<Arc<Listing>, CallError> {
        match self.lists.get(visitor, kind) {
            Some(listing) => Ok(listing),
            None => self.list(visitor, kind).await,
        }
    }

    /// Which server has this prompt.
    pub(crate) async fn prompt(&self, visitor: &Visitor<'_>, name: &str) -> Result<Found, CallError> {
        let not_found = || CallError::NotFound {
            what: "prompt",
            name: name.to_owned(),
        };
        if let Some(found) = self.known(visitor, ListKind::Prompts, |list| list.find(name)) {
            return Ok(found);
        }
        let list = self.list(visitor, ListKind::Prompts).await?;
        list.find(name).ok_or_else(not_found)
    }

    /// Which server has this resource: the one that lists it, or whose template it is made from; else the only one there is.
    pub(crate) async fn resource(&self, visitor: &Visitor<'_>, uri: &str) -> Result<Found, CallError> {
        let listed = |list: &Listing| list.find(uri);
        let made = |list: &Listing| list.matching(uri);
        if let Some(found) = self.known(visitor, ListKind::Resources, listed) {
            return Ok(found);
        }
        if let Some(found) = self.known(visitor, ListKind::Templates, made) {
            return Ok(found);
        }
        let resources = self.list(visitor, ListKind::Resources).await?;
        if let Some(found) = resources.find(uri) {
            return Ok(found);
        }
        let templates = self.list(visitor, ListKind::Templates).await?;
        if let Some(found) = templates.matching(uri) {
            return Ok(found);
        }
        match &resources.sources[..] {
            // A server may have more than it lists.
            [only] => Ok(Found {
                source: Arc::clone(only),
                own: uri.into(),
            }),
            _ => Err(CallError::NotFound {
                what: "resource",
                name: uri.to_owned(),
            }),
        }
    }

    /// The URI that a client knows a resource by that has changed.
    pub(crate) fn exposed_uri(
        &self,
        client: &Client,
        subject: &Arc<str>,
        consumer: &ConsumerRef,
        updated: &Updated,
    ) -> String {
        let key = (
            client.clone(),
            Arc::clone(subject),
            consumer.to_string(),
            ListKind::Resources,
        );
        let exposed = || {
            let snapshot = self.store.load().ok()?;
            let installation = snapshot.installation(&updated.installation)?;
            let listing = self.lists.0.get(&key)?;
            Some(listing.exposed_uri(installation, &updated.uri)?.to_string())
        };
        exposed().unwrap_or_else(|| updated.uri.clone())
    }

    /// Which server has this template.
    pub(crate) async fn template(&self, visitor: &Visitor<'_>, uri: &str) -> Result<Found, CallError> {
        if let Some(found) = self.known(visitor, ListKind::Templates, |list| list.find(uri)) {
            return Ok(found);
        }
        let templates = self.list(visitor, ListKind::Templates).await?;
        match templates.find(uri) {
            Some(found) => Ok(found),
            None => self.resource(visitor, uri).await,
        }
    }

    fn known(
        &self,
        visitor: &Visitor<'_>,
        kind: ListKind,
        find: impl FnOnce(&Listing) -> Option<Found>,
    ) -> Option<Found> {
        let listing = self.lists.get(visitor, kind)?;
        let found = find(&listing)?;
        // Assignments may have changed since.
        let snapshot = self.store.load().ok()?;
        resolve::reaches(&snapshot, visitor.caller, visitor.consumer, &found.source).then_some(found)
    }
}
