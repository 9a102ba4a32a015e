//! The rules of putting, confirming, forgetting, vending and reporting, over a store and a registry.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{Clock, status::Violations};
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, watch};
use uuid::Uuid;

use super::{
    error::Error,
    plan::{Plan, Source},
    ports::{Answered, Change, Lagging, Registry, ReportError, RequestKey, Store, UNTOUCHED, Written},
    queue::{Owed, Queue},
    readiness::{Readiness, Report},
    record::{Opened, Owner, Record, Summary},
    validate,
    vend::{Secrets, Vended},
    views::{EntryView, InstallationView, Subject, Views},
};

/// What is vended is good for so long.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a vend waits for news of the registry that its caller has already.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Characters of a report's message.
const MAX_MESSAGE: usize = 4_000;
/// Tries of a change that loses against others.
const TRIES: usize = 16;
/// Reports under way at a time for one change.
const REPORTS: usize = 16;

/// The service, without its transports.
#[derive(Debug)]
pub(crate) struct Credentials<S, R> {
    store: S,
    registry: R,
    clock: Clock,
    /// Taken to write by whoever changes views or records, to read by whoever needs both to fit together.
    views: RwLock<Views>,
    seen: watch::Sender<u64>,
    queue: Arc<Queue>,
    reporting: Locks,
}

/// What somebody wants to store.
#[derive(Debug)]
pub(crate) struct Put {
    /// The person, for request ids.
    pub(crate) user: String,
    pub(crate) values: Vec<(String, SecretString)>,
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

/// What an installation's credential comes to at one moment.
struct State {
    view: InstallationView,
    readiness: Readiness,
    generation: i64,
    secrets: Secrets,
}

impl<S: Store, R: Registry> Credentials<S, R> {
    pub(crate) fn new(store: S, registry: R, clock: Clock) -> Self {
        Self {
            store,
            registry,
            clock,
            views: RwLock::default(),
            seen: watch::Sender::new(0),
            queue: Arc::default(),
            reporting: Locks::default(),
        }
    }

