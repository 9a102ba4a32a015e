//! The open database: its pools, and what is known of its latest revision.

use std::{
    fmt,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, SqlitePool};
use tokio::{
    sync::{Mutex, Notify, Semaphore, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{
    Tx,
    changes::Logged,
    flush::{self, Flush},
    recent::Recent,
    tx::Engine,
};
use crate::domain::Actor;

/// How long a transaction waits for its turn before its call is told to retry.
const TURN: Duration = Duration::from_secs(5);

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

/// Connections, apart by what they are for, so that one use that is stuck holds up no other.
pub(super) enum Pools {
    /// One connection writes; the others read beside it (WAL).
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
        /// What replicas tell each other, and what tokens say of people: short statements, none of which has to survive a crash of the
        /// database.
        signal: PgPool,
        /// One connection, which listens.
        listen: PgPool,
    },
}

/// What is known of the latest revision that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latest {
    /// Tells revisions of this database from those of another, or of the same one before a backup was restored.
    pub(crate) epoch: Arc<str>,
    /// The latest revision that is known here, and is on the disk: watchers are told of no later one.
    pub(crate) revision: i64,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// A database whose head has not been looked at.
    pub(super) fn new(pools: Pools) -> Self {
        let unknown = Latest {
            epoch: Arc::default(),
            revision: 0,
        };
        Self(Arc::new(Inner {
            pools,
            replica: Uuid::new_v4().to_string(),
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

    /// A consistent view of one moment, for reading only.
    pub(crate) async fn read(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            Pools::Sqlite { read, .. } => sqlite_view(read).await?,
            Pools::Postgres { read, .. } => postgres_view(read).await?,
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// As [`Db::read`], for what lasts: it takes no connection from those who read shortly, and no statement of it is ended for the
    /// time it takes.
    pub(crate) async fn snapshot(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            Pools::Sqlite { snapshot, .. } => sqlite_view(snapshot).await?,
            Pools::Postgres { snapshot, .. } => postgres_view(snapshot).await?,
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// A transaction whose changes watchers see, made by `actor`. It takes the next revision first, so that such transactions run one
    /// after another: what it has read stays true until it commits. `now` (microseconds since 1970) is asked when it has its turn: what
    /// is created later comes behind in lists.
    pub(crate) async fn write(&self, actor: Actor, now: impl FnOnce() -> i64) -> sqlx::Result<Tx> {
        let mut tx = match &self.0.pools {
            Pools::Postgres { write, .. } if !self.is_accompanied() => {
                Tx::ahead(self.clone(), write.begin_with(flush::BEGIN).await?)
            }
            _ => self.write_quietly().await?,
        };
        // They run one after another anyway. Those that wait here, in the order in which they came, cost the database nothing.
        let turn = timeout(TURN, Arc::clone(&self.0.turn).acquire_owned()).await;
        let turn = turn
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        tx.take_revision(actor, now, turn).await?;
        Ok(tx)
    }

    /// A transaction that changes only what nobody watches. It holds up no other on PostgreSQL.
    pub(crate) async fn write_quietly(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            // A deferred transaction that reads and then writes fails at once while another one writes.
            Pools::Sqlite { write, .. } => Engine::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres { write, .. } => Engine::Postgres(write.begin().await?),
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// A short transaction that changes only what no other waits for: those that wait for each other keep none of its connections.
    pub(crate) async fn write_beside(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            Pools::Sqlite { .. } => return self.write_quietly().await,
            Pools::Postgres { signal, .. } => Engine::Postgres(signal.begin().await?),
        };
        Ok(Tx::new(self.clone(), engine))
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

    fn is_accompanied(&self) -> bool {
        self.0.accompanied.load(Ordering::Acquire)
    }

    /// This replica has committed a revision, which made these changes.
    pub(crate) fn committed(&self, revision: i64, changes: Vec<Logged>) {
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

    /// Held by whoever looks at the head: two at once could tell an older epoch after a newer one.
    pub(super) fn looking(&self) -> &Mutex<()> {
        &self.0.looking
    }

    /// Waits until this replica has committed something that other replicas have not been told.
    pub(super) async fn commits(&self) {
        self.0.committed.notified().await;
    }

    /// Waits until another replica says that something has changed with its watchers, or [`Db::stir`] was called.
    pub(crate) async fn stirred(&self) {
        self.0.stirred.notified().await;
    }

    /// Has the watchers of other replicas looked up.
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

async fn sqlite_view(pool: &SqlitePool) -> sqlx::Result<Engine> {
    pool.begin().await.map(Engine::Sqlite)
}

async fn postgres_view(pool: &PgPool) -> sqlx::Result<Engine> {
    const VIEW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    pool.begin_with(VIEW).await.map(Engine::Postgres)
}
