//! Which clients of a server have subscribed to which resources. The server has one client, this bridge: what one client of the bridge no longer
//! needs, others may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard, PoisonError},
};

use serde_json::json;
use tokio::time::timeout;

use super::Session;
use crate::envelope::Members;

pub(super) const UPDATED: &str = "notifications/resources/updated";
const SUBSCRIBE: &str = "resources/subscribe";
const UNSUBSCRIBE: &str = "resources/unsubscribe";
/// Pairs of a client and a URI. Those who come later are told of nothing.
const MOST: usize = 10_000;
const LONGEST: usize = 2 << 10;

/// Clients, by the URIs that they have subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    by_uri: BTreeMap<String, BTreeSet<String>>,
    pairs: usize,
}

impl Subscribers {
    fn add(&mut self, client: &str, uri: String) {
        if self.pairs < MOST && uri.len() <= LONGEST {
            self.pairs += usize::from(self.by_uri.entry(uri).or_default().insert(client.to_owned()));
        }
    }

    /// Returns whether others have subscribed to it.
    fn remove(&mut self, client: &str, uri: &str) -> bool {
        let Some(clients) = self.by_uri.get_mut(uri) else {
            return false;
        };
        self.pairs -= usize::from(clients.remove(client));
        let others = !clients.is_empty();
        if !others {
            self.by_uri.remove(uri);
        }
        others
    }

    /// Returns what nobody has subscribed to any more.
    fn forget(&mut self, client: &str) -> Vec<String> {
        let own = self.by_uri.iter().filter(|(_, clients)| clients.contains(client));
        let own: Vec<String> = own.map(|(uri, _)| uri.clone()).collect();
        own.into_iter().filter(|uri| !self.remove(client, uri)).collect()
    }

    /// Whether the client has subscribed to this resource, or to one that it is a part of.
    fn has(&self, client: &str, uri: &str) -> bool {
        let up_to = |end: usize| {
            let clients = uri.get(..end).and_then(|uri| self.by_uri.get(uri));
            clients.is_some_and(|clients| clients.contains(client))
        };
        let parts = uri.match_indices(['/', '#', '?']);
        up_to(uri.len()) || parts.into_iter().any(|(at, _)| up_to(at) || up_to(at + 1))
    }
}

impl Session {
    /// Takes note of a request of a client, if it is about a resource's changes. True: it must not be sent to the server, which is to tell others
    /// of them, and is answered with an empty result.
    pub(crate) fn notes_subscription(&self, client: &str, request: &Members<'_>) -> bool {
        let uri = || request.object("params")?.string("uri");
        match request.string("method").as_deref() {
            Some(SUBSCRIBE) if !self.alone => {
                if let Some(uri) = uri() {
                    self.subscribers().add(client, uri);
                }
                false
            }
            Some(UNSUBSCRIBE) if !self.alone => uri().is_some_and(|uri| self.subscribers().remove(client, &uri)),
            _ => false,
        }
    }

    /// A client has gone: what nobody else has subscribed to, the server is to tell of no more.
    pub(crate) fn left(self: &Arc<Self>, client: &str) {
        let over = self.subscribers().forget(client);
        if over.is_empty() {
            return;
        }
        let session = Arc::clone(self);
        tokio::spawn(async move {
            for uri in over {
                let request = json!({"jsonrpc": "2.0", "id": 0, "method": UNSUBSCRIBE, "params": {"uri": uri}});
                let request = request.to_string();
                let request = Members::parse(request.as_bytes()).expect("valid JSON");
                let Ok(waiting) = session.request("", &request, false).await else {
                    return;
                };
                if timeout(session.limits.request(), waiting.answer).await.is_err() {
                    session.give_up(waiting.internal_id, "timeout").await;
                }
            }
        });
    }

    /// Whether this client is to be told that a resource has changed.
    pub(super) fn has_subscribed(&self, client: &str, uri: &str) -> bool {
        self.subscribers().has(client, uri)
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_one_no_longer_needs_others_may() {
        let mut subscribers = Subscribers::default();
        for (client, uri) in [("a", "x:/1"), ("b", "x:/1"), ("a", "x:/2"), ("a", "x:/2")] {
            subscribers.add(client, uri.to_owned());
        }
        assert_eq!(subscribers.pairs, 3);
        assert!(subscribers.has("a", "x:/1") && subscribers.has("b", "x:/1/part"));
        assert!(!subscribers.has("b", "x:/2") && !subscribers.has("b", "x:/11"));
        assert!(subscribers.remove("b", "x:/1"));
        assert!(!subscribers.remove("b", "x:/3"));
        assert_eq!(subscribers.forget("a"), ["x:/1", "x:/2"]);
        assert_eq!((subscribers.pairs, subscribers.by_uri.len()), (0, 0));
    }
}
