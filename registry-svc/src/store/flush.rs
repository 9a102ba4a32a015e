//! Makes what was committed to PostgreSQL last, many transactions at once.
//!
//! A transaction that has taken a revision holds up all others until it has committed. So it does not wait for the disk: the next one works
//! meanwhile, and one write to the disk makes all of them last. Nobody is told of a revision before: neither who asked for it nor
//! a watcher. Where other replicas share the database, they see what is committed at once, and each transaction waits for the disk itself.

use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};

use super::{Db, changes::Logged};

/// Begins a transaction that does not wait for the disk.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// A transaction that has committed and may not last yet.
pub(super) struct Committed {
    pub(super) db: Db,
    pub(super) revision: i64,
    /// What it changed; nothing if nothing that is watched.
    pub(super) changes: Option<Vec<Logged>>,
    /// The epoch that it gave to the database.
    pub(super) renewed: Option<String>,
    /// Told when it lasts.
    pub(super) done: oneshot::Sender<sqlx::Result<()>>,
}

impl Committed {
    /// Tells everybody.
    pub(super) fn announce(self) {
        if let Some(epoch) = self.renewed {
            tracing::warn!(
                registry.revision = self.revision,
                "the database was restored: all watchers start anew"
            );
            self.db.looked(&epoch, self.revision);
        }
        if let Some(changes) = self.changes {
            self.db.committed(self.revision, changes);
        }
        // Who asked for it may have gone.
        let _ = self.done.send(Ok(()));
    }

    /// Whether the database has this very transaction, and no other under its revision.
    async fn is_there(&self, connection: Option<&mut PgConnection>) -> bool {
        const FIND: &str = "SELECT kind, object_key, object FROM changes WHERE revision = $1 ORDER BY position LIMIT 1";
        let first = self.changes.as_ref().and_then(|changes| changes.first());
        let (Some(first), Some(connection)) = (first, connection) else {
            return false;
        };
        let found = sqlx::query_as::<_, (i64, String, Option<Vec<u8>>)>(FIND).bind(self.revision);
        // A document names the revision that it was written with, and when.
        found.fetch_optional(connection).await.is_ok_and(|found| {
            found.is_some_and(|(kind, key, object)| {
                kind == first.kind && key == first.key && object.as_deref() == first.object.as_deref()
            })
        })
    }
}

/// Takes transactions in the order in which they have committed; ends when the sender is gone.
pub(super) fn start(pool: PgPool) -> mpsc::UnboundedSender<Committed> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connection = pool.acquire().await.ok();
        let mut some = Vec::new();
        while receiver.recv_many(&mut some, usize::MAX).await > 0 {
            if flush(connection.as_deref_mut()).await.is_ok() {
                some.drain(..).for_each(Committed::announce);
                continue;
            }
            // The connection may have broken long ago, or the database just now: then what was committed may be gone.
            drop(connection.take());
            connection = pool.acquire().await.ok();
            let flushed = flush(connection.as_deref_mut()).await.is_ok();
            for one in some.drain(..) {
                if flushed && one.is_there(connection.as_deref_mut()).await {
                    one.announce();
                } else {
                    tracing::error!(
                        registry.revision = one.revision,
                        "it is not known whether what was committed lasts; its caller is told to retry"
                    );
                    let _ = one.done.send(Err(sqlx::Error::PoolTimedOut));
                }
            }
        }
    });
    sender
}

/// Commits a record that says nothing, and waits for the disk: what was committed before lasts then, too.
async fn flush(connection: Option<&mut PgConnection>) -> sqlx::Result<()> {
    const RECORD: &str = "SELECT pg_logical_emit_message(TRUE, 'chandlery', '') IS NULL";
    let connection = connection.ok_or(sqlx::Error::PoolTimedOut)?;
    sqlx::query(RECORD).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::Actor,
        store::{Object, on, testing::on_each_engine},
    };

    /// What was committed is there, though the connection that would say so has broken.
    #[tokio::test]
    async fn a_broken_connection_loses_nothing() {
        on_each_engine(async |opened| {
            if !opened.db.is_shared() {
                return;
            }
            const BREAK: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE '%pg_logical_emit_message(TRUE%' AND pid <> pg_backend_pid()";
            let first = opened.put_at(1, &[(Object::Entry, "e", Vec::new())]).await.revision;
            let mut tx = opened.db.read().await.unwrap();
            let broken: i64 = on!(tx, c => sqlx::query_scalar(BREAK).fetch_one(&mut *c).await).unwrap();
            drop(tx);
            assert_eq!(broken, 1);
            assert_eq!(opened.put_at(2, &[(Object::Entry, "e", Vec::new())]).await.revision, first + 1);
            assert_eq!(opened.put_at(3, &[(Object::Entry, "e", Vec::new())]).await.revision, first + 2);
            assert_eq!(opened.db.latest().borrow().revision, first + 2);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_told_of_lasts() {
        on_each_engine(async |opened| {
            if !opened.db.is_shared() {
                return;
            }
            let writes = (0..40).map(|index| {
                let db = opened.db.clone();
                tokio::spawn(async move {
                    const WRITTEN: &str = "SELECT CAST(pg_current_wal_insert_lsn() AS TEXT)";
                    const LASTS: &str = "SELECT pg_current_wal_flush_lsn() > CAST($1 AS pg_lsn)";
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
        })
        .await;
    }
}
