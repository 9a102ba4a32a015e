//! What every operation stands on.

use std::time::Duration;

use service_kit::{Clock, User, Workload, egress::EgressPolicy, page_token::PageTokens};

use super::{
    propagation::{Propagated, Propagation},
    rollout::Rollouts,
};
use crate::{
    domain::{Actor, Caller, Error},
    store::{Db, Tx, users},
};

/// What all services of the registry stand on.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) pages: PageTokens,
    pub(crate) egress: EgressPolicy,
    pub(crate) pending_expiry: Duration,
    pub(crate) propagation: Propagation,
    pub(crate) rollouts: Rollouts,
}

impl Registry {
    /// What the registry knows of a verified user as of now.
    pub(crate) async fn known(&self, user: &User) -> Result<Caller, Error> {
        users::caller(&self.db, user, self.clock.now_micros())
            .await?
            .ok_or(Error::UserDeactivated)
    }

    /// Begins a transaction whose changes watchers see.
    pub(crate) async fn write(&self, actor: Actor) -> Result<Tx, Error> {
        Ok(self.db.write(actor, || self.clock.now_micros()).await?)
    }

    /// As [`Registry::write`], once `allowed` has let the caller pass in a reading transaction: a caller without permission does not delay
    /// others by taking the lock. The operation checks again in the transaction; admins are checked only there.
    pub(crate) async fn write_allowed<T>(
        &self,
        caller: &Caller,
        allowed: impl AsyncFnOnce(&mut Tx) -> Result<T, Error>,
    ) -> Result<Tx, Error> {
        if !caller.admin {
            let mut tx = self.db.read().await?;
            allowed(&mut tx).await?;
        }
        self.write(caller.actor()).await
    }

    /// Commits, and waits until every connected watcher of what changed has it in force, or two seconds have passed. With
    /// `awaited`, only for those workloads: a workload that reports in the middle of its work cannot acknowledge at the same time.
    pub(crate) async fn commit(&self, tx: Tx, awaited: Option<&[Workload]>) -> Result<Propagated, Error> {
        let commit = tx.commit().await?;
        Ok(self.propagation.wait(commit, awaited).await)
    }
}
