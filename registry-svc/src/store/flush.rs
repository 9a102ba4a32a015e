//! Makes commits to PostgreSQL durable: one flush of its log for many transactions.
//!
//! A transaction that has taken a revision holds up all others until it has committed. So it does not wait for the disk: the next one works
//! meanwhile, and one write to the disk makes all of them durable. Neither its caller nor a watcher learns of a revision before.
//! A list or a get may show what is durable a moment later: if PostgreSQL crashes in that moment, it is lost, and the caller who made
//! it gets an error that says to retry. Where other replicas share the database, each transaction waits for the disk itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{mpsc, oneshot};

use super::changes::Logged;

/// Begins a transaction that does not wait for the disk.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = off";
/// Begins one that does, whatever its connection does by default.
pub(super) const BEGIN_LASTING: &str = "BEGIN; SET LOCAL synchronous_commit = on";

/// What a transaction did that lasts.
pub(super) struct Lasting {
    pub(super) revision: i64,
    /// What it changed; nothing if nothing that is watched.
    pub(super) changes: Option<Vec<Logged>>,
    /// The epoch that it gave to the database.
    pub(super) renewed: Option<String>,
}

/// A transaction that has committed and may not last yet.
pub(super) struct Committed {
    pub(super) lasting: Lasting,
    /// Of [`Flush::session`] before it committed.
    pub(super) session: u64,
    /// Publishes it once it is durable.
    pub(super) publish: Box<dyn FnOnce(Lasting) + Send + Sync>,
    /// Answers its caller.
    pub(super) done: oneshot::Sender<sqlx::Result<()>>,
}

impl Committed {
    /// It lasts.
    pub(super) fn announce(self) {
        (self.publish)(self.lasting);
        // The caller may have gone.
        let _ = self.done.send(Ok(()));
    }

    /// Whether the database has what this transaction changed, and no other under its revision. One that changed nothing that is watched
    /// cannot be distinguished from others.
    async fn is_in(&self, connection: &mut PgConnection) -> bool {
        const FIND: &str = "SELECT kind, object_key, object FROM changes WHERE revision = $1 ORDER BY position";
        let Some(changes) = &self.lasting.changes else {
            return false;
        };
        let found = sqlx::query_as::<_, (i64, String, Option<Vec<u8>>)>(FIND).bind(self.lasting.revision);
        found.fetch_all(connection).await.is_ok_and(|found| {
            // A document names the revision that it was written with, and when.
            let same = |(change, (kind, key, object)): (&Logged, &(i64, String, Option<Vec<u8>>))| {
                change.kind == *kind && change.key == *key && change.object.as_deref() == object.as_deref()
            };
            !changes.is_empty() && changes.len() == found.len() && changes.iter().zip(&found).all(same)
        })
    }

    /// Tells who asked for it to retry.
    fn give_up(self) {
        tracing::error!(
            registry.revision = self.lasting.revision,
            "a commit may be lost: PostgreSQL did not confirm that it is on its disk; its caller is told to retry"
        );
        let _ = self.done.send(Err(sqlx::Error::PoolTimedOut));
    }
}

/// Takes transactions that have committed, in that order.
#[derive(Clone, Debug)]
pub(super) struct Flush {
    sender: mpsc::UnboundedSender<Committed>,
    session: Arc<AtomicU64>,
}

impl Flush {
    /// Its task ends when all clones of it are gone.
    pub(super) fn start(pool: PgPool) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let session = Arc::new(AtomicU64::new(0));
        let mut disk = Disk {
            pool,
            connection: None,
            session: Arc::clone(&session),
        };
        tokio::spawn(async move {
            disk.connect().await;
            let mut some = Vec::new();
            while receiver.recv_many(&mut some, usize::MAX).await > 0 {
                if disk.flush().await.is_err() {
                    disk.connect().await;
                    if let Err(error) = disk.flush().await {
                        tracing::warn!(error = %error, "PostgreSQL did not confirm a write to its disk");
                    }
                }
                for one in some.drain(..) {
                    if disk.has(&one).await {
                        one.announce();
                    } else {
                        one.give_up();
                    }
                }
            }
        });
        Self { sender, session }
    }

    /// The number of the session that flushes.
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }

    pub(super) fn send(&self, committed: Committed) -> sqlx::Result<()> {
        self.sender.send(committed).map_err(|_| sqlx::Error::PoolClosed)
    }
}