    /// What still has to be reported.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes a snapshot of the registry.
    pub(crate) async fn replace(&self, installations: Vec<InstallationView>, entries: Vec<EntryView>) {
        let owners = {
            let mut views = self.views.write().await;
            views.replace(installations, entries);
            views.owners()
        };
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    /// Takes a change of the registry.
    pub(crate) async fn update(&self, apply: impl FnOnce(&mut Views) -> Vec<Owner>) {
        let owners = apply(&mut *self.views.write().await);
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    /// What there is, for people.
    pub(crate) async fn get(&self, subject: &Subject) -> Result<Summary, Error> {
        let opened = self.open(subject.owner(), subject.plan(), subject.source()).await?;
        Ok(summary(subject, opened.record))
    }

    /// Stores or rotates values.
    pub(crate) async fn put(&self, subject: Subject, put: Put) -> Result<Done, Error> {
        let owner = subject.owner();
        let digest = self.digest(&owner, &put.values);
        let request = put.request_id.map(|id| RequestKey {
            user: put.user.clone(),
            id,
        });
        for _ in 0..TRIES {
            let mut views = self.views.write().await;
            self.admit(&mut views, &subject)?;
            if let Some(request) = &request
                && let Some(answered) = self.store.answered(request).await?
            {
                if answered.digest != digest {
                    return Err(Error::RequestIdReused);
                }
                // It may have been stored and never reported.
                let owed = self.owe(&views, &subject);
                drop(views);
                return self.announce(&subject, owed, answered.summary).await;
            }
            let mut violations = put.violations.clone();
            validate::check(subject.plan(), subject.source(), &put.values, &mut violations);
            let Some(present) = subject.plan().destination.clone() else {
                violations.add("", "the entry names no server that a secret could go to");
                return Err(Error::Invalid(violations));
            };
            if !violations.is_empty() {
                return Err(Error::Invalid(violations));
            }
            let record = self.store.describe(&owner).await?.unwrap_or_default();
            let forget = rebind(&record, subject.plan(), subject.source(), &put.values, &present)?;
            let time = self.clock.now_micros();
            let after = after_put(&record, &put.values, &forget, &present, time);
            let summary = summary(&subject, after);
            let change = Change {
                expected_generation: record.generation,
                time,
                bound_destination: present,
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
            let owed = self.owe(&views, &subject);
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
            Ok(Some((String::new(), forget)))
        })
        .await
    }

    /// Lets the values go to the present destination, if that is still the one that was shown.
    pub(crate) async fn confirm(&self, subject: Subject, destination: &str) -> Result<Done, Error> {
        let present = subject.plan().destination.clone().unwrap_or_default();
        if destination.is_empty() {
            let mut violations = Violations::new();
            violations.add("destination", "must be the present_destination that was shown");
            return Err(Error::Invalid(violations));
        }
        if destination != present {
            return Err(Error::DestinationStale { present });
        }
        self.change(subject, |record| {
            if record.fields.is_empty() || record.bound_destination == present {
                return Ok(None);
            }
            Ok(Some((present.clone(), BTreeSet::new())))
        })
        .await
    }

    /// Makes the change that `decide` names, if any: the destination to bind to, and the keys to forget.
    async fn change(
        &self,
        subject: Subject,
        decide: impl Fn(&Record) -> Result<Option<(String, BTreeSet<String>)>, Error>,
    ) -> Result<Done, Error> {
        let owner = subject.owner();
        for _ in 0..TRIES {
            let mut views = self.views.write().await;
            self.admit(&mut views, &subject)?;
            let record = self.store.describe(&owner).await?.unwrap_or_default();
            let Some((bound_destination, forget)) = decide(&record)? else {
                // Reported all the same: an earlier try may have been stored only.
                let owed = self.owe(&views, &subject);
                drop(views);
                return self.announce(&subject, owed, summary(&subject, record)).await;
            };
            let time = self.clock.now_micros();
            let after = after_put(&record, &[], &forget, &bound_destination, time);
            let change = Change {
                expected_generation: record.generation,
                time,
                bound_destination,
                put: Vec::new(),
                forget,
                answer: None,
            };
            let owed = self.owe(&views, &subject);
            if self.write(&subject, change).await? {
                drop(views);
                let summary = summary(&subject, after);
                return self.announce(&subject, owed, summary).await;
            }
        }
        Err(Error::Contended)
    }

    /// Whether a change of the subject can be made and reported now. Keeps what its authorization told.
    fn admit(&self, views: &mut Views, subject: &Subject) -> Result<(), Error> {
        if subject.deleted() {
            return Err(Error::NotFound(subject.name().to_owned()));
        }
        // Without a snapshot, an entry's installations are not known.
        if !views.is_loaded() {
            return Err(Error::RegistryUnavailable);
        }
        if let Subject::Installation(view) = subject {
            views.put_installation(view.clone());
        }
        Ok(())
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
            Written::Erased => Err(Error::NotFound(subject.name().to_owned())),
        }
    }

    /// The installations to report after a change of the subject. To be taken before the change is made: one whose outcome is
    /// unknown is looked at again as well.
    fn owe(&self, views: &Views, subject: &Subject) -> Owed {
        let installations = match subject {
            Subject::Installation(view) => vec![view.uid.clone()],
            Subject::Entry(view) => views.installations_of(&view.uid),
        };
        Owed::new(&self.queue, installations)
    }

    /// Reports a change that is stored, and returns once it is in force everywhere.
    async fn announce(&self, subject: &Subject, owed: Owed, summary: Summary) -> Result<Done, Error> {
        let reported: Result<Vec<Lagging>, Error> = futures::stream::iter(owed.installations().to_vec())
            .map(|uid| async move { self.report(&uid, true).await })
            .buffer_unordered(REPORTS)
            .try_collect()
            .await;
        let lagging = reported
            .inspect_err(|error| tracing::warn!(credential.owner = %subject.owner(), error = %error, "a stored change could not be reported yet"))
            .map_err(|_| Error::NotAnnounced)?;
        owed.settle();
        Ok(Done {
            summary,
            lagging: lagging.into_iter().flatten().collect(),
        })
    }

    /// Makes the registry know how the owner stands, and erases what a deleted one leaves.
    pub(crate) async fn reconcile(&self, owner: &Owner) -> Result<(), Error> {
        let deleted = {
            let views = self.views.read().await;
            match owner {
                Owner::Installation(uid) => views.installation(uid).is_some_and(|view| view.deleted),
                Owner::Entry(uid) => views.is_deleted_entry(uid),
            }
        };
        if deleted {
            return self.clean_up(owner).await;
        }
        match owner {
            Owner::Installation(uid) => self.report(uid, false).await.map(drop),
            Owner::Entry(_) => Ok(()),
        }
    }

    async fn clean_up(&self, owner: &Owner) -> Result<(), Error> {
        {
            // Nobody may be in the middle of a put.
            let _views = self.views.write().await;
            self.store.erase(owner).await?;
        }
        match self.registry.report_cleanup(owner).await {
            Ok(()) | Err(ReportError::Unknown) => {
                tracing::info!(credential.owner = %owner, "erased what a deleted owner left");
                Ok(())
            }
            Err(ReportError::Failed(cause)) => {
                tracing::warn!(credential.owner = %owner, error = %cause, "an erasure could not be reported yet");
                Err(Error::NotAnnounced)
            }
        }
    }

    /// Reports an installation's condition. Without `always`, only where the registry has another one.
    async fn report(&self, uid: &str, always: bool) -> Result<Lagging, Error> {
        // One report of an installation at a time, each of the newest state: they cannot overtake one another.
        let lock = self.reporting.of(uid);
        let _guard = lock.lock().await;
        let Some(state) = self.state(uid).await? else {
            return Ok(Lagging::new());
        };
        let report = state.report();
        if state.view.deleted || (!always && state.view.has(&report)) {
            return Ok(Lagging::new());
        }
        match self.registry.report(uid, &report).await {
            Ok(lagging) => Ok(lagging),
            Err(ReportError::Unknown) => Ok(Lagging::new()),
            Err(ReportError::Failed(cause)) => {
                tracing::warn!(installation.uid = uid, error = %cause, "the credential's condition could not be reported");
                Err(Error::NotAnnounced)
            }
        }
    }

    /// The headers that carry an installation's secrets to `destination`.
    pub(crate) async fn vend_headers(&self, uid: &str, destination: &str, rejected: i64) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        if rejected != 0 && rejected == state.generation {
            return Err(Error::CredentialExpired);
        }
        let secrets = state.secrets.headers(&state.view.plan);
        Ok(self.vended(secrets, state.generation))
    }

