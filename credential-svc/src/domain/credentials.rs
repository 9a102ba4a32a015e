//! The service without its transports: its view of the registry, and the records of owners. What people do is in `changing`, what
//! workloads get in `vending`, what is reported to the registry in `reporting`.
//!
//! No lock is held while the store is read or written. A change is decided on the record that was read, and written only if the record
//! still has the same version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use service_kit::Clock;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;
use uuid::Uuid;

use super::{
    authorization::{context::Authorization, revoker::Revoker, servers::AuthorizationServers},
    error::Error,
    locks::Locks,
    owner::Owner,
    ports::{Store, StoreError, Version, Written},
    queue::Queue,
    record::{Record, Value},
    records::Records,
    views::{Known, Subject, Views},
};

/// How often a change is attempted where other writers conflict with it.
pub(super) const TRIES: usize = 16;

/// The service, without its transports.
#[derive(Debug)]
pub(crate) struct Credentials<S, R, A> {
    pub(super) store: Records<S>,
    pub(super) registry: R,
    pub(super) clock: Clock,
    views: RwLock<Views>,
    /// The snapshot that is coming in. Locked after `views`, where both are.
    coming: Mutex<Option<Views>>,
    /// Counts snapshots and changes of the registry; 0: none yet.
    pub(super) seen: watch::Sender<u64>,
    pub(super) queue: Arc<Queue>,
    pub(super) reporting: Locks,
    pub(super) authorization: Authorization<A>,
    pub(super) revoker: Revoker<S, A>,
}

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) version: Version,
    pub(super) record: Record,
}

impl<S: Store, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// `public_url` is where people reach gateway-svc, `holder` this process in leases.
    pub(crate) fn new(store: S, registry: R, servers: A, public_url: Option<Url>, holder: Uuid, clock: Clock) -> Self {
        let store = Records::new(store, clock.clone());
        let authorization = Authorization::new(servers, public_url, holder, clock.clone());
        Self {
            revoker: Revoker::new(
                store.clone(),
                authorization.servers(),
                authorization.tasks.clone(),
                clock.clone(),
            ),
            authorization,
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
}

impl<S, R, A> Credentials<S, R, A> {
    /// What must be completed before the process ends.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.authorization.tasks
    }

    /// The process is about to end.
    pub(crate) fn stop(&self) {
        self.authorization.stop();
    }

    /// Whether it is: no server is asked any more for what it issues only once.
    pub(super) fn is_stopping(&self) -> bool {
        self.authorization.is_stopping()
    }

    /// The owners that are to be reconciled.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// A snapshot of the registry begins.
    pub(crate) fn begin_snapshot(&self) {
        *self.coming() = Some(Views::begin(self.clock.now_micros()));
    }

    /// Adds a part of the snapshot.
    pub(crate) fn fill_snapshot(&self, fill: impl FnOnce(&mut Views)) {
        if let Some(coming) = self.coming().as_mut() {
            fill(coming);
        }
    }

    /// Puts the snapshot in force.
    pub(crate) fn end_snapshot(&self) {
        let owners = {
            let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
            let Some(coming) = self.coming().take() else { return };
            *views = coming;
            views.owners()
        };
        tracing::debug!(owners = owners.len(), "took a snapshot");
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    /// Applies a change of the registry.
    pub(crate) fn update(&self, apply: impl FnOnce(&mut Views) -> Vec<Owner>) {
        let owners = apply(&mut self.views.write().unwrap_or_else(PoisonError::into_inner));
        self.seen.send_modify(|seen| *seen += 1);
        self.queue.add(owners);
    }

    /// Adds what an authorization returned to the views, so that the subject's change can be reported.
    pub(super) fn admit(&self, subject: &Subject) -> Result<(), Error> {
        if subject.deleted() {
            return Err(Error::NotFound(subject.name()));
        }
        let owners = {
            let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
            self.fill_snapshot(|coming| drop(coming.put(subject)));
            views.put(subject)
        };
        self.queue.add(owners);
        Ok(())
    }

    /// Everything that is known. Drop the guard before awaiting anything.
    pub(super) fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an owner.
    pub(super) fn known(&self, owner: &Owner) -> Option<Known> {
        self.views().of(owner)
    }

    /// Whether a tombstone of this time is void: a snapshot that began later shows the owner, and not as deleted, so the registry was restored
    /// to a state from before the deletion. Call this after reading the tombstone: a deletion is in the views before its tombstone is
    /// written.
    fn is_void(&self, owner: &Owner, time: i64) -> bool {
        let views = self.views();
        views.is_newer(time) && views.shows(owner)
    }

    fn coming(&self) -> MutexGuard<'_, Option<Views>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store, R, A> Credentials<S, R, A> {
    /// Whether the store answers. See [`Records::check`].
    pub(crate) async fn check_store(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    /// Changes the owner's record, if there is one. `change` says whether it did; where another writer was first, it is called again. Returns
    /// whether a change was written.
    pub(super) async fn amend(
        &self,
        owner: &Owner,
        mut change: impl FnMut(&mut Record) -> bool + Send,
    ) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let Some(Current { version, mut record }) = self.current(owner, 0).await? else {
                return Ok(false);
            };
            if !change(&mut record) {
                return Ok(false);
            }
            if self.store.write(owner, version, Value::Record(record)).await? == Written::Done {
                return Ok(true);
            }
        }
        Err(Error::Contended)
    }

    /// The owner's record; `None` where there is a tombstone that is not void. Where a backup was restored, the record may be older than the
    /// generation that was `reported`: it first gets a newer generation, so that every workload fetches it again.
    pub(super) async fn current(&self, owner: &Owner, reported: i64) -> Result<Option<Current>, Error> {
        for _ in 0..TRIES {
            let (version, mut record) = match self.store.read(owner).await? {
                Some((version, Value::Erased { time, .. })) if self.is_void(owner, time) => {
                    (version, Record::default())
                }
                Some((_, Value::Erased { .. })) => return Ok(None),
                Some((version, Value::Record(record))) => (version, record),
                None => (Version::NONE, Record::default()),
            };
            if record.generation >= reported {
                return Ok(Some(Current { version, record }));
            }
            record.generation = reported + 1;
            let written = self.store.write(owner, version, Value::Record(record)).await?;
            if written == Written::Done {
                tracing::warn!(credential.owner = %owner, generation.reported = reported, "a backup was restored, and the record is older than what was reported; it got a newer generation");
            }
        }
        Err(Error::Contended)
    }

    /// The same for readers, to whom a tombstone is an empty record.
    pub(super) async fn record(&self, owner: &Owner, reported: i64) -> Result<Record, Error> {
        Ok(self
            .current(owner, reported)
            .await?
            .map(|current| current.record)
            .unwrap_or_default())
    }

    /// The record of an entry whose secrets go to the same server as an installation's own.
    pub(super) async fn mixed_record(&self, entry: Option<&Owner>) -> Result<Option<Record>, Error> {
        let Some(entry) = entry else { return Ok(None) };
        Ok(match self.store.read(entry).await? {
            Some((_, Value::Record(record))) => Some(record),
            Some((_, Value::Erased { .. })) | None => None,
        })
    }
}

/// When `stop` is cancelled, waits for what is under way and must be completed: tokens that a server issues only once are about to be
/// stored.
pub(crate) async fn complete<S, R, A>(credentials: Arc<Credentials<S, R, A>>, stop: CancellationToken) {
    stop.cancelled().await;
    credentials.stop();
    credentials.tasks().wait().await;
}
