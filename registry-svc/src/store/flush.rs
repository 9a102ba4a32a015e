//! Makes what was committed to PostgreSQL last, many transactions at once.
//!
//! A transaction that has taken a revision holds up all others until it has committed. So it does not wait for the disk: the next one works
//! meanwhile, and one write to the disk makes all of them last. Nobody is told of a revision before: neither who asked for it nor
//! a watcher. Where other replicas share the database, they see what is committed at once, and each transaction waits for the disk itself.

use sqlx::{PgPool, Postgres, pool::PoolConnection};
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
}

/// Takes transactions in the order in which they have committed; ends when the sender is gone.
pub(super) fn start(pool: PgPool) -> mpsc::UnboundedSender<Committed> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connection = None;
        let mut some = Vec::new();
        while receiver.recv_many(&mut some, usize::MAX).await > 0 {
            let mut flushed = flush(&pool, &mut connection).await;
            if flushed.is_err() {
                // It may have broken long ago.
                connection = None;
                flushed = flush(&pool, &mut connection).await;
            }
            match flushed {
                Ok(()) => some.drain(..).for_each(Committed::announce),
                Err(error) => {
                    connection = None;
                    tracing::error!(error = %error, "it is not known whether what was committed lasts: its callers are told to retry");
                    for one in some.drain(..) {
                        let _ = one.done.send(Err(sqlx::Error::PoolTimedOut));
                    }
                }
            }
        }
    });
    sender
}

/// Commits a record that says nothing, and waits for the disk: what was committed before lasts then, too.
async fn flush(pool: &PgPool, connection: &mut Option<PoolConnection<Postgres>>) -> sqlx::Result<()> {
    const RECORD: &str = "SELECT pg_logical_emit_message(TRUE, 'chandlery', '') IS NULL";
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(pool.acquire().await?),
    };
    sqlx::query(RECORD).execute(&mut **connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::Actor,
        store::{Object, on, testing::on_each_engine},
    };

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
