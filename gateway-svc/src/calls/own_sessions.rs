//! What is known of the tools that servers show in clients' own sessions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};

use crate::{
    domain::{ListedTools, OwnTools},
    upstream::Client,
};

/// How long this is remembered after it was last used, and how many bytes of all clients. Of more, those that were used last are kept.
const REMEMBERED: Duration = Duration::from_secs(3600);
const BYTES: u64 = 64 << 20;
/// What a client costs besides its tools.
const OWN_BYTES: usize = 256;

/// What is known of the sessions of clients.
pub(super) struct OwnSessions(Cache<Client, Arc<Known>>);

/// Of one client, by the uids of installations.
#[derive(Clone, Default)]
struct Known {
    /// How often each server has said that its list changed.
    changes: HashMap<Arc<str>, u64>,
    /// Which of the changes the last list has.
    listed: HashMap<Arc<str>, u64>,
    tools: Arc<OwnTools>,
}

impl Default for OwnSessions {
    fn default() -> Self {
        let weight = |_: &Client, known: &Arc<Known>| u32::try_from(OWN_BYTES + known.tools.size()).unwrap_or(u32::MAX);
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self(
            cache
                .weigher(weight)
                .max_capacity(BYTES)
                .time_to_idle(REMEMBERED)
                .build(),
        )
    }
}

impl OwnSessions {
    /// A server has said in a session of this client that its list changed.
    pub(super) fn changed(&self, client: &Client, installation: &Arc<str>) {
        self.alter(client, true, |known| {
            *known.changes.entry(Arc::clone(installation)).or_default() += 1
        });
    }

    /// The client has another session, maybe in the place of one whose list was asked for.
    pub(super) fn reopened(&self, client: &Client) {
        self.alter(client, false, |known| {
            known.changes.values_mut().for_each(|changes| *changes += 1)
        });
    }

    /// What servers list for this client alone.
    pub(super) fn of(&self, client: &Client) -> Arc<OwnTools> {
        self.0
            .get(client)
            .map(|known| Arc::clone(&known.tools))
            .unwrap_or_default()
    }

    /// Whose lists have changed since they were last asked for, and how often.
    pub(super) fn due(&self, client: &Client) -> Vec<(Arc<str>, u64)> {
        let Some(known) = self.0.get(client) else {
            return Vec::new();
        };
        let due = known
            .changes
            .iter()
            .filter(|(uid, changes)| known.listed.get(*uid) != Some(changes));
        due.map(|(uid, changes)| (Arc::clone(uid), *changes)).collect()
    }

    /// A server has listed this after so many changes; `None`: what the registry knows.
    pub(super) fn listed(&self, client: &Client, installation: &Arc<str>, changes: u64, tools: Option<ListedTools>) {
        self.alter(client, true, |known| {
            known.listed.insert(Arc::clone(installation), changes);
            known.tools = Arc::new(known.tools.with(installation, tools));
        });
    }

    /// `anew`: also of a client that nothing is known of.
    fn alter(&self, client: &Client, anew: bool, change: impl FnOnce(&mut Known)) {
        self.0.entry_by_ref(client).and_compute_with(|known| {
            if known.is_none() && !anew {
                return Op::Nop;
            }
            let mut known = known.map(|known| (**known.value()).clone()).unwrap_or_default();
            change(&mut known);
            Op::Put(Arc::new(known))
        });
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::domain::Definition;

    fn tools(names: &[&str]) -> ListedTools {
        let definition = Arc::new(Definition::parse("{}").unwrap());
        let tool = |name: &&str| ((*name).into(), ("h".into(), Arc::clone(&definition)));
        names.iter().map(tool).collect()
    }

    /// A change that comes while the list is under way is not lost.
    #[test]
    fn a_list_is_asked_for_once_for_each_change() {
        let (own, client, uid) = (OwnSessions::default(), Client::Session([1; 12]), Arc::from("i"));
        own.reopened(&client);
        assert_eq!(own.due(&client), []);
        own.changed(&client, &uid);
        assert_eq!(own.due(&client), [(Arc::clone(&uid), 1)]);
        own.changed(&client, &uid);
        own.listed(&client, &uid, 1, Some(tools(&["a"])));
        assert_eq!(own.due(&client), [(Arc::clone(&uid), 2)]);
        own.listed(&client, &uid, 2, Some(tools(&["b"])));
        assert_eq!(own.due(&client), []);
        assert!(own.of(&client).of("i").unwrap().get("b").is_some());
        // Another session may show others.
        own.reopened(&client);
        assert_eq!(own.due(&client), [(Arc::clone(&uid), 3)]);
        own.listed(&client, &uid, 3, None);
        assert!(own.of(&client).of("i").is_none());
        assert!(own.of(&Client::Session([2; 12])).is_empty());
    }
}
