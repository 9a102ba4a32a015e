//! The service on a store under test, with a registry in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use registry_model::destination::Destination;
use secrecy::SecretString;
use service_kit::{Clock, clock::ManualClock, status::Violations};
use uuid::Uuid;

use crate::domain::{
    authorization::fake::FakeServers,
    changing::Put,
    condition::Condition,
    credentials::Credentials,
    error::Error,
    owner::{Owner, Source},
    plan::{Plan, SecretField, Target},
    ports::{Lagging, Registry, ReportError, Store, StoreError, Version, Written},
    record::Value,
    summary::Summary,
    views::{EntryView, InstallationView, Reported, Shown, Subject, Views},
};

pub(super) const HOME: &str = "https://example.com";

/// A registry in memory that accepts reports. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryRegistry(Arc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    reports: Mutex<BTreeMap<Owner, Condition>>,
    cleanups: Mutex<Vec<Owner>>,
    refuses: AtomicBool,
    forbids: AtomicBool,
}

impl MemoryRegistry {
    /// From now on, reports are refused, or accepted again.
    pub(super) fn refuse(&self, refuses: bool) {
        self.0.refuses.store(refuses, Ordering::SeqCst);
    }

    /// From now on, nobody may do anything.
    pub(super) fn forbid(&self) {
        self.0.forbids.store(true, Ordering::SeqCst);
    }

    /// Whether a person may do what they are at.
    pub(super) fn permits(&self) -> Result<(), Error> {
        match self.0.forbids.load(Ordering::SeqCst) {
            true => Err(Error::AuthorizationStateInvalid),
            false => Ok(()),
        }
    }

    pub(super) fn reported(&self, owner: &Owner) -> Option<Condition> {
        self.0.reports.lock().unwrap().get(owner).cloned()
    }

    pub(super) fn cleanups(&self) -> Vec<Owner> {
        self.0.cleanups.lock().unwrap().clone()
    }

    fn shown(&self, owner: &Owner) -> Shown {
        let report = self.reported(owner);
        Shown {
            credential_generation: report.as_ref().map_or(0, |report| report.credential_generation),
            condition: report.map(|report| Reported {
                ready: report.ready,
                reason: report.reason.to_owned(),
                message: report.message,
                observed_generation: report.observed_generation,
            }),
        }
    }

    fn accept(&self) -> Result<(), ReportError> {
        match self.0.refuses.load(Ordering::SeqCst) {
            true => Err(ReportError::Failed("it refuses".to_owned())),
            false => Ok(()),
        }
    }
}

impl Registry for MemoryRegistry {
    async fn report(&self, owner: &Owner, report: &Condition) -> Result<Lagging, ReportError> {
        self.accept()?;
        let mut reports = self.0.reports.lock().unwrap();
        let known = reports.get(owner).map_or(0, |known| known.credential_generation);
        // As in registry-svc, a report that is late is dropped.
        if report.credential_generation >= known {
            reports.insert(owner.clone(), report.clone());
        }
        Ok(Lagging::new())
    }

    async fn report_cleanup(&self, owner: &Owner) -> Result<(), ReportError> {
        self.accept()?;
        self.0.cleanups.lock().unwrap().push(owner.clone());
        Ok(())
    }
}

/// A store that lets a test act between two steps. Clones are the same store.
pub(super) struct Meddled<S>(Arc<Script<S>>);

struct Script<S> {
    store: S,
    steps: Mutex<VecDeque<Step>>,
    reads: AtomicUsize,
    mood: Mutex<Mood>,
}

/// Whether a store answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Answers,
    /// It is unavailable.
    Away,
    /// It does not answer.
    Silent,
    /// It answers once its mood changes.
    Waiting,
}

impl<S> Meddled<S> {
    async fn answers(&self) -> Result<(), StoreError> {
        loop {
            let mood = *self.0.mood.lock().unwrap();
            match mood {
                Mood::Answers => return Ok(()),
                Mood::Away => return Err(StoreError::Unavailable("it is away".to_owned())),
                Mood::Silent => std::future::pending().await,
                Mood::Waiting => tokio::task::yield_now().await,
            }
        }
    }
}

