//! Prompts and resources: the lists of several servers as one, and which server has what.
//!
//! A client gets them from its own sessions, as it would from the servers themselves. What it was shown is remembered for a while, so that
//! a name or URI that it sends finds its server.

mod fetch;
mod item;
mod known;
mod listing;
mod template;
#[cfg(test)]
mod tests;
mod uris;

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

pub(super) use fetch::{AT_A_TIME, MOST_CURSOR, WITHIN, own_call};
pub(crate) use item::{Found, Item, ListKind};
pub(super) use known::Known;
use listing::Listing;
pub(super) use listing::Of;

use super::{Calls, Visitor};
use crate::{
    domain::{CallError, ConsumerRef},
    resolve,
    upstream::{Client, Updated},
};

/// How long what a client was shown is remembered after it was last used, and how many bytes of all clients.
const REMEMBERED: Duration = Duration::from_secs(3600);
const REMEMBERED_BYTES: u64 = 128 << 20;

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

    /// What a client was shown of resources.
    fn known(&self, client: &Client, subject: &Arc<str>, consumer: &ConsumerRef) -> Known {
        let of = |kind| (client.clone(), Arc::clone(subject), consumer.to_string(), kind);
        Known {
            resources: self.0.get(&of(ListKind::Resources)),
            templates: self.0.get(&of(ListKind::Templates)),
        }
    }
}

fn key(visitor: &Visitor<'_>, kind: ListKind) -> Key {
    let subject = Arc::clone(visitor.subject);
    (visitor.client.clone(), subject, visitor.consumer.to_string(), kind)
}

impl Calls {
    /// What a client is shown of resources now, as far as their servers list them.
    pub(super) async fn uris_now(&self, visitor: &Visitor<'_>) -> Known {
        let listed = self.list(visitor, ListKind::Resources).await;
        let known = self.shown_uris(visitor);
        Known {
            resources: listed.ok().or(known.resources),
            ..known
        }
    }

    /// What a client was shown of resources.
    pub(super) fn shown_uris(&self, visitor: &Visitor<'_>) -> Known {
        self.lists.known(&visitor.client, visitor.subject, visitor.consumer)
    }

    /// The list as the client was shown it, or as it is now.
    pub(crate) async fn known_list(&self, visitor: &Visitor<'_>, kind: ListKind) -> Result<Arc<Listing>, CallError> {
        match self.lists.get(visitor, kind) {
            Some(listing) => Ok(listing),
            None => self.list(visitor, kind).await,
        }
    }

    /// Which server has this prompt.
    pub(crate) async fn prompt(&self, visitor: &Visitor<'_>, name: &str) -> Result<Found, CallError> {
        let find = |list: &Listing| list.find(name).or_else(|| list.find_renamed(name));
        if let Some(found) = self.known(visitor, ListKind::Prompts, find) {
            return Ok(found);
        }
        let list = self.list(visitor, ListKind::Prompts).await?;
        find(&list).ok_or_else(|| CallError::NotFound {
            what: "prompt",
            name: name.to_owned(),
        })
    }

    /// Which server has this resource: the one that lists it, or else whose template it is made from; else the only one there is.
    pub(crate) async fn resource(&self, visitor: &Visitor<'_>, uri: &str) -> Result<Found, CallError> {
        let listed = |list: &Listing| list.find(uri).or_else(|| list.tagged(uri));
        // What a server has added since is known to lists that are asked for anew: before a template decides that fits everything, they are.
        let made = |list: &Listing| list.matching(uri, true);
        if self.lists.get(visitor, ListKind::Resources).is_some()
            && let Some(found) = (self.known(visitor, ListKind::Resources, listed))
                .or_else(|| self.known(visitor, ListKind::Templates, made))
        {
            return Ok(found);
        }
        let resources = self.list(visitor, ListKind::Resources).await?;
        if let Some(found) = listed(&resources) {
            return Ok(found);
        }
        let templates = self.list(visitor, ListKind::Templates).await?;
        let made = templates.matching(uri, false).or_else(|| {
            let source = Arc::clone(resources.only()?);
            let own = uri.into();
            Some(Found { source, own })
        });
        made.ok_or_else(|| CallError::NotFound {
            what: "resource",
            name: uri.to_owned(),
        })
    }

    /// The URI that a client knows a resource by that has changed. `None`: what has changed is not the server's.
    pub(crate) fn exposed_uri(
        &self,
        client: &Client,
        subject: &Arc<str>,
        consumer: &ConsumerRef,
        updated: &Updated,
    ) -> Option<String> {
        let known = self.lists.known(client, subject, consumer);
        known.updated(Of::Installation(&updated.installation), &updated.uri)
    }

    /// Which server has this template.
    pub(crate) async fn template(&self, visitor: &Visitor<'_>, uri: &str) -> Result<Found, CallError> {
        let find = |list: &Listing| list.find(uri).or_else(|| list.tagged(uri));
        if let Some(found) = self.known(visitor, ListKind::Templates, find) {
            return Ok(found);
        }
        let templates = self.list(visitor, ListKind::Templates).await?;
        match find(&templates) {
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