/// The session that makes transactions last.
///
/// PostgreSQL ends all of its sessions when one of its processes crashes. So what a session flushes includes all that was committed
/// since it began; what was committed before may have been lost in a crash.
struct Disk {
    pool: PgPool,
    connection: Option<PoolConnection<Postgres>>,
    session: Arc<AtomicU64>,
}

impl Disk {
    async fn connect(&mut self) {
        drop(self.connection.take());
        self.connection = self.pool.acquire().await.ok();
        self.session.fetch_add(1, Ordering::AcqRel);
    }

    async fn flush(&mut self) -> sqlx::Result<()> {
        let flushed = match &mut self.connection {
            Some(connection) => flush(connection).await,
            None => Err(sqlx::Error::PoolTimedOut),
        };
        if flushed.is_err() {
            self.connection = None;
        }
        flushed
    }

    /// Whether it lasts. Of one that was committed before the session began, the database has to be asked.
    async fn has(&mut self, committed: &Committed) -> bool {
        match &mut self.connection {
            Some(connection) => {
                committed.session == self.session.load(Ordering::Acquire) || committed.is_in(connection).await
            }
            None => false,
        }
    }
}

/// Commits an empty record and waits for the disk: what was committed before is durable then, too.
pub(super) async fn flush(connection: &mut PgConnection) -> sqlx::Result<()> {
    const RECORD: &str = "SELECT pg_logical_emit_message(TRUE, 'chandlery', '') IS NULL";
    sqlx::query(RECORD).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use contracts::registry::Entry;

    use super::*;
    use crate::{
        domain::Actor,
        store::{
            Object,
            changes::Cursor,
            db::Pools,
            log, on,
            testing::{Opened, postgres},
        },
    };

    const WRITTEN: &str = "SELECT CAST(pg_current_wal_insert_lsn() AS TEXT)";
    const LASTS: &str = "SELECT pg_current_wal_flush_lsn() >= CAST($1 AS pg_lsn)";

    /// The revisions that watchers get after this one.
    async fn relayed(opened: &Opened, after: i64) -> Vec<i64> {
        let mut tx = opened.db.read().await.unwrap();
        let epoch = opened.db.epoch();
        let read = log::next(&mut tx, &epoch, Cursor::behind(after), !0, 1 << 20).await;
        let batches = read.unwrap().unwrap().batches;
        batches.into_iter().map(|batch| batch.revision).collect()
    }

    /// What was committed is there, though the connection that would say so has broken.
    #[tokio::test]
    async fn a_broken_connection_loses_nothing() {
        let Some(opened) = postgres().await else { return };
        const BREAK: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name = 'chandlery flush'";
        let first = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
        let mut tx = opened.db.read().await.unwrap();
        let broken: i64 = on!(tx, c => sqlx::query_scalar(BREAK).fetch_one(&mut *c).await).unwrap();
        drop(tx);
        assert_eq!(broken, 1);
        for revision in [first + 1, first + 2] {
            assert_eq!(
                opened.put(Object::Entry, "e", &Entry::default()).await.revision,
                revision
            );
        }
        assert_eq!(opened.db.latest().borrow().revision, first + 2);
    }

    /// What was committed before the session that flushes began may have been lost in between, though the flush succeeds.
    #[tokio::test]
    async fn what_an_earlier_session_committed_is_looked_for() {
        let Some(opened) = postgres().await else { return };
        let Pools::Postgres { flush, .. } = opened.db.pools() else {
            panic!("it is a database of PostgreSQL")
        };
        let revision = opened
            .put_at(1, &[(Object::Entry, "e", b"there".to_vec())])
            .await
            .revision;
        let committed = async |revision, session, documents: &[&str]| {
            let (done, lasts) = oneshot::channel();
            let change = |(position, document): (i64, &&str)| {
                let watched = Object::Entry.watched("e", document.as_bytes());
                Logged::new(
                    revision,
                    position,
                    Object::Entry.kind() as i64,
                    "e".to_owned(),
                    Some(watched.into()),
                )
            };
            let db = opened.db.clone();
            let sent = flush.send(Committed {
                lasting: Lasting {
                    revision,
                    changes: Some((0..).zip(documents).map(change).collect()),
                    renewed: None,
                },
                session,
                publish: Box::new(move |lasting| db.committed(lasting)),
                done,
            });
            sent.unwrap();
            lasts.await.unwrap()
        };
        let session = flush.session();
        assert!(committed(revision, session - 1, &["there"]).await.is_ok());
        for others in [&["of another"] as &[_], &["there", "and more"]] {
            assert!(committed(revision, session - 1, others).await.is_err());
        }
        assert!(committed(revision + 1, session - 1, &["gone"]).await.is_err());
        assert_eq!(opened.db.latest().borrow().revision, revision, "no watcher gets it");
    }

    #[tokio::test]
    async fn watchers_are_told_of_what_lasts_only() {
        let Some(opened) = postgres().await else { return };
        let revision = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
        // A transaction whose flush has not been confirmed.
        let Pools::Postgres { write, .. } = opened.db.pools() else {
            panic!("it is a database of PostgreSQL")
        };
        let mut tx = write.begin_with(BEGIN).await.unwrap();
        for statement in [
            "UPDATE head SET revision = revision + 1",
            "INSERT INTO changes (revision, position, kind, object_key, object, bytes, actor, create_time) \
             SELECT revision, 0, 1, 'e', '', 0, '', 1 FROM head",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        let written: String = sqlx::query_scalar(WRITTEN).fetch_one(write).await.unwrap();
        assert_eq!(relayed(&opened, revision - 1).await, [revision]);
        // Whoever looks makes it last.
        assert_eq!(opened.db.look().await.unwrap().revision, revision + 1);
        let lasts: bool = sqlx::query_scalar(LASTS).bind(written).fetch_one(write).await.unwrap();
        assert!(lasts);
        assert_eq!(relayed(&opened, revision - 1).await, [revision, revision + 1]);
    }

    #[tokio::test]
    async fn what_is_told_of_lasts() {
        let Some(opened) = postgres().await else { return };
        let writes = (0..40).map(|index| {
            let db = opened.db.clone();
            tokio::spawn(async move {
                let mut tx = db.write(Actor::Registry, || 1).await.unwrap();
                tx.put(Object::Entry, &format!("e{index}"), b"");
                let written: String = on!(tx, c => sqlx::query_scalar(WRITTEN).fetch_one(&mut *c).await).unwrap();
                let commit = tx.commit().await.unwrap();
                // Its changes are in the log behind this place, and the log is on the disk as far as this.
                let mut tx = db.read().await.unwrap();
                let lasts: bool =
                    on!(tx, c => sqlx::query_scalar(LASTS).bind(written).fetch_one(&mut *c).await).unwrap();
                assert!(lasts, "{}", commit.revision);
                assert!(db.latest().borrow().revision >= commit.revision);
                commit.revision
            })
        });
        let mut revisions = Vec::new();
        for write in writes.collect::<Vec<_>>() {
            revisions.push(write.await.unwrap());
        }
        revisions.sort_unstable();
        assert!(revisions.windows(2).all(|two| two[0] + 1 == two[1]), "{revisions:?}");
        // Nothing is missing for watchers.
        let epoch = opened.db.epoch();
        assert_eq!(opened.db.recent_behind(&epoch, revisions[0] - 1, usize::MAX).len(), 40);
    }
}
