//! Revokes tokens that are no longer used (RFC 7009). Nothing waits for it: a server that does not answer keeps no deletion.
//!
//! What is to be revoked is kept in the owner's value, or in its tombstone, until it is: it is tried again while this process runs, and by the next one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use service_kit::{Clock, clock::to_micros};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    grant::{Grant, Unrevoked},
    servers::{AuthorizationServers, Client, ServerError, TokenKind},
};
use crate::domain::{
    error::Error,
    owner::Owner,
    ports::{Store, StoreError, Written},
    records::Records,
};

/// How long the revocation of one grant may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Revocations that are made at once.
const AT_ONCE: usize = 16;
/// Owners whose revocations are tried again by this process. Others wait for the next one.
const OWNERS: usize = 1_000;
/// The pause after a revocation that failed. It doubles each time.
const FIRST: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(3_600);
/// How often a revocation is noted where other writers conflict with it, before that is left to the next attempt.
const TRIES: usize = 16;
/// After this time a revocation is given up, and what was to be revoked is forgotten.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Revokes what owners' values say.
pub(in crate::domain) struct Revoker<S, A>(Arc<Inner<S, A>>);

struct Inner<S, A> {
    store: Records<S>,
    servers: Arc<A>,
    /// As `Authorization::tasks`.
    tasks: TaskTracker,
    clock: Clock,
    turns: Semaphore,
    busy: Mutex<HashMap<Owner, Busy>>,
}

/// An owner whose tokens are being revoked.
#[derive(Default)]
struct Busy {
    /// More were added meanwhile.
    again: bool,
    wake: Arc<Notify>,
}

impl<S, A> fmt::Debug for Revoker<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").finish_non_exhaustive()
    }
}

impl<S: Store, A: AuthorizationServers> Revoker<S, A> {
    pub(in crate::domain) fn new(store: Records<S>, servers: Arc<A>, tasks: TaskTracker, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store,
            servers,
            tasks,
            clock,
            turns: Semaphore::new(AT_ONCE),
            busy: Mutex::default(),
        }))
    }

    /// Begins to revoke what the owner's value says.
    pub(in crate::domain) fn begin(&self, owner: &Owner) {
        let mut busy = self.0.busy();
        if let Some(busy) = busy.get_mut(owner) {
            busy.again = true;
            busy.wake.notify_one();
            return;
        }
        if busy.len() >= OWNERS {
            return;
        }
        busy.insert(owner.clone(), Busy::default());
        drop(busy);
        tokio::spawn(Arc::clone(&self.0).run(owner.clone()));
    }

    /// Begins to revoke tokens that were issued and never stored.
    pub(super) fn begin_unstored(&self, owner: &Owner, grant: Grant, client: Client) {
        let (inner, owner) = (Arc::clone(&self.0), owner.clone());
        self.0.tasks.spawn(async move {
            let unrevoked = grant.unrevoked(client, inner.clock.now_micros());
            if let Err(error) = inner.revoke(&unrevoked).await {
                tracing::warn!(credential.owner = %owner, error = %error, "tokens that were not stored could not be revoked");
            }
        });
    }
}

impl<S: Store, A: AuthorizationServers> Inner<S, A> {
    async fn run(self: Arc<Self>, owner: Owner) {
        let mut pause = FIRST;
        loop {
            let is_left = self.attempt(&owner).await;
            let wake = {
                let mut busy = self.busy();
                let Some(entry) = busy.get_mut(&owner) else { return };
                if std::mem::take(&mut entry.again) {
                    continue;
                }
                if !is_left {
                    busy.remove(&owner);
                    return;
                }
                Arc::clone(&entry.wake)
            };
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LAST),
                () = wake.notified() => {}
            }
        }
    }

    /// Revokes what the value says, and removes it there. Returns whether something is left.
    async fn attempt(&self, owner: &Owner) -> bool {
        let value = match self.store.read(owner).await {
            Ok(Some((_, value))) => value,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(credential.owner = %owner, error = %error, "what is to be revoked could not be read yet");
                return matches!(error, StoreError::Unavailable(_));
            }
        };
        let oldest = self.clock.now_micros() - to_micros(std::time::UNIX_EPOCH + PATIENCE);
        let mut settled = Vec::new();
        for one in value.unrevoked() {
            let given_up = match self.revoke(one).await {
                Ok(()) => None,
                Err(error @ ServerError::Refused { .. }) => Some(error),
                Err(error) if one.since < oldest => Some(error),
                Err(error) => {
                    tracing::warn!(credential.owner = %owner, error = %error, "tokens that are deleted could not be revoked; it is tried again");
                    continue;
                }
            };
            if let Some(error) = given_up {
                tracing::warn!(credential.owner = %owner, error = %error, "tokens that are deleted were not revoked");
            }
            settled.push(one.clone());
        }
        let count = value.unrevoked().len();
        match self.settle(owner, &settled).await {
            Ok(()) => settled.len() < count,
            Err(error) => {
                tracing::warn!(credential.owner = %owner, error = %error, "a revocation could not be noted yet");
                true
            }
        }
    }

    /// The refresh token first, since access tokens end with it at most servers, and by themselves.
    async fn revoke(&self, one: &Unrevoked) -> Result<(), ServerError> {
        let _turn = self.turns.acquire().await;
        let revoking = async {
            let metadata = self.servers.metadata(&one.server).await?;
            if let Some(refresh) = &one.refresh {
                self.servers
                    .revoke(&metadata, &one.client, refresh, TokenKind::Refresh)
                    .await?;
            }
            self.servers
                .revoke(&metadata, &one.client, &one.access, TokenKind::Access)
                .await
        };
        timeout(TIMEOUT, revoking).await.unwrap_or_else(|_| {
            Err(ServerError::Unavailable(
                "the authorization server did not answer in time".to_owned(),
            ))
        })
    }

    async fn settle(&self, owner: &Owner, settled: &[Unrevoked]) -> Result<(), Error> {
        let is_settled = |one: &Unrevoked| {
            settled
                .iter()
                .any(|of| of.access.expose_secret() == one.access.expose_secret())
        };
        for _ in 0..TRIES {
            let Some((version, mut value)) = self.store.read(owner).await? else {
                return Ok(());
            };
            if !value.unrevoked().iter().any(is_settled) {
                return Ok(());
            }
            value.unrevoked_mut().retain(|one| !is_settled(one));
            if self.store.write(owner, version, value).await? == Written::Done {
                return Ok(());
            }
        }
        Err(Error::Contended)
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<Owner, Busy>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
