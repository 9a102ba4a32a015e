//! What workloads get: the secrets of an installation and of its entry, for one destination, for a while.

use std::{sync::Arc, time::Duration};

use registry_model::destination::Foreign;
use secrecy::SecretString;

use super::{
    credentials::Credentials,
    destination::Moved,
    error::Error,
    owner::{Owner, Source},
    plan::Plan,
    ports::{Registry, Store},
    readiness::Readiness,
    record::Opened,
    vend::{Secrets, Vended},
};

/// What is vended is good for so long.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a vend waits for news of the registry that its caller has already.
const CATCH_UP: Duration = Duration::from_millis(500);

/// The generations of an installation's own secrets and of its entry's. Both 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generations {
    pub(crate) own: i64,
    pub(crate) entry: i64,
}

/// What an installation's credential comes to at one moment.
struct State {
    plan: Arc<Plan>,
    foreign: Option<Foreign>,
    deleted: bool,
    secrets: Secrets,
}

impl State {
    fn generations(&self) -> Generations {
        Generations {
            own: self.secrets.own.record.generation,
            entry: self.secrets.entry.record.generation,
        }
    }

    fn refusal(&self) -> Option<Error> {
        let present = self.plan.bound(self.foreign.as_ref(), Some(&self.secrets.entry.record));
        let own = Readiness::of(&self.plan, present, Source::Prompted, &self.secrets.own.record);
        // What an admin stored goes with the entry, whatever an installation's values are.
        let entry = Readiness::of(
            &self.plan,
            self.plan.binding(None),
            Source::Stored,
            &self.secrets.entry.record,
        );
        refusal(&own, &entry)
    }
}

impl<S: Store, R: Registry> Credentials<S, R> {
    /// The headers that carry an installation's secrets to `destination`: newer ones than those that were `rejected`.
    pub(crate) async fn vend_headers(
        &self,
        uid: &str,
        destination: &str,
        rejected: Generations,
    ) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        let present = state.generations();
        let any = rejected.own != 0 || rejected.entry != 0;
        if any && present.own <= rejected.own && present.entry <= rejected.entry {
            return Err(Error::CredentialExpired);
        }
        Ok(self.vended(state.secrets.headers(&state.plan), present))
    }

    /// The secrets that an installation's server gets when it starts.
    pub(crate) async fn vend_runtime(&self, uid: &str, destination: &str) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        Ok(self.vended(state.secrets.runtime(&state.plan), state.generations()))
    }

    fn vended(&self, secrets: Vec<(String, SecretString)>, generations: Generations) -> Vended {
        Vended {
            secrets,
            generation: generations.own,
            entry_credential_generation: generations.entry,
            expire_time: self.clock.now() + LIFETIME,
        }
    }

    /// The state of an installation whose secrets may go to `destination`. A caller may be ahead of our watch: what does not
    /// fit is looked at again once more is known.
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
                // The caller is not where we are, though it was waited for.
                let moved = Moved {
                    bound: state.secrets.own.record.bound_destination.clone(),
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

    /// Everything about one installation, as of one moment; `None` if the registry has not told of it, or of what it runs.
    async fn state(&self, uid: &str) -> Result<Option<State>, Error> {
        let views = self.views.read().await;
        let Some(view) = views.installation(uid) else {
            return Ok(None);
        };
        let Some(plan) = views.plan(view) else {
            return Ok(None);
        };
        let owner = Owner::Installation(uid.to_owned());
        let own = self.open(&owner, plan, view.shown.credential_generation).await?;
        let owner = Owner::Entry(view.entry_uid.clone());
        let told = views.told(&owner);
        let entry = if plan.has(Source::Stored) {
            self.open(&owner, plan, told).await?
        } else {
            // Its generation is answered all the same: callers compare it with what the registry shows.
            Opened {
                record: self.describe(&owner, told).await?,
                ..Opened::default()
            }
        };
        Ok(Some(State {
            plan: Arc::clone(plan),
            foreign: view.foreign.clone(),
            deleted: view.deleted,
            secrets: Secrets { own, entry },
        }))
    }
}

/// The error of a call that wants secrets of an installation and of its entry, where there are none to give.
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
