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
mod words;

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

pub(super) use fetch::{AT_A_TIME, MOST_CURSOR, WITHIN, own_call};
pub(crate) use item::{Found, Item, ListKind};
pub(super) use known::Known;
use listing::Listing;
pub(super) use listing::Of;
use words::Words;

use super::{Calls, Visitor};
use crate::{
    domain::{CallError, ConsumerRef},
    resolve,
    upstream::{Client, Updated},
};

/// How long what a client was shown is remembered after it was last used, and how many bytes of all clients.
const REMEMBERED: Duration = Duration::from_secs(3600);
const REMEMBERED_BYTES: u64 = 128 << 20;
/// How long no answer waits for lists that another has waited for in vain, and for how many clients that is known.
const IN_VAIN: Duration = Duration::from_secs(60);
const WAITED: u64 = 20_000;

/// Lists as clients were shown them, and what they have subscribed to by which URI.
pub(super) struct Lists {
    shown: Cache<Key, Arc<Listing>>,
    words: Words,
    /// Whose answers have waited for lists in vain.
    waited: Cache<Key, ()>,
}

/// Client, subject, gateway or agent, and which of its lists.
type Key = (Client, Arc<str>, String, ListKind);

impl Default for Lists {
    fn default() -> Self {
        let weight = |_: &Key, listing: &Arc<Listing>| u32::try_from(listing.size).unwrap_or(u32::MAX);
        let shown = Cache::builder().weigher(weight).max_capacity(REMEMBERED_BYTES);
        Self {
            shown: shown.time_to_idle(REMEMBERED).build(),
            words: Words::default(),
            waited: Cache::builder().max_capacity(WAITED).time_to_live(IN_VAIN).build(),
        }
    }
}

impl Lists {
    fn get(&self, visitor: &Visitor<'_>, kind: ListKind) -> Option<Arc<Listing>> {
        self.shown.get(&key(visitor, kind))
    }

    fn remember(&self, visitor: &Visitor<'_>, kind: ListKind, listing: &Arc<Listing>) {
        self.shown.insert(key(visitor, kind), Arc::clone(listing));
    }

    /// What a client was shown of resources.
    fn known(&self, client: &Client, subject: &Arc<str>, consumer: &ConsumerRef) -> Known {
        let of = |kind| (client.clone(), Arc::clone(subject), consumer.to_string(), kind);
        Known {
            resources: self.shown.get(&of(ListKind::Resources)),
            templates: self.shown.get(&of(ListKind::Templates)),
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

    /// Whether an answer for this client is to wait for lists of resources; what became of it is told to [`Self::waited_in_vain`].
    pub(super) fn waits_for_uris(&self, visitor: &Visitor<'_>) -> bool {
        !self.lists.waited.contains_key(&key(visitor, ListKind::Resources))
    }

    /// An answer has waited, and the lists did not come.
    pub(super) fn waited_in_vain(&self, visitor: &Visitor<'_>) {
        self.lists.waited.insert(key(visitor, ListKind::Resources), ());
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

    /// Which server has a resource that the client subscribes to, or unsubscribes from, by this URI. It is told of changes by the same.
    pub(crate) async fn subscribable(
        &self,
        visitor: &Visitor<'_>,
        uri: &str,
        subscribes: bool,
    ) -> Result<Found, CallError> {
        let found = self.resource(visitor, uri).await?;
        match subscribes {
            true => self.lists.words.subscribed(&visitor.client, &found, uri),
            false => self.lists.words.unsubscribed(&visitor.client, &found),
        }
        Ok(found)
    }

    /// The URI by which a client is told that a resource has changed: one by which it has subscribed, or else knows it. `None`: what has changed is
    /// not the server's, or this is not `wanted`.
    pub(crate) fn exposed_uri(
        &self,
        client: &Client,
        subject: &Arc<str>,
        consumer: &ConsumerRef,
        updated: &Updated,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let Updated { installation, uri, .. } = updated;
        let words = self.subscribed_as(client, installation, uri);
        if let Some(words) = words.iter().find(|words| wanted(words)) {
            return Some(words.to_string());
        }
        let known = self.lists.known(client, subject, consumer);
        let known = known.updated(Of::Installation(installation), uri);
        known.filter(|known| wanted(known))
    }

    /// By which URIs a client has subscribed to what this installation's server calls `own`, the last first.
    pub(super) fn subscribed_as(&self, client: &Client, installation: &str, own: &str) -> Vec<Arc<str>> {
        let snapshot = self.store.load().ok();
        let made = snapshot.and_then(|snapshot| snapshot.installation(installation).map(Arc::clone));
        made.map(|made| self.lists.words.of(client, &made.entry_uid, installation, own))
            .unwrap_or_default()
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
