//! Under which tokens clients with sessions follow the progress of their requests, also when a request has become a task and is answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    client::Client,
    message::Outgoing,
    progress::{Progress, ProgressToken},
    target::{Scope, SessionKey, Target},
};

/// How long a token is remembered after it was last used, and how many bytes of all clients. Of more, those that were used last are kept.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
const BYTES: u64 = 16 << 20;
/// What a token costs besides itself.
const OWN_BYTES: usize = 300;

/// Tokens of the gateway's, each with the session that it is of and the token of the client's.
#[derive(Debug)]
pub(super) struct ProgressTokens(Cache<u64, Arc<(Client, Arc<str>, Bytes)>>);

impl Default for ProgressTokens {
    fn default() -> Self {
        let weight =
            |_: &u64, of: &Arc<(Client, Arc<str>, Bytes)>| u32::try_from(OWN_BYTES + of.2.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru()).weigher(weight);
        Self(cache.max_capacity(BYTES).time_to_idle(REMEMBERED).build())
    }
}

impl ProgressTokens {
    /// The client with this session makes this request.
    pub(super) fn remember(&self, target: &Target, request: &Outgoing) {
        if let Some(client) = with_session(target.key())
            && let Some(ProgressToken { own, shown }) = request.progress_token()
        {
            // The text of the client's request is not kept.
            let shown = Bytes::copy_from_slice(&shown);
            let of = (client.clone(), Arc::clone(target.installation()), shown);
            self.0.insert(own, Arc::new(of));
        }
    }

    /// A notification as the client gets it; `None`: it has requested none of that.
    pub(super) fn shown(&self, target: &Target, progress: &Progress) -> Option<Bytes> {
        let client = with_session(target.key())?;
        let known = self.0.get(&progress.own)?;
        let (whose, installation, shown) = &*known;
        let token = ProgressToken {
            own: progress.own,
            shown: shown.clone(),
        };
        let is_of_it = whose == client && installation == target.installation();
        is_of_it.then(|| progress.under(&token)).flatten()
    }
}

fn with_session(key: &SessionKey) -> Option<&Client> {
    match &key.scope {
        Scope::Client(client @ Client::Session(_)) => Some(client),
        _ => None,
    }
}
