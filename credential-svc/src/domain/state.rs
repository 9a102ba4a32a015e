//! An installation's credential at one moment, as workloads ask for it.

use std::{sync::Arc, time::Duration};

use registry_model::destination::Foreign;

use super::{
    authorization::asked::Generations,
    credentials::Credentials,
    destination::Moved,
    error::Error,
    owner::{Owner, Source},
    plan::Plan,
    ports::Store,
    readiness::Readiness,
    record::Record,
    rendering::Secrets,
    validate,
};

/// How long a vend waits for the watch to catch up with its caller.
const CATCH_UP: Duration = Duration::from_millis(500);

/// An installation's credential at one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) plan: Arc<Plan>,
    pub(super) entry: Owner,
    /// Number of the entry revision that it runs.
    pub(super) entry_revision: i64,
    pub(super) deleted: bool,
    pub(super) generations: Generations,
    pub(super) secrets: Secrets,
    foreign: Option<Foreign>,
}

impl State {
    /// Why none of the secrets may be vended. Whether there is a token is another question.
    fn refusal(&self) -> Option<Error> {
        let present = self.plan.bound(self.foreign.as_ref(), Some(&self.secrets.entry));
        let own = Readiness::of_fields(&self.plan, present, Source::Prompted, &self.secrets.own);
        // The binding of secrets stored on the entry does not depend on an installation's values.
        let entry = Readiness::of_fields(&self.plan, self.plan.binding(None), Source::Stored, &self.secrets.entry);
        refusal(&own, &entry)
    }
}

impl<S: Store, R, A> Credentials<S, R, A> {
    /// The state of an installation whose secrets may go to `destination`. Where they may not, the caller may be ahead of the watch: this
    /// waits for the next change before it fails.
    pub(super) async fn ready_state(&self, uid: &str, destination: &str) -> Result<State, Error> {
        let mut seen = self.seen.subscribe();
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        loop {
            let is_loaded = *seen.borrow_and_update() > 0;
            let state = self.state(uid).await?;
            let fits = state
                .as_ref()
                .is_some_and(|state| state.plan.binding(state.foreign.as_ref()).as_deref() == Some(destination));
            if !fits
                && tokio::time::timeout_at(deadline, seen.changed())
                    .await
                    .is_ok_and(|changed| changed.is_ok())
            {
                continue;
            }
            if !is_loaded {
                return Err(Error::RegistryUnavailable);
            }
            let state = state
                .filter(|state| !state.deleted)
                .ok_or_else(|| Error::NotFound(format!("the installation {uid}")))?;
            if !fits {
                // The caller and this service disagree, and the watch brought nothing in time.
                let moved = Moved {
                    bound: state.secrets.own.bound_destination.clone(),
                    present: destination.to_owned(),
                };
                return Err(Error::DestinationChanged(Source::Prompted, moved));
            }
            return match state.refusal() {
                Some(error) => Err(error),
                None => Ok(state),
            };
        }
    }

    /// Everything about one installation; `None` if the watch has not brought it, or the entry revision it runs. Reads one record where
    /// secrets have one source: all are the installation's, or all are stored on the entry.
    pub(super) async fn state(&self, uid: &str) -> Result<Option<State>, Error> {
        let (plan, entry_revision, foreign, deleted, own, entry) = {
            let views = self.views();
            let Some(view) = views.installation(uid) else {
                return Ok(None);
            };
            let Some(plan) = views.plan(view) else { return Ok(None) };
            let entry = Owner::Entry(view.entry_uid.clone());
            (
                Arc::clone(plan),
                view.entry_revision,
                view.foreign.clone(),
                view.deleted,
                (Owner::Installation(uid.to_owned()), view.shown.credential_generation),
                (entry.clone(), views.reported(&entry)),
            )
        };
        let (own_record, entry_record) = tokio::try_join!(self.fitting(&plan, &own), self.fitting(&plan, &entry))?;
        Ok(Some(State {
            generations: Generations {
                own: own_record.generation,
                entry: entry_record.generation,
            },
            plan,
            entry: entry.0,
            entry_revision,
            foreign,
            deleted,
            secrets: Secrets {
                own: own_record,
                entry: entry_record,
            },
        }))
    }

    /// The record of an owner, without values that cannot go where the plan sends them. Where the plan has nothing from this source, the
    /// record is not read: callers need its generation only, and get the reported one.
    async fn fitting(&self, plan: &Plan, (owner, reported): &(Owner, i64)) -> Result<Record, Error> {
        let source = owner.source();
        if !plan.has(source) && !plan.keeps_tokens(source) {
            return Ok(Record {
                generation: *reported,
                ..Record::default()
            });
        }
        Ok(validate::fitting(plan, source, self.record(owner, *reported).await?))
    }
}

/// Why nothing can be vended, given the readiness of an installation's own secrets and of its entry's.
fn refusal(own: &Readiness, entry: &Readiness) -> Option<Error> {
    for readiness in [own, entry] {
        if let Readiness::DestinationChanged { source, moved } = readiness {
            return Some(Error::DestinationChanged(*source, moved.clone()));
        }
    }
    let missing: Vec<&Readiness> = [own, entry].into_iter().filter(|one| !one.is_ready()).collect();
    let condition = missing.first()?.reason();
    let messages: Vec<String> = missing.iter().map(|one| one.message()).collect();
    Some(Error::CredentialRequired {
        message: messages.join("; "),
        condition,
    })
}
