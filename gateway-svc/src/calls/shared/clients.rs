//! For whom the sessions are received that several clients share.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::upstream::{Client, Heard, MOST_SUBSCRIBED, SessionKey, is_part_of};

/// The sessions that are received.
#[derive(Debug, Default)]
pub(in crate::calls) struct SharedSessions(Mutex<HashMap<SessionKey, Received>>);

/// A session that is received.
#[derive(Debug)]
struct Received {
    /// For whom, and the URIs that each has subscribed to, as the server knows them.
    clients: HashMap<Client, HashSet<Box<str>>>,
    /// Whether it is known by now whether its server has a stream.
    begun: watch::Sender<bool>,
}

impl SharedSessions {
    /// A client uses a session, and has subscribed to this: it is told from now on what the server says. Also returns whether the session was
    /// received for nobody.
    pub(super) fn join(
        &self,
        client: &Client,
        key: &SessionKey,
        uri: Option<Box<str>>,
    ) -> (watch::Receiver<bool>, bool) {
        let mut sessions = self.lock();
        let is_new = !sessions.contains_key(key);
        let received = sessions.entry(key.clone()).or_insert_with(|| Received {
            clients: HashMap::new(),
            begun: watch::Sender::new(false),
        });
        received.clients.entry(client.clone()).or_default().extend(uri);
        (received.begun.subscribe(), is_new)
    }

    pub(super) fn is_full(&self, client: &Client, key: &SessionKey, uri: &str) -> bool {
        let sessions = self.lock();
        let own = sessions.get(key).and_then(|received| received.clients.get(client));
        own.is_some_and(|own| own.len() >= MOST_SUBSCRIBED && !own.contains(uri))
    }

    /// Returns whether others have subscribed to it.
    pub(super) fn unsubscribe(&self, client: &Client, key: &SessionKey, uri: &str) -> bool {
        let mut sessions = self.lock();
        let Some(Received { clients, .. }) = sessions.get_mut(key) else {
            return false;
        };
        if let Some(own) = clients.get_mut(client) {
            own.remove(uri);
        }
        clients.values().any(|own| own.contains(uri))
    }

    pub(super) fn begun(&self, key: &SessionKey) {
        if let Some(received) = self.lock().get(key) {
            received.begun.send_replace(true);
        }
    }

    /// What all have subscribed to.
    pub(super) fn uris(&self, key: &SessionKey) -> HashSet<Box<str>> {
        let sessions = self.lock();
        let own = sessions
            .get(key)
            .into_iter()
            .flat_map(|received| received.clients.values());
        own.flatten().cloned().collect()
    }

    /// Whom this is for.
    pub(super) fn told(&self, key: &SessionKey, heard: &Heard) -> Vec<Client> {
        let sessions = self.lock();
        let clients = sessions.get(key).into_iter().flat_map(|received| &received.clients);
        let told = clients.filter(|(_, own)| match heard {
            Heard::Changed(_) => true,
            Heard::Updated(updated) => {
                own.contains(&*updated.uri) || own.iter().any(|known| is_part_of(&updated.uri, known))
            }
            _ => false,
        });
        told.map(|(client, _)| client.clone()).collect()
    }

    /// Forgets the clients that this is not said of; returns what nobody has subscribed to since. `None`: nobody is left.
    pub(super) fn keep(&self, key: &SessionKey, listens: impl Fn(&Client) -> bool) -> Option<Vec<Box<str>>> {
        let mut sessions = self.lock();
        let clients = &mut sessions.get_mut(key)?.clients;
        let mut over: HashSet<Box<str>> = HashSet::new();
        for (_, own) in clients.extract_if(|client, _| !listens(client)) {
            over.extend(own);
        }
        if clients.is_empty() {
            sessions.remove(key);
            return None;
        }
        for uri in clients.values().flatten() {
            over.remove(uri);
        }
        Some(over.into_iter().collect())
    }

    /// It is received no longer.
    pub(super) fn remove(&self, key: &SessionKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Received>> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
