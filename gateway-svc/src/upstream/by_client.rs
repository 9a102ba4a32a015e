//! The index of the sessions that one client alone uses, by client.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    client::Client,
    open_session::OpenSession,
    session::Session,
    target::{Scope, SessionKey, Target},
};

/// How long a client that has ended is remembered: longer than a call that was under way then can take to open a session.
const ENDED: Duration = Duration::from_secs(3600);
const MAX_ENDED: u64 = 50_000;

/// The sessions with [`Scope::Client`] that are kept, and the clients that have ended.
#[derive(Debug)]
pub(super) struct ByClient {
    open: Mutex<HashMap<Client, HashMap<SessionKey, OpenSession>>>,
    ended: Cache<Client, ()>,
}

impl Default for ByClient {
    fn default() -> Self {
        let ended = Cache::builder()
            .max_capacity(MAX_ENDED)
            .time_to_live(ENDED)
            // The default policy would keep the oldest and not admit new ones.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            open: Mutex::default(),
            ended,
        }
    }
}

impl ByClient {
    fn open(&self) -> MutexGuard<'_, HashMap<Client, HashMap<SessionKey, OpenSession>>> {
        // Nothing panics between two changes that belong together.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session; returns those of its client that it takes the place of: what the installation runs or is called with has changed since. `None`:
    /// the client has ended, and the session must end, too.
    pub(super) fn add(
        &self,
        client: &Client,
        target: &Arc<Target>,
        session: &Arc<Session>,
    ) -> Option<Vec<OpenSession>> {
        let mut open = self.open();
        // Under the lock: `end` first remembers the client, then takes its sessions, and misses none.
        if self.has_ended(client) {
            return None;
        }
        let own = open.entry(client.clone()).or_default();
        let is_replaced = |key: &SessionKey| key.installation == target.key.installation && *key != target.key;
        let replaced = own.extract_if(|key, _| is_replaced(key)).map(|(_, replaced)| replaced);
        let replaced = replaced.collect();
        let (target, session) = (Arc::clone(target), Arc::clone(session));
        own.insert(target.key.clone(), OpenSession { target, session });
        Some(replaced)
    }

    pub(super) fn has_ended(&self, client: &Client) -> bool {
        self.ended.contains_key(client)
    }

    /// Removes a session that is not kept any more.
    pub(super) fn remove(&self, key: &SessionKey, session: &Arc<Session>) {
        let Scope::Client(client) = &key.scope else {
            return;
        };
        let mut open = self.open();
        let Some(own) = open.get_mut(client) else {
            return;
        };
        // Another may have been opened under the same key.
        if own
            .get(key)
            .is_some_and(|current| Arc::ptr_eq(&current.session, session))
        {
            own.remove(key);
        }
        if own.is_empty() {
            open.remove(client);
        }
    }

    /// The installations that a client has sessions with, by their uids.
    pub(super) fn installations(&self, client: &Client) -> BTreeSet<Arc<str>> {
        let open = self.open();
        let own = open.get(client).into_iter().flat_map(HashMap::keys);
        own.map(|key| Arc::clone(&key.installation)).collect()
    }

    /// The sessions of a client.
    pub(super) fn sessions(&self, client: &Client) -> Vec<OpenSession> {
        let open = self.open();
        let own = open.get(client).into_iter().flat_map(HashMap::values);
        own.cloned().collect()
    }

    /// The clients that have sessions.
    #[cfg(test)]
    pub(super) fn clients(&self) -> Vec<Client> {
        self.open().keys().cloned().collect()
    }

    /// Remembers that the client has ended, and takes its sessions out.
    pub(super) fn end(&self, client: Client) -> HashMap<SessionKey, OpenSession> {
        self.ended.insert(client.clone(), ());
        self.open().remove(&client).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::upstream::{Endpoint, tests::target_for};

    fn target(client: &Client, installation: &str) -> Arc<Target> {
        let endpoint = Endpoint::hosted("http://127.0.0.1:1/mcp").unwrap();
        let scope = Scope::Client(client.clone());
        Arc::new(target_for(installation, endpoint, scope))
    }

    fn session() -> Arc<Session> {
        Arc::new(Session::new(None, Arc::new(Semaphore::new(1))))
    }

    /// What ending a client costs does not grow with the sessions of others.
    #[test]
    fn the_end_of_a_client_takes_its_own_sessions_and_looks_at_no_others() {
        let own = ByClient::default();
        let client = |n: u32| Client::Caller(format!("users/{n}").into());
        for n in 0..1000 {
            for installation in ["a", "b"] {
                let target = target(&client(n), installation);
                assert!(own.add(&client(n), &target, &session()).is_some());
            }
        }
        let ended = own.end(client(7));
        let mut ended: Vec<_> = ended.into_keys().map(|key| (key.scope, key.installation)).collect();
        ended.sort_by(|(_, a), (_, b)| a.cmp(b));
        let expected = ["a", "b"].map(|installation| (Scope::Client(client(7)), installation.into()));
        assert_eq!(ended, expected);
        assert_eq!(own.open().len(), 999);
    }

    #[test]
    fn a_client_that_has_ended_gets_no_further_session() {
        let own = ByClient::default();
        let [client, other] = [1, 2].map(|id| Client::Session([id; 12]));
        assert!(own.end(client.clone()).is_empty());
        assert!(own.add(&client, &target(&client, "a"), &session()).is_none());
        assert!(own.add(&other, &target(&other, "a"), &session()).is_some());
    }

    /// The notice of one that is not kept any more may come when the next is there.
    #[test]
    fn a_session_that_replaced_another_stays() {
        let own = ByClient::default();
        let client = Client::Session([1; 12]);
        let target = target(&client, "a");
        let (first, second) = (session(), session());
        own.add(&client, &target, &first);
        own.add(&client, &target, &second);
        own.remove(&target.key, &first);
        assert!(Arc::ptr_eq(&own.open()[&client][&target.key].session, &second));
        own.remove(&target.key, &second);
        assert!(own.open().is_empty());
    }
}