    /// The secrets that an installation's server gets when it starts.
    pub(crate) async fn vend_runtime(&self, uid: &str, destination: &str) -> Result<Vended, Error> {
        let state = self.ready_state(uid, destination).await?;
        let secrets = state.secrets.runtime(&state.view.plan);
        Ok(self.vended(secrets, state.generation))
    }

    fn vended(&self, secrets: Vec<(String, SecretString)>, generation: i64) -> Vended {
        Vended {
            secrets,
            generation,
            expire_time: self.clock.now() + LIFETIME,
        }
    }

    /// The state of an installation whose secrets may go to `destination`. A caller may be ahead of our watch: what does not
    /// fit is looked at again once more is known.
    async fn ready_state(&self, uid: &str, destination: &str) -> Result<State, Error> {
        let mut seen = self.seen.subscribe();
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        loop {
            seen.borrow_and_update();
            let state = self.state(uid).await?;
            let fits = state
                .as_ref()
                .is_some_and(|state| state.view.plan.destination.as_deref() == Some(destination));
            if !fits
                && tokio::time::timeout_at(deadline, seen.changed())
                    .await
                    .is_ok_and(|changed| changed.is_ok())
            {
                continue;
            }
            let state = state
                .filter(|state| !state.view.deleted)
                .ok_or_else(|| Error::NotFound(format!("the installation {uid}")))?;
            if !fits {
                let bound = state.view.plan.destination.unwrap_or_default();
                return Err(Error::DestinationChanged {
                    bound,
                    present: destination.to_owned(),
                });
            }
            return match state.readiness.clone().into_error() {
                Some(error) => Err(error),
                None => Ok(state),
            };
        }
    }

