//! Where clients have been that do not listen, or may not hear what is said there. A client joins there again once it listens and may hear it.

use std::{sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::upstream::{Client, Target};

/// Clients of which this is remembered, and for how long.
const USED: u64 = 20_000;
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Where clients have been: the last target of each installation.
#[derive(Clone, Debug)]
pub(super) struct Used(Cache<Client, Arc<[Arc<Target>]>>);

impl Default for Used {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(USED).time_to_idle(REMEMBERED);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }
}

impl Used {
    pub(super) fn add(&self, client: &Client, target: &Arc<Target>) {
        let known = self.0.get(client).unwrap_or_default();
        if known.iter().all(|known| known.key() != target.key()) {
            let others = known
                .iter()
                .filter(|known| known.installation() != target.installation());
            self.0.insert(client.clone(), others.chain([target]).cloned().collect());
        }
    }

    pub(super) fn take(&self, client: &Client) -> Arc<[Arc<Target>]> {
        self.0.remove(client).unwrap_or_default()
    }
}
