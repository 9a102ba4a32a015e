//! Moves what was written to an SQLite database from its log into its file, concurrently with the writes: done by one of them, it would
//! delay all that wait for it.

use std::time::Duration;

use sqlx::SqlitePool;
use tokio::time::sleep;

use super::Db;

/// After commits, this long is waited, so that many pages are moved at once; not longer, since a write waits for the disk as long as it
/// takes what is moved.
const PAUSE: Duration = Duration::from_millis(50);

/// Moves what is committed, periodically. A reader of an older state keeps pages from being moved until the next time.
pub(super) async fn keep(db: &Db, pool: &SqlitePool) {
    let mut latest = db.latest();
    loop {
        // The database's handle is gone.
        if latest.changed().await.is_err() {
            return;
        }
        sleep(PAUSE).await;
        latest.mark_unchanged();
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(pool).await {
            tracing::warn!(error = %error, "the log of the database could not be moved into its file; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Instant};

    use contracts::registry::Entry;
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{
        config::Database,
        store::{Object, db::Pools, testing::sqlite},
    };

    /// How many changes are in the file, whatever the log has.
    async fn moved(file: &Path) -> sqlx::Result<i64> {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        std::fs::copy(file, &copy).unwrap();
        let options = SqliteConnectOptions::new().filename(&copy);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query_scalar("SELECT count(*) FROM changes")
            .fetch_one(&mut connection)
            .await
    }

    #[tokio::test]
    async fn what_is_committed_is_moved_beside_the_writes() {
        let opened = sqlite().await;
        let Database::Sqlite(file) = &opened.database else {
            unreachable!("it is SQLite")
        };
        let Pools::Sqlite { checkpoint, .. } = opened.db.pools() else {
            unreachable!("it is SQLite")
        };
        let (db, pool) = (opened.db.clone(), checkpoint.clone());
        opened.put(Object::Entry, "e", &Entry::default()).await;
        // Before the first checkpoint, not even the schema may be there.
        assert!(!matches!(moved(file).await, Ok(1..)), "it is not moved yet");
        let keeping = tokio::spawn(async move { keep(&db, &pool).await });
        opened.put(Object::Entry, "e", &Entry::default()).await;
        let begin = Instant::now();
        // A copy that was made in the middle may be broken.
        while !matches!(moved(file).await, Ok(2)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it is not moved");
            sleep(Duration::from_millis(20)).await;
        }
        keeping.abort();
    }
}
