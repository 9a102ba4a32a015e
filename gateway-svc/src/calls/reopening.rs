//! Sessions that servers have lost, of clients that listen: one that makes no call would hear nothing more.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use moka::sync::Cache;
use tokio::{select, time::sleep};

use super::{
    Calls,
    delays::{LONGEST, delays},
    targets,
};
use crate::upstream::{Client, OpenSession, Target, UpstreamError};

/// Clients at servers of which it is remembered how often they have lost a session, and for how long after the last time: longer than is waited.
const LOST: u64 = 50_000;
const REMEMBERED: Duration = Duration::from_secs(300);

/// How often servers have lost clients' sessions.
pub(super) struct Lost(Cache<(Client, Arc<str>), usize>);

impl Default for Lost {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(LOST).time_to_live(REMEMBERED).build())
    }
}

impl Lost {
    /// How often that was before.
    fn again(&self, client: &Client, installation: &Arc<str>) -> usize {
        let key = (client.clone(), Arc::clone(installation));
        let before = self.0.get(&key).unwrap_or_default();
        self.0.insert(key, before + 1);
        before
    }
}

impl Calls {
    /// Opens a session in the place of one that its server has lost, as soon as the server is there, in the background. Pauses are longer for a server that
    /// loses them again and again, but not for one that cannot be reached.
    pub(super) fn reopen(self: &Arc<Self>, client: &Client, lost: &OpenSession) {
        let (this, client, lost) = (Arc::clone(self), client.clone(), lost.clone());
        self.upstreams.in_background(async move {
            select! {
                () = this.reopened(&client, &lost) => {}
                () = this.stop.cancelled() => {}
            }
        });
    }

    async fn reopened(&self, client: &Client, lost: &OpenSession) {
        let installation = lost.target.installation();
        let before = self.lost.again(client, installation);
        let mut delays = delays().skip(before);
        let has_another = || {
            let mut sessions = self.upstreams.sessions_of(client).into_iter();
            sessions.any(|session| session.target.installation() == installation && !session.is_lost())
        };
        let is_wanted = || self.may_be_heard(client, lost) && !has_another();
        loop {
            sleep(delays.next().unwrap_or(LONGEST)).await;
            if !is_wanted() {
                return;
            }
            let attempt = || async {
                // It may have waited long for a server that could not be reached.
                if !is_wanted() {
                    return None;
                }
                let target = self.now(lost).await?;
                Some(self.upstreams.reopen(lost, &target).await)
            };
            match self.upstreams.once_reachable(&lost.target, attempt).await {
                Some(Ok(()) | Err(UpstreamError::Cancelled)) => return,
                Some(Err(error)) => {
                    tracing::debug!(installation.uid = %installation, error = %error, "a session that was lost cannot be opened again");
                }
                None => {}
            }
        }
    }

    /// Whether the server of a session is somewhere else by now.
    pub(super) async fn has_moved(&self, session: &OpenSession) -> bool {
        let now = self.now(session).await;
        now.is_some_and(|now| now.key() != session.key())
    }

    /// Where the server of a session is at this moment. `None`: it is not there, or only the client's next call knows what it is called with.
    async fn now(&self, session: &OpenSession) -> Option<Arc<Target>> {
        let before = &session.target;
        let (running, vended) = self.vended(before.installation(), None).await?;
        let scope = before.key().scope().clone();
        let now = targets::target(&running, vended.generations, before.revision(), HeaderMap::new(), scope).ok()?;
        before.moved(&now, &vended.headers).map(Arc::new)
    }
}
