//! An installation's credential at one moment, as workloads ask for it; and the secrets of a server that the installations of an entry share.

use std::{sync::Arc, time::Duration};

use registry_model::destination::ValuesByOthers;

use super::{
    authorization::{asked::Generations, attempts::Basis},
    credentials::Credentials,
    destination::Moved,
    error::Error,
    owner::{Owner, Source},
    plan::Plan,
    ports::Store,
    readiness::Readiness,
    record::Record,
    records::{Limit, Seen},
    rendering::Secrets,
    validate,
};

/// How long a vend waits for the watch to catch up with its caller.
const CATCH_UP: Duration = Duration::from_millis(500);

/// An installation's credential at one moment, or the secrets of a server that the installations of an entry share.
#[derive(Debug)]
pub(super) struct State {
    /// It is of a shared server, which gets none of the installations' own secrets.
    pub(super) shared: bool,
    pub(super) plan: Arc<Plan>,
    pub(super) entry: Owner,
    /// Number of the entry revision that it runs.
    pub(super) entry_revision: i64,
    pub(super) deleted: bool,
    pub(super) generations: Generations,
    pub(super) secrets: Secrets,
    /// When the records serve no longer (microseconds since 1970).
    pub(super) until: i64,
    foreign: Option<ValuesByOthers>,
}

/// What is known without the records.
struct Outline {
    shared: bool,
    plan: Arc<Plan>,
    entry_revision: i64,
    deleted: bool,
    foreign: Option<ValuesByOthers>,
    own: Part,
    entry: Part,
}

/// An owner whose record is a part of the state.
struct Part {
    owner: Owner,
    /// The generation that was reported last.
    reported: i64,
    /// Whether the plan has anything of it. If not, its record is not read: callers need its generation only, and get the reported one.
    is_used: bool,
}

impl Outline {
    fn with(self, own: Seen, entry: Seen) -> State {
        let until = own.until().min(entry.until());
        let shared = |seen: Seen, part: &Part| {
            let record = seen.record.unwrap_or_default();
            validate::fitting_shared(&self.plan, part.owner.source(), record)
        };
        let (own, entry) = (shared(own, &self.own), shared(entry, &self.entry));
        State {
            shared: self.shared,
            generations: Generations {
                own: own.generation,
                entry: entry.generation,
            },
            plan: self.plan,
            entry: self.entry.owner,
            entry_revision: self.entry_revision,
            deleted: self.deleted,
            secrets: Secrets { own, entry },
            until,
            foreign: self.foreign,
        }
    }
}

impl Part {
    /// In place of a record that is not read.
    fn unread(&self) -> Seen {
        let record = Record {
            generation: self.reported,
            ..Record::default()
        };
        Seen {
            record: Some(Arc::new(record)),
            asked: i64::MAX,
        }
    }
}

impl State {
    pub(super) fn basis(&self) -> Basis {
        Basis {
            generations: self.generations,
            entry_revision: self.entry_revision,
        }
    }

    fn is_bound_to(&self, destination: &str) -> bool {
        self.plan.binding(self.foreign.as_ref()).as_deref() == Some(destination)
    }

    /// Why none of the secrets may be vended. Whether there is a token is another question.
    fn refusal(&self) -> Option<Error> {
        let present = self.plan.bound(self.foreign.as_ref(), Some(&self.secrets.entry));
        let own = match self.shared {
            true => Readiness::NotRequired,
            false => Readiness::of_fields(&self.plan, present, Source::Prompted, &self.secrets.own),
        };
        // The binding of secrets stored on the entry does not depend on an installation's values.
        let entry = Readiness::of_fields(&self.plan, self.plan.binding(None), Source::Stored, &self.secrets.entry);
        refusal(&own, &entry)
    }
}

