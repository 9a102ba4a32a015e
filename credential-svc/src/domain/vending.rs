//! What workloads get: the secrets of an installation and of its entry, for one destination and a limited time.

use std::{sync::Arc, time::Duration};

use registry_model::destination::Foreign;
use secrecy::SecretString;

use super::{
    credentials::Credentials,
    destination::Moved,
    error::Error,
    owner::{Owner, Source},
    plan::Plan,
    ports::Store,
    readiness::Readiness,
    record::Record,
    rendering::{Secrets, Vended},
    validate,
};

/// How long workloads may use what is vended.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a vend waits for the watch to catch up with its caller.
const CATCH_UP: Duration = Duration::from_millis(500);

/// The generations of an installation's own secrets and of its entry's. Both 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generations {
    pub(crate) own: i64,
    pub(crate) entry: i64,
}

/// An installation's credential at one moment.
struct State {
    plan: Arc<Plan>,
    foreign: Option<Foreign>,
    deleted: bool,
    generations: Generations,
    secrets: Secrets,
}

impl State {
    fn refusal(&self) -> Option<Error> {
        let present = self.plan.bound(self.foreign.as_ref(), Some(&self.secrets.entry));
        let own = Readiness::of(&self.plan, present, Source::Prompted, &self.secrets.own);
        // The binding of secrets stored on the entry does not depend on an installation's values.
        let entry = Readiness::of(&self.plan, self.plan.binding(None), Source::Stored, &self.secrets.entry);
        refusal(&own, &entry)
    }
}

impl<S: Store, R> Credentials<S, R> {
    /// The headers that carry an installation's secrets to `destination`. Fails with `CredentialExpired` unless they are newer than those
    /// that were `rejected`.
    pub(crate) async fn vend_headers(
        &self,
        uid: &str,
        destination: &str,
        rejected: Generations,
    ) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        let present = state.generations;
        let any = rejected.own != 0 || rejected.entry != 0;
        if any && present.own <= rejected.own && present.entry <= rejected.entry {
            return Err(Error::CredentialExpired);
        }
        Ok(self.vended(state.secrets.headers(&state.plan), present))
    }

    /// The secrets that an installation's server gets when it starts.
    pub(crate) async fn vend_runtime(&self, uid: &str, destination: &str) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        Ok(self.vended(state.secrets.runtime(&state.plan), state.generations))
    }

    fn vended(&self, secrets: Vec<(String, SecretString)>, generations: Generations) -> Vended {
        Vended {
            secrets,
            generation: generations.own,
            entry_credential_generation: generations.entry,
            expire_time: self.clock.now() + LIFETIME,
        }
    }

    /// The state of an installation whose secrets may go to `destination`. Where they may not, the caller may be ahead of the watch: this
    /// waits for the next change before it fails.
    async fn ready_state(&self, uid: &str, destination: &str) -> Result<State, Error> {
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
    /// secrets have one source: all are prompted for, or all are stored on the entry.
    async fn state(&self, uid: &str) -> Result<Option<State>, Error> {
        let (plan, foreign, deleted, own, entry) = {
            let views = self.views();
            let Some(view) = views.installation(uid) else {
                return Ok(None);
            };
            let Some(plan) = views.plan(view) else { return Ok(None) };
            let entry = Owner::Entry(view.entry_uid.clone());
            (
                Arc::clone(plan),
                view.foreign.clone(),
                view.deleted,
                (Owner::Installation(uid.to_owned()), view.shown.credential_generation),
                (entry.clone(), views.reported(&entry)),
            )
        };
        let (own, entry) = tokio::try_join!(self.fitting(&plan, &own), self.fitting(&plan, &entry))?;
        Ok(Some(State {
            generations: Generations {
                own: own.generation,
                entry: entry.generation,
            },
            plan,
            foreign,
            deleted,
            secrets: Secrets { own, entry },
        }))
    }

    /// The record of an owner, without values that cannot go where the plan sends them. Where the plan has no fields from this source, the
    /// record is not read: callers need its generation only, and get the reported one.
    async fn fitting(&self, plan: &Plan, (owner, reported): &(Owner, i64)) -> Result<Record, Error> {
        let source = owner.source();
        if !plan.has(source) {
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
