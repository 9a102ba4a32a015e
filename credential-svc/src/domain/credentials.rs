//! The rules of putting, confirming and forgetting, over a store and a registry. What follows from a change is in `reporting`,
//! what is handed out in `vending`.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use registry_model::destination::{covers, readable};
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{Clock, status::Violations};
use tokio::sync::{RwLock, watch};
use uuid::Uuid;

use super::{
    destination::{Moved, Present},
    error::Error,
    locks::Locks,
    owner::{Owner, Source},
    plan::Plan,
    ports::{Answered, Change, Lagging, Registry, RequestKey, Store, Written},
    queue::{Owed, Queue},
    record::{Opened, Record, StoredField, Summary},
    validate,
    views::{Subject, Views},
};

/// Tries of a change that loses against others.
const TRIES: usize = 16;

/// The service, without its transports.
#[derive(Debug)]
pub(crate) struct Credentials<S, R> {
    pub(super) store: S,
    pub(super) registry: R,
    pub(super) clock: Clock,
    /// Taken to write by whoever changes views or records, to read by whoever needs both to fit together.
    pub(super) views: RwLock<Views>,
    /// The snapshot that is coming in. Locked after `views`, where both are.
    coming: Mutex<Option<Views>>,
    /// Counts what the registry has told; 0: nothing yet.
    pub(super) seen: watch::Sender<u64>,
    pub(super) queue: Arc<Queue>,
    pub(super) reporting: Locks,
}

/// What somebody wants to store.
#[derive(Debug)]
pub(crate) struct Put {
    /// The person, for request ids.
    pub(crate) user: String,
    pub(crate) values: Vec<(String, SecretString)>,
    /// Where they may go, if the person was shown that.
    pub(crate) destination: Option<String>,
    pub(crate) request_id: Option<Uuid>,
    /// Found while the request was read.
    pub(crate) violations: Violations,
}

/// An answer, and who may not have heard of the change yet.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    pub(crate) lagging: Lagging,
}

impl<S: Store, R: Registry> Credentials<S, R> {
    pub(crate) fn new(store: S, registry: R, clock: Clock) -> Self {
        Self {
            store,
            registry,
            clock,
            views: RwLock::default(),
            coming: Mutex::default(),
            seen: watch::Sender::new(0),
            queue: Arc::default(),
            reporting: Locks::default(),
        }
    }

    /// What still has to be reported.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// A snapshot of the registry begins.
    pub(crate) fn begin_snapshot(&self) {
        *self.coming() = Some(Views::default());
    }

    /// Takes a part of the snapshot.
    pub(crate) fn fill_snapshot(&self, fill: impl FnOnce(&mut Views)) {
        if let Some(coming) = self.coming().as_mut() {
            fill(coming);
        }
    }