impl<S: Store, R, A> Credentials<S, R, A> {
    /// The state of an installation, or of an entry's shared server, whose secrets may go to `destination`. Where they may not, the caller may
    /// be ahead of the watch: this waits for the next change before it fails.
    pub(super) async fn ready_state(&self, owner: &Owner, destination: &str) -> Result<State, Error> {
        let mut seen = self.seen.subscribe();
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        loop {
            let is_loaded = *seen.borrow_and_update() > 0;
            let state = self.state(owner).await?;
            let fits = state.as_ref().is_some_and(|state| state.is_bound_to(destination));
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
                .ok_or_else(|| Error::NotFound(format!("the {} {}", owner.kind(), owner.uid())))?;
            if !fits {
                // The caller and this service disagree, and the watch brought nothing in time.
                let record = match owner {
                    Owner::Installation(_) => &state.secrets.own,
                    Owner::Entry(_) => &state.secrets.entry,
                };
                let moved = Moved {
                    bound: record.bound_destination.clone(),
                    present: destination.to_owned(),
                };
                return Err(Error::DestinationChanged(owner.source(), moved));
            }
            return match state.refusal() {
                Some(error) => Err(error),
                None => Ok(state),
            };
        }
    }

    /// Everything about one installation, or about an entry's shared server; `None` if the watch has not brought it, or the entry revision it runs.
    /// Reads one record where secrets have one source: all are the installation's, or all are stored on the entry.
    pub(super) async fn state(&self, owner: &Owner) -> Result<Option<State>, Error> {
        let Some(outline) = self.outline(owner) else {
            return Ok(None);
        };
        let (own, entry) = tokio::try_join!(self.latest(&outline.own), self.latest(&outline.entry))?;
        Ok(Some(outline.with(own, entry)))
    }

    /// The same of records that are kept, where all secrets may go to `destination`. `None` also where something newer is known to be
    /// stored.
    pub(super) fn kept_state(
        &self,
        owner: &Owner,
        destination: &str,
        known: Generations,
        limit: Limit,
    ) -> Option<State> {
        let outline = self.outline(owner)?;
        let own = self.kept(&outline.own, known.own, limit)?;
        let entry = self.kept(&outline.entry, known.entry, limit)?;
        let state = outline.with(own, entry);
        (!state.deleted && state.is_bound_to(destination) && state.refusal().is_none()).then_some(state)
    }

    fn outline(&self, owner: &Owner) -> Option<Outline> {
        match owner {
            Owner::Installation(uid) => self.installation_outline(uid),
            Owner::Entry(uid) => self.shared_outline(uid),
        }
    }

    /// Of a server of the entry's current revision.
    fn shared_outline(&self, uid: &str) -> Option<Outline> {
        let views = self.views();
        let view = views.entry(uid)?;
        let part = |reported, is_used| Part {
            owner: Owner::Entry(uid.to_owned()),
            reported,
            is_used,
        };
        Some(Outline {
            shared: true,
            // It gets nothing that is an installation's own.
            own: part(0, false),
            entry: part(view.shown.credential_generation, view.plan.has(Source::Stored)),
            plan: Arc::clone(&view.plan),
            entry_revision: view.entry_revision,
            deleted: view.deleted,
            foreign: None,
        })
    }

    fn installation_outline(&self, uid: &str) -> Option<Outline> {
        let views = self.views();
        let view = views.installation(uid)?;
        let plan = views.plan(view)?;
        let part = |owner: Owner, reported| Part {
            is_used: plan.has(owner.source()) || plan.keeps_tokens(owner.source()),
            owner,
            reported,
        };
        let entry = Owner::Entry(view.entry_uid.clone());
        let reported = views.reported(&entry);
        Some(Outline {
            shared: false,
            own: part(Owner::Installation(uid.to_owned()), view.shown.credential_generation),
            entry: part(entry, reported),
            plan: Arc::clone(plan),
            entry_revision: view.entry_revision,
            deleted: view.deleted,
            foreign: view.foreign.clone(),
        })
    }

    async fn latest(&self, part: &Part) -> Result<Seen, Error> {
        if !part.is_used {
            return Ok(part.unread());
        }
        let seen = self.store.latest(&part.owner).await?;
        if generation(&seen) >= part.reported {
            return Ok(seen);
        }
        // It comes from a backup.
        let record = self.record(&part.owner, part.reported).await?;
        Ok(Seen {
            record: Some(Arc::new(record)),
            ..seen
        })
    }

    fn kept(&self, part: &Part, known: i64, limit: Limit) -> Option<Seen> {
        if !part.is_used {
            return Some(part.unread());
        }
        let seen = self.store.kept(&part.owner, limit)?;
        (generation(&seen) >= part.reported.max(known)).then_some(seen)
    }
}

fn generation(seen: &Seen) -> i64 {
    seen.record.as_ref().map_or(0, |record| record.generation)
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
