//! The open database: its pools, and what is known of its latest revision.

use std::{
    fmt,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use sqlx::{PgPool, SqlitePool};
use tokio::sync::{Mutex, Notify, Semaphore, watch};

use super::{
    changes::Logged,
    flush::{Flush, Lasting},
    recent::Recent,
};

/// An open database; clones share it.
#[derive(Clone)]
pub(crate) struct Db(Arc<Inner>);

struct Inner {
    pools: Pools,
    replica: String,
    latest: watch::Sender<Latest>,
    /// Of the latest transaction, in microseconds since 1970.
    time: AtomicI64,
    /// Held by the one transaction of this process that may take a revision.
    turn: Arc<Semaphore>,
    recent: std::sync::Mutex<Recent>,
    looking: Mutex<()>,
    committed: Notify,
    stirred: Notify,
    listening: AtomicBool,
    accompanied: AtomicBool,
}

/// Connections by their use, so that one use that is stuck delays no other.
pub(super) enum Pools {
    /// One connection writes; the others read concurrently (WAL).
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
        snapshot: SqlitePool,
        /// One connection, which moves what was written from the log into the file.
        checkpoint: SqlitePool,
    },
    /// A database that replicas share.
    Postgres {
        write: PgPool,
        /// Flushes commits to the disk.
        flush: Flush,
        read: PgPool,
        /// Reads that last.
        snapshot: PgPool,
        /// What replicas publish to each other, and what tokens contain about people: short statements, none of which has to survive a crash
        /// of the database.
        signal: PgPool,
        /// One connection, which listens.
        listen: PgPool,
    },
}

/// What is known of the latest revision that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latest {
    /// Distinguishes revisions of this database from those of another, or of the same one before a backup was restored.
    pub(crate) epoch: Arc<str>,
    /// The latest revision that is known here, and is on the disk: watchers get no later one.
    pub(crate) revision: i64,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// A database whose head has not been read.
    pub(super) fn new(pools: Pools) -> Self {
        let unknown = Latest {
            epoch: Arc::default(),
            revision: 0,
        };
        Self(Arc::new(Inner {
            pools,
            replica: service_kit::random::uuid().to_string(),
            latest: watch::channel(unknown).0,
            time: AtomicI64::new(i64::MIN),
            turn: Arc::new(Semaphore::new(1)),
            recent: std::sync::Mutex::default(),
            looking: Mutex::default(),
            committed: Notify::new(),
            stirred: Notify::new(),
            listening: AtomicBool::new(false),
            accompanied: AtomicBool::new(false),
        }))
    }

    /// Acquired before a transaction takes a revision.
    pub(super) fn turn(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.turn)
    }

    /// Tells this process from others that share the database.
    pub(crate) fn replica(&self) -> &str {
        &self.0.replica
    }

    /// Tells revisions of this database from those of another. It changes at run time, where a backup is restored.
    pub(crate) fn epoch(&self) -> Arc<str> {
        Arc::clone(&self.0.latest.borrow().epoch)
    }

    /// The latest revision known here, now and as it changes; follows commits of all replicas.
    pub(crate) fn latest(&self) -> watch::Receiver<Latest> {
        self.0.latest.subscribe()
    }

    /// Whether other processes may share this database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0.pools, Pools::Postgres { .. })
    }

    /// A time of the clock, or the latest that was given before if the clock was set back: what is created later comes behind in lists.
    pub(super) fn not_before(&self, now: i64) -> i64 {
        self.0.time.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// Whether notifications of other replicas come in.
    pub(crate) fn is_listening(&self) -> bool {
        self.0.listening.load(Ordering::Acquire)
    }

    pub(super) fn set_listening(&self, listening: bool) {
        self.0.listening.store(listening, Ordering::Release);
    }

    /// Whether other replicas share the database at present: only then are commits announced.
    pub(crate) fn set_accompanied(&self, accompanied: bool) {
        self.0.accompanied.store(accompanied, Ordering::Release);
    }

    pub(super) fn is_accompanied(&self) -> bool {
        self.0.accompanied.load(Ordering::Acquire)
    }

    /// This replica has committed a transaction, and it lasts.
    pub(super) fn committed(&self, lasting: Lasting) {
        let Lasting {
            revision,
            changes,
            renewed,
        } = lasting;
        if let Some(epoch) = renewed {
            tracing::warn!(
                registry.revision = revision,
                "the database was restored: all watchers start anew"
            );
            self.looked(&epoch, revision);
        }
        let Some(changes) = changes else { return };
        self.recent().put(self.epoch(), revision, changes);
        self.0.latest.send_if_modified(|latest| latest.advance(revision));
        if self.is_accompanied() {
            self.0.committed.notify_one();
        }
    }

    /// The changes of the revisions behind this one, about `limit` bytes of them, as far as this replica has committed them one after the
    /// other; none: the database has to be read.
    pub(crate) fn recent_behind(&self, epoch: &str, revision: i64, limit: usize) -> Vec<(i64, Vec<Logged>)> {
        self.recent().behind(epoch, revision, limit)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another replica has committed a revision of this epoch. `false`: of another epoch than is known here.
    pub(super) fn committed_elsewhere(&self, epoch: &str, revision: i64) -> bool {
        let mut known = false;
        self.0.latest.send_if_modified(|latest| {
            known = *latest.epoch == *epoch;
            known && latest.advance(revision)
        });
        known
    }

    /// The head was read.
    pub(super) fn looked(&self, epoch: &str, revision: i64) {
        self.0.latest.send_if_modified(|latest| {
            if *latest.epoch == *epoch {
                return latest.advance(revision);
            }
            // Of another database: also if it is behind what was known.
            *latest = Latest {
                epoch: epoch.into(),
                revision,
            };
            true
        });
    }

    /// Held while the head is read: two readers at once could publish an older epoch after a newer one.
    pub(super) fn looking(&self) -> &Mutex<()> {
        &self.0.looking
    }

    /// Waits until this replica has committed something that was not published to other replicas.
    pub(super) async fn commits(&self) {
        self.0.committed.notified().await;
    }

    /// Waits until another replica says that something has changed with its watchers, or [`Db::stir`] was called.
    pub(crate) async fn stirred(&self) {
        self.0.stirred.notified().await;
    }

    /// Makes this replica look up the watchers of others.
    pub(crate) fn stir(&self) {
        self.0.stirred.notify_one();
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.0.pools
    }
}

impl Latest {
    fn advance(&mut self, revision: i64) -> bool {
        let newer = revision > self.revision;
        self.revision = self.revision.max(revision);
        newer
    }
}