    /// Puts the snapshot in force.
    pub(crate) async fn end_snapshot(&self) {
        let owners = {
            let mut views = self.views.write().await;
            let Some(coming) = self.coming().take() else { return };
            *views = coming;
            views.owners()
        };
        tracing::debug!(owners = owners.len(), "took a snapshot");
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    /// Takes a change of the registry.
    pub(crate) async fn update(&self, apply: impl FnOnce(&mut Views) -> Vec<Owner>) {
        let owners = apply(&mut *self.views.write().await);
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    fn coming(&self) -> MutexGuard<'_, Option<Views>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is, for people.
    pub(crate) async fn get(&self, subject: &Subject) -> Result<Summary, Error> {
        let owner = subject.owner();
        let told = self.views.read().await.told(&owner);
        let opened = self.open(&owner, subject.plan(), told).await?;
        let present = self.present(subject).await?;
        let mut summary = summary(subject, present.as_ref(), opened.record);
        if let (Some(agreed), Some(present)) = (opened.agreed, present)
            && summary.bound_destination != summary.present_destination
        {
            summary.changes = present.changes_since(&agreed);
            summary.bound_description = agreed.description;
        }
        Ok(summary)
    }

    /// Stores or rotates values.
    pub(crate) async fn put(&self, subject: Subject, put: Put) -> Result<Done, Error> {
        let owner = subject.owner();
        let digest = self.digest(&owner, &put);
        let request = put.request_id.map(|id| RequestKey {
            user: put.user.clone(),
            id,
        });
        for _ in 0..TRIES {
            let mut views = self.views.write().await;
            let told = self.admit(&mut views, &subject)?;
            if let Some(request) = &request
                && let Some(answered) = self.store.answered(request).await?
            {
                if answered.digest != digest {
                    return Err(Error::RequestIdReused);
                }
                // It may have been stored and never reported.
                let owed = Owed::new(&self.queue, owner.clone());
                drop(views);
                return self.announce(&subject, owed, answered.summary).await;
            }
            let mut violations = put.violations.clone();
            validate::check(subject.plan(), owner.source(), &put.values, &mut violations);
            let Some(present) = self.present(&subject).await? else {
                violations.add("", "the entry names no server that a secret could go to");
                return Err(Error::Invalid(violations));
            };
            if !violations.is_empty() {
                return Err(Error::Invalid(violations));
            }
            if put
                .destination
                .as_ref()
                .is_some_and(|shown| *shown != present.destination)
            {
                return Err(stale(present));
            }
            let record = self.describe(&owner, told).await?;
            let forget = rebind(&record, subject.plan(), owner.source(), &put.values, &present)?;
            let time = self.clock.now_micros();
            let after = after_put(&record, &put.values, &forget, &present.destination, time);
            let summary = summary(&subject, Some(&present), after);
            let change = Change {
                expected_generation: record.generation,
                time,
                bound_destination: present.destination,
                agreed: Some(present.agreed),
                put: put.values.clone(),
                forget,
                answer: request.clone().map(|key| {
                    (
                        key,
                        Answered {
                            digest,
                            summary: summary.clone(),
                        },
                    )
                }),
            };
            let owed = Owed::new(&self.queue, owner.clone());
            if self.write(&subject, change).await? {
                drop(views);
                return self.announce(&subject, owed, summary).await;
            }
        }
        Err(Error::Contended)
    }

    /// Forgets all values.
    pub(crate) async fn delete(&self, subject: Subject) -> Result<Done, Error> {
        self.change(subject, |record| {
            if record.fields.is_empty() {
                return Ok(None);
            }
            let forget = record.fields.keys().cloned().collect();
            Ok(Some((None, forget)))
        })
        .await
    }

    /// Lets the values go to the present destination, if that is still the one that was shown.
    pub(crate) async fn confirm(&self, subject: Subject, destination: &str) -> Result<Done, Error> {
        let present = self.present(&subject).await?.unwrap_or_default();
        if destination.is_empty() {
            let mut violations = Violations::new();
            violations.add("destination", "must be the present_destination that was shown");
            return Err(Error::Invalid(violations));
        }
        if destination != present.destination {
            return Err(stale(present));
        }
        self.change(subject, |record| {
            if record.fields.is_empty() || record.bound_destination == present.destination {
                return Ok(None);
            }
            Ok(Some((Some(present.clone()), BTreeSet::new())))
        })
        .await
    }

    /// Where the subject's secrets go now.
    async fn present(&self, subject: &Subject) -> Result<Option<Present>, Error> {
        let entry = self.beside(subject.beside().as_ref()).await?;
        Ok(subject.present(entry.as_ref()))
    }

    /// What is known of the secrets of an entry that go together with somebody's own.
    pub(super) async fn beside(&self, entry: Option<&Owner>) -> Result<Option<Record>, Error> {
        match entry {
            Some(entry) => Ok(self.store.describe(entry).await?),
            None => Ok(None),
        }
    }

    /// Makes the change that `decide` names, if any: the destination to bind to, unless nothing is left, and the keys to forget.
    async fn change(
        &self,
        subject: Subject,
        decide: impl Fn(&Record) -> Result<Option<(Option<Present>, BTreeSet<String>)>, Error>,
    ) -> Result<Done, Error> {
        let owner = subject.owner();
        for _ in 0..TRIES {
            let mut views = self.views.write().await;
            let told = self.admit(&mut views, &subject)?;
            let record = self.describe(&owner, told).await?;
            let Some((bound, forget)) = decide(&record)? else {
                // Reported all the same: an earlier try may have been stored only.
                let owed = Owed::new(&self.queue, owner.clone());
                drop(views);
                let present = self.present(&subject).await?;
                return self
                    .announce(&subject, owed, summary(&subject, present.as_ref(), record))
                    .await;
            };
            let time = self.clock.now_micros();
            let (bound_destination, agreed) = match bound {
                Some(present) => (present.destination, Some(present.agreed)),
                None => (String::new(), None),
            };
            let after = after_put(&record, &[], &forget, &bound_destination, time);
            let change = Change {
                expected_generation: record.generation,
                time,
                bound_destination,
                agreed,
                put: Vec::new(),
                forget,
                answer: None,
            };
            let owed = Owed::new(&self.queue, owner.clone());
            if self.write(&subject, change).await? {
                drop(views);
                let present = self.present(&subject).await?;
                let summary = summary(&subject, present.as_ref(), after);
                return self.announce(&subject, owed, summary).await;
            }
        }
        Err(Error::Contended)
    }

    /// Keeps what the subject's authorization told, so that its change can be reported; returns the generation that everybody
    /// was told.
    fn admit(&self, views: &mut Views, subject: &Subject) -> Result<i64, Error> {
        if subject.deleted() {
            return Err(Error::NotFound(subject.name()));
        }
        views.put(subject);
        self.fill_snapshot(|coming| coming.put(subject));
        Ok(views.told(&subject.owner()))
    }

    /// Whether the change was made; `false`: somebody else was faster.
    async fn write(&self, subject: &Subject, change: Change) -> Result<bool, Error> {
        let owner = subject.owner();
        match self.store.write(&owner, change).await? {
            Written::Done => {
                tracing::info!(credential.owner = %owner, "the credential was changed");
                Ok(true)
            }
            Written::Conflict => Ok(false),
            Written::Erased => Err(Error::NotFound(subject.name())),
        }
    }

    /// What is known of an owner's secrets. A generation lower than the one that was `told` to others is left behind first.
    pub(super) async fn describe(&self, owner: &Owner, told: i64) -> Result<Record, Error> {
        let mut known = self.store.describe(owner).await?;
        if known.as_ref().map_or(0, |record| record.generation) < told {
            self.store.outgrow(owner, told).await?;
            known = self.store.describe(owner).await?;
        }
        Ok(known.unwrap_or_default())
    }

    /// The values that can go where `plan` sends them; otherwise as [`Self::describe`]. A field may have got another target
    /// since its value was put: what does not fit there counts as missing.
    pub(super) async fn open(&self, owner: &Owner, plan: &Plan, told: i64) -> Result<Opened, Error> {
        let mut known = self.store.open(owner).await?;
        if known.as_ref().map_or(0, |opened| opened.record.generation) < told {
            self.store.outgrow(owner, told).await?;
            known = self.store.open(owner).await?;
        }
        let mut opened = known.unwrap_or_default();
        for field in plan.of(owner.source()) {
            if opened
                .values
                .get(&field.key)
                .is_some_and(|value| validate::misfit(plan, field, value).is_some())
            {
                opened.values.remove(&field.key);
                opened.record.fields.remove(&field.key);
            }
        }
        Ok(opened)
    }

    /// Tells requests apart, with the owner.
    fn digest(&self, owner: &Owner, put: &Put) -> [u8; 32] {
        let mut parts: Vec<&[u8]> = vec![owner.kind().as_bytes(), owner.uid().as_bytes()];
        for (key, value) in &put.values {
            parts.push(key.as_bytes());
            parts.push(value.expose_secret().as_bytes());
        }
        // Behind pairs, one alone.
        parts.extend(put.destination.as_ref().map(|shown| shown.as_bytes()));
        self.store.keyed_digest(&parts)
    }
}

/// Which keys a put to `present` forgets. Values entered for another place go to `present` only where its owner agrees: by
/// confirming, or by entering all of them again; then what is not entered again is forgotten.
fn rebind(
    record: &Record,
    plan: &Plan,
    source: Source,
    values: &[(String, SecretString)],
    present: &Present,
) -> Result<BTreeSet<String>, Error> {
    let stays = |key: &&String| !values.iter().any(|(put, _)| put == *key);
    if covers(&record.bound_destination, &present.destination) {
        return Ok(BTreeSet::new());
    }
    if record
        .fields
        .keys()
        .filter(stays)
        .any(|key| plan.field(key, source).is_some())
    {
        let moved = Moved {
            bound: record.bound_destination.clone(),
            present: present.destination.clone(),
        };
        return Err(Error::DestinationChanged(source, moved));
    }
    Ok(record.fields.keys().filter(stays).cloned().collect())
}

/// The record once the change is made.
fn after_put(
    record: &Record,
    values: &[(String, SecretString)],
    forget: &BTreeSet<String>,
    bound_destination: &str,
    time: i64,
) -> Record {
    let generation = record.generation + 1;
    let mut fields = record.fields.clone();
    fields.retain(|key, _| !forget.contains(key));
    for (key, _) in values {
        fields.insert(
            key.clone(),
            StoredField {
                generation,
                update_time: time,
            },
        );
    }
    Record {
        generation,
        bound_destination: bound_destination.to_owned(),
        fields,
    }
}

fn summary(subject: &Subject, present: Option<&Present>, record: Record) -> Summary {
    let present = present.cloned().unwrap_or_default();
    let covered = covers(&record.bound_destination, &present.destination);
    let description = present.agreed.description;
    Summary {
        name: format!("{}/credential", subject.name()),
        missing: subject.plan().missing(subject.owner().source(), &record),
        generation: record.generation,
        fields: record.fields,
        // What needs no word of the owner is told as one.
        bound_destination: if covered {
            present.destination.clone()
        } else {
            record.bound_destination.clone()
        },
        bound_description: if covered {
            description.clone()
        } else {
            readable(&record.bound_destination)
        },
        present_destination: present.destination,
        present_description: description,
        changes: Vec::new(),
    }
}

/// Somebody looked at another destination than the present one.
fn stale(present: Present) -> Error {
    Error::DestinationStale {
        present: present.destination,
    }
}
