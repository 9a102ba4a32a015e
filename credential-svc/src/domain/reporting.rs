//! What follows from a change: the condition of an installation or an entry is reported to the registry, and the secrets of a deleted
//! one are erased.

use super::{
    authorization::{grant::Grant, servers::AuthorizationServers},
    condition::Condition,
    credentials::{Credentials, TRIES},
    error::Error,
    owner::Owner,
    ports::{Lagging, Registry, ReportError, Store, StoreError, Version, Written},
    queue::Owed,
    record::Value,
    summary::Summary,
    validate,
    views::{Known, Subject},
};

/// The answer to a change, and the watchers that may not have it in force yet.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    pub(crate) lagging: Lagging,
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Reports a change that is stored, and returns once it is in force everywhere.
    pub(super) async fn announce(&self, subject: &Subject, owed: Owed, summary: Summary) -> Result<Done, Error> {
        let owner = subject.owner();
        let lagging = self
            .report(&owner, true)
            .await
            .inspect_err(|error| tracing::warn!(credential.owner = %owner, error = %error, "a stored change could not be reported yet"))
            .map_err(|_| Error::NotAnnounced)?;
        owed.settle();
        Ok(Done { summary, lagging })
    }

    /// Reports the owner's condition where the registry shows another one; erases the secrets of a deleted owner.
    pub(crate) async fn reconcile(&self, owner: &Owner) -> Result<(), Error> {
        if let Some(known) = self.known(owner).filter(|known| known.deleted) {
            return self.clean_up(owner, &known).await;
        }
        self.report(owner, false).await.map(drop)
    }

    async fn clean_up(&self, owner: &Owner, known: &Known) -> Result<(), Error> {
        // Another replica may have erased it.
        self.store.forget(owner);
        if self.erase(owner, known).await? {
            self.revoker.begin(owner);
        }
        match self.registry.report_cleanup(owner).await {
            Ok(()) | Err(ReportError::Unknown) => {
                tracing::debug!(credential.owner = %owner, "erased what a deleted owner left, if anything");
                Ok(())
            }
            Err(ReportError::Failed(cause)) => {
                tracing::warn!(credential.owner = %owner, error = %cause, "an erasure could not be reported yet");
                Err(Error::NotAnnounced)
            }
        }
    }

    /// Replaces an owner's secrets by a tombstone: a change in progress conflicts with it, and is refused. Returns whether it has something
    /// to revoke.
    async fn erase(&self, owner: &Owner, known: &Known) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let mut unrevoked = Vec::new();
            let version = match self.store.read(owner).await {
                // It may have been void until now, and a change in progress may expect its version.
                Ok(Some((version, Value::Erased { time, unrevoked: left }))) if self.views().is_newer(time) => {
                    unrevoked = left;
                    version
                }
                Ok(Some((_, Value::Erased { unrevoked, .. }))) => return Ok(!unrevoked.is_empty()),
                Ok(Some((version, Value::Record(record)))) => {
                    if let Some(plan) = &known.plan {
                        unrevoked = self.unrevoked(owner, plan, &record, known.entry.as_ref()).await;
                    }
                    version
                }
                Ok(None) => Version::NONE,
                Err(StoreError::Corrupt(cause)) => {
                    tracing::error!(credential.owner = %owner, error = %cause, "erasing a record that cannot be read");
                    self.store.delete(owner).await?;
                    Version::NONE
                }
                Err(error) => return Err(error.into()),
            };
            let time = self.clock.now_micros();
            let revokes = !unrevoked.is_empty();
            let tombstone = Value::Erased { time, unrevoked };
            if self.store.write(owner, version, tombstone).await? == Written::Done {
                return Ok(revokes);
            }
        }
        Err(Error::Contended)
    }

    /// Reports an owner's condition. Without `always`, only where the registry has another one.
    async fn report(&self, owner: &Owner, always: bool) -> Result<Lagging, Error> {
        // One report of an owner at a time, each of the newest state, so that an older one never arrives later.
        let lock = self.reporting.of(owner);
        let _guard = lock.lock().await;
        let Some(report) = self.wanted(owner, always).await? else {
            return Ok(Lagging::new());
        };
        match self.registry.report(owner, &report).await {
            Ok(lagging) => Ok(lagging),
            Err(ReportError::Unknown) => Ok(Lagging::new()),
            Err(ReportError::Failed(cause)) => {
                tracing::warn!(credential.owner = %owner, error = %cause, "the credential's condition could not be reported");
                Err(Error::NotAnnounced)
            }
        }
    }

    /// The report that is due for an owner now, if any.
    async fn wanted(&self, owner: &Owner, always: bool) -> Result<Option<Condition>, Error> {
        let Some(known) = self.known(owner).filter(|known| !known.deleted) else {
            return Ok(None);
        };
        let plan = known.plan.as_ref().ok_or(Error::RegistryUnavailable)?;
        let record = self.record(owner, known.shown.credential_generation).await?;
        if !record.tokens.unrevoked.is_empty() {
            // A process before this one may have left it.
            self.revoker.begin(owner);
        }
        let record = validate::fitting(plan, owner.source(), record);
        let entry = self.mixed_record(known.mixed_with.as_ref()).await?;
        let present = plan.bound(known.foreign.as_ref(), entry.as_ref());
        let now = self.clock.now_micros();
        let end = record.tokens.grant.as_ref().and_then(Grant::end);
        if let Some(end) = end.filter(|&end| end > now && plan.machine().is_none()) {
            self.queue.add_at(end, owner.clone());
        }
        let report = Condition::of(&known, plan, present, owner.source(), &record, now);
        Ok(report.filter(|report| always || !known.shown.has(report)))
    }
}
