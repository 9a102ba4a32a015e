//! What follows from a change: the registry is told how an installation or an entry stands, and what a deleted one leaves is
//! erased.

use super::{
    credentials::{Credentials, Done},
    error::Error,
    owner::Owner,
    ports::{Lagging, Registry, ReportError, Store},
    queue::Owed,
    record::{Record, Summary},
    report::Report,
    views::Subject,
};

impl<S: Store, R: Registry> Credentials<S, R> {
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

    /// Of these, the ones that [`Self::reconcile`] has something to do for. Looks at what the registry shows, and at all records
    /// in one read without opening a value: what a value decides, that it no longer fits where it goes, was decided when the
    /// generation was reported that the registry shows.
    pub(crate) async fn due(&self, owners: &[Owner]) -> Result<Vec<Owner>, Error> {
        let none = Record::default();
        let views = self.views.read().await;
        let mut asked = owners.to_vec();
        asked.extend(owners.iter().filter_map(|owner| views.of(owner)?.beside));
        let records = self.store.describe_many(&asked).await?;
        let is_due = |owner: &&Owner| {
            let Some(known) = views.of(owner) else { return false };
            let Some(plan) = known.plan else { return true };
            let record = records.get(*owner).unwrap_or(&none);
            let beside = known.beside.as_ref().and_then(|entry| records.get(entry));
            let present = plan.bound(known.foreign, beside);
            known.deleted
                || Report::of(&known, plan, present, owner.source(), record)
                    .is_some_and(|report| !known.shown.has(&report))
        };
        Ok(owners.iter().filter(is_due).cloned().collect())
    }

    /// Makes the registry know how the owner stands, and erases what a deleted one leaves.
    pub(crate) async fn reconcile(&self, owner: &Owner) -> Result<(), Error> {
        let deleted = self.views.read().await.of(owner).is_some_and(|known| known.deleted);
        if deleted {
            return self.clean_up(owner).await;
        }
        self.report(owner, false).await.map(drop)
    }

    async fn clean_up(&self, owner: &Owner) -> Result<(), Error> {
        {
            // Nobody may be in the middle of a put.
            let _views = self.views.write().await;
            self.store.erase(owner).await?;
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

    /// Reports an owner's condition. Without `always`, only where the registry has another one.
    async fn report(&self, owner: &Owner, always: bool) -> Result<Lagging, Error> {
        // One report of an owner at a time, each of the newest state: they cannot overtake one another.
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

    /// What to report of an owner as of this moment, if anything.
    async fn wanted(&self, owner: &Owner, always: bool) -> Result<Option<Report>, Error> {
        let views = self.views.read().await;
        let Some(known) = views.of(owner).filter(|known| !known.deleted) else {
            return Ok(None);
        };
        let plan = known.plan.ok_or(Error::RegistryUnavailable)?;
        let opened = self.open(owner, plan, known.shown.credential_generation).await?;
        let beside = self.beside(known.beside.as_ref()).await?;
        let present = plan.bound(known.foreign, beside.as_ref());
        let report = Report::of(&known, plan, present, owner.source(), &opened.record);
        Ok(report.filter(|report| always || !known.shown.has(report)))
    }
}