    /// Everything about one installation, as of one moment; `None` if the registry has not told of it.
    async fn state(&self, uid: &str) -> Result<Option<State>, Error> {
        let views = self.views.read().await;
        let Some(view) = views.installation(uid).cloned() else {
            return Ok(None);
        };
        let own = self
            .open(Owner::Installation(view.uid.clone()), &view.plan, Source::Prompted)
            .await?;
        let entry = if view.plan.of(Source::Stored).next().is_some() {
            self.open(Owner::Entry(view.entry_uid.clone()), &view.plan, Source::Stored)
                .await?
        } else {
            Opened::default()
        };
        let fingerprint = fingerprint(&view.plan, own.record.generation, entry.record.generation);
        let generation = self
            .store
            .effective_generation(&view.uid, fingerprint, view.credential_generation)
            .await?;
        let readiness = Readiness::of(&view.plan, &own.record, &entry.record);
        Ok(Some(State {
            view,
            readiness,
            generation,
            secrets: Secrets { own, entry },
        }))
    }

    /// The values that can go where `plan` sends them. A field may have got another target since its value was put: what does
    /// not fit there counts as missing.
    async fn open(&self, owner: Owner, plan: &Plan, source: Source) -> Result<Opened, Error> {
        let mut opened = self.store.open(&owner).await?.unwrap_or_default();
        for field in plan.of(source) {
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
    fn digest(&self, owner: &Owner, values: &[(String, SecretString)]) -> [u8; 32] {
        let mut parts: Vec<&[u8]> = vec![owner.kind().as_bytes(), owner.uid().as_bytes()];
        for (key, value) in values {
            parts.push(key.as_bytes());
            parts.push(value.expose_secret().as_bytes());
        }
        self.store.keyed_digest(&parts)
    }
}

impl State {
    fn report(&self) -> Report {
        Report {
            ready: self.readiness.is_ready(),
            reason: self.readiness.reason(),
            // An entry with many long titles may need more than the registry takes.
            message: self.readiness.message().chars().take(MAX_MESSAGE).collect(),
            observed_generation: self.view.generation,
            credential_generation: self.generation,
        }
    }
}

impl InstallationView {
    /// Whether the registry has this report already.
    fn has(&self, report: &Report) -> bool {
        self.reported.as_ref().is_some_and(|reported| {
            reported.ready == report.ready
                && reported.reason == report.reason
                && reported.message == report.message
                && reported.observed_generation == report.observed_generation
                && self.credential_generation == report.credential_generation
        })
    }
}

/// Changes whenever something that is vended changes.
fn fingerprint(plan: &Plan, own: i64, entry: i64) -> [u8; 32] {
    if own == 0 && entry == 0 {
        return UNTOUCHED;
    }
    let mut hash = Sha256::new();
    hash.update(own.to_be_bytes());
    hash.update(entry.to_be_bytes());
    hash.update(plan.digest());
    hash.finalize().into()
}

/// Which keys a put to `present` forgets. Values entered for another place go to `present` only where its owner agrees: by
/// confirming, or by entering all of them again; then what is not entered again is forgotten.
fn rebind(
    record: &Record,
    plan: &Plan,
    source: Source,
    values: &[(String, SecretString)],
    present: &str,
) -> Result<BTreeSet<String>, Error> {
    let stays = |key: &&String| !values.iter().any(|(put, _)| put == *key);
    if record.bound_destination == present {
        return Ok(BTreeSet::new());
    }
    if record
        .fields
        .keys()
        .filter(stays)
        .any(|key| plan.field(key, source).is_some())
    {
        let bound = record.bound_destination.clone();
        return Err(Error::DestinationChanged {
            bound,
            present: present.to_owned(),
        });
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
            super::record::StoredField {
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

fn summary(subject: &Subject, record: Record) -> Summary {
    Summary {
        name: format!("{}/credential", subject.name()),
        missing: record.missing(subject.plan(), subject.source()),
        present_destination: subject.plan().destination.clone().unwrap_or_default(),
        generation: record.generation,
        fields: record.fields,
        bound_destination: record.bound_destination,
    }
}

/// A lock for each installation that is being reported.
#[derive(Debug, Default)]
struct Locks(Mutex<std::collections::HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    fn of(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(uid).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(uid.to_owned(), Arc::downgrade(&lock));
        lock
    }
}