impl<S> Clone for Meddled<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What happens to the next write.
pub(super) enum Step {
    /// This comes before it.
    Before(BoxFuture<'static, ()>),
    /// It is made, and its answer is lost.
    Lose,
    /// It is made, and then this comes before its answer.
    After(BoxFuture<'static, ()>),
    /// The store is unavailable.
    Refuse,
}

impl<S: Store> Store for Meddled<S> {
    async fn read(&self, owner: &Owner) -> Result<Option<(Version, Value)>, StoreError> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        self.answers().await?;
        self.0.store.read(owner).await
    }

    async fn write(&self, owner: &Owner, expected: Version, value: Value) -> Result<Written, StoreError> {
        self.answers().await?;
        let step = self.0.steps.lock().unwrap().pop_front();
        match step {
            Some(Step::Before(other)) => other.await,
            Some(Step::Lose) => {
                assert_eq!(self.0.store.write(owner, expected, value).await?, Written::Done);
                return Err(StoreError::Unavailable("the answer was lost".to_owned()));
            }
            Some(Step::After(other)) => {
                let written = self.0.store.write(owner, expected, value).await;
                other.await;
                return written;
            }
            Some(Step::Refuse) => return Err(StoreError::Unavailable("it refuses".to_owned())),
            None => {}
        }
        self.0.store.write(owner, expected, value).await
    }

    async fn delete(&self, owner: &Owner) -> Result<(), StoreError> {
        self.0.store.delete(owner).await
    }

    async fn list(&self, after: Option<&Owner>, limit: usize) -> Result<Vec<Owner>, StoreError> {
        self.0.store.list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.answers().await?;
        self.0.store.check().await
    }
}

/// How a process of the service is set up.
pub(super) struct Process {
    /// Where people reach gateway-svc.
    pub(super) public_url: &'static str,
    /// Its name in leases.
    pub(super) holder: Uuid,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            public_url: "http://127.0.0.1:8080",
            holder: service_kit::random::uuid(),
        }
    }
}

/// The service, with a view of one entry `e` and of installations of it.
pub(super) struct Service<S> {
    pub(super) credentials: Arc<Credentials<Meddled<S>, MemoryRegistry, FakeServers>>,
    store: Meddled<S>,
    pub(super) registry: MemoryRegistry,
    clock: ManualClock,
    plan: Arc<Plan>,
}

impl<S: Store> Service<S> {
    /// Fields `token` and `other` are prompted for, and `shared` is stored on the entry where `is_mixed`.
    pub(super) fn new(store: S, registry: &MemoryRegistry, is_mixed: bool) -> Self {
        let field = |key: &str, source, target| SecretField {
            key: key.to_owned(),
            title: key.to_owned(),
            required: key != "other",
            source,
            target,
        };
        let environment = |key: &str| Target::Environment(key.to_owned());
        let mut fields = vec![
            field("token", Source::Prompted, environment("TOKEN")),
            field("other", Source::Prompted, environment("OTHER")),
        ];
        if is_mixed {
            fields.push(field("shared", Source::Stored, environment("SHARED")));
        }
        let plan = Plan {
            destination: Some(Destination {
                binding: HOME.to_owned(),
                description: HOME.to_owned(),
                parts: Vec::new(),
            }),
            fields,
            primary: None,
            tokens: None,
        };
        Self::with(store, registry, plan, &FakeServers::default(), Process::default())
    }

    /// With any plan, as this process.
    pub(super) fn with(
        store: S,
        registry: &MemoryRegistry,
        plan: Plan,
        servers: &FakeServers,
        process: Process,
    ) -> Self {
        let store = Meddled(Arc::new(Script {
            store,
            steps: Mutex::default(),
            reads: AtomicUsize::new(0),
            mood: Mutex::default(),
        }));
        let clock = ManualClock::at(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let service = Self {
            credentials: Arc::new(Credentials::new(
                store.clone(),
                registry.clone(),
                servers.clone(),
                Some(process.public_url.parse().unwrap()),
                process.holder,
                Clock::Manual(clock.clone()),
            )),
            store,
            registry: registry.clone(),
            clock,
            plan: Arc::new(plan),
        };
        service.credentials.begin_snapshot();
        service.credentials.end_snapshot();
        service.watch("a", false);
        service
    }

    /// The watch brings an installation and its entry, with what was reported on them.
    pub(super) fn watch(&self, uid: &str, deleted: bool) {
        self.credentials.update(|views| self.fill(views, uid, deleted));
    }

    /// The watch begins anew, with a snapshot of an installation that is not deleted and of its entry.
    pub(super) fn snapshot(&self, uid: &str) {
        self.credentials.begin_snapshot();
        self.credentials
            .fill_snapshot(|views| drop(self.fill(views, uid, false)));
        self.credentials.end_snapshot();
    }

    fn fill(&self, views: &mut Views, uid: &str, deleted: bool) -> Vec<Owner> {
        views.put_plan("e/1".to_owned(), Arc::clone(&self.plan));
        views.put_installation(self.installation(uid, deleted));
        let mut owners = views.put_entry(self.entry());
        owners.extend([owner(uid), Owner::Entry("e".to_owned())]);
        owners
    }

    fn installation(&self, uid: &str, deleted: bool) -> InstallationView {
        InstallationView {
            uid: uid.to_owned(),
            entry_uid: "e".to_owned(),
            entry_revision: 1,
            registry_revision: 1,
            generation: 1,
            deleted,
            foreign: None,
            shown: self.registry.shown(&owner(uid)),
        }
    }

    fn entry(&self) -> EntryView {
        EntryView {
            uid: "e".to_owned(),
            name: "entries/e".to_owned(),
            entry_revision: 1,
            registry_revision: 1,
            deleted: false,
            plan: Arc::clone(&self.plan),
            shown: self.registry.shown(&Owner::Entry("e".to_owned())),
        }
    }

    /// An installation, as an authorization returns it.
    pub(super) fn subject(&self, uid: &str) -> Subject {
        Subject::Installation(self.installation(uid, false), Arc::clone(&self.plan), Vec::new())
    }

    pub(super) async fn put(&self, uid: &str, values: &[(&str, &str)]) -> Result<Summary, Error> {
        self.put_with_id(uid, values, None).await
    }

    pub(super) async fn put_with_id(
        &self,
        uid: &str,
        values: &[(&str, &str)],
        id: Option<u128>,
    ) -> Result<Summary, Error> {
        let done = self.credentials.put(self.subject(uid), put(values, id)).await?;
        Ok(done.summary)
    }

    pub(super) async fn put_entry(&self, values: &[(&str, &str)]) -> Result<Summary, Error> {
        let done = self
            .credentials
            .put(Subject::Entry(self.entry()), put(values, None))
            .await?;
        Ok(done.summary)
    }

    /// Confirms where the entry's secrets go, which changes nothing.
    pub(super) async fn confirm_entry(&self) -> Result<Summary, Error> {
        let done = self.credentials.confirm(Subject::Entry(self.entry()), HOME).await?;
        Ok(done.summary)
    }

    /// What a server of the installation gets, sorted.
    pub(super) async fn vend(&self, uid: &str) -> Result<Vec<(String, String)>, Error> {
        use secrecy::ExposeSecret as _;
        let vended = self.credentials.vend_runtime(&owner(uid), HOME).await?;
        let secrets = vended.secrets.into_iter();
        let mut secrets: Vec<_> = secrets
            .map(|(key, value)| (key, value.expose_secret().to_owned()))
            .collect();
        secrets.sort();
        Ok(secrets)
    }

    /// Does what is queued, once.
    pub(super) async fn reconcile(&self) -> Result<(), Error> {
        for owner in self
            .credentials
            .queue()
            .take(Clock::Manual(self.clock.clone()).now_micros())
        {
            self.credentials.reconcile(&owner).await?;
        }
        Ok(())
    }

    pub(super) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.store.0.steps.lock().unwrap().extend(steps);
    }

    pub(super) fn store_is(&self, mood: Mood) {
        *self.store.0.mood.lock().unwrap() = mood;
    }

    pub(super) fn store(&self) -> &S {
        &self.store.0.store
    }

    /// Reads of the store so far.
    pub(super) fn reads(&self) -> usize {
        self.store.0.reads.load(Ordering::SeqCst)
    }

    pub(super) fn now(&self) -> std::time::SystemTime {
        Clock::Manual(self.clock.clone()).now()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

pub(super) fn owner(uid: &str) -> Owner {
    Owner::Installation(uid.to_owned())
}

fn put(values: &[(&str, &str)], id: Option<u128>) -> Put {
    let values = values.iter();
    Put {
        user: "alice".to_owned(),
        values: values
            .map(|&(key, value)| (key.to_owned(), SecretString::from(value)))
            .collect(),
        destination: None,
        request_id: id.map(Uuid::from_u128),
        violations: Violations::new(),
    }
}
