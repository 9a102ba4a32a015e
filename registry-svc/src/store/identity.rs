//! Whether this is still the database that watchers know: a backup that was restored gets a new epoch by itself.

use sqlx::{AssertSqlSafe, Connection as _};

use super::{
    Tx,
    db::{Db, Pools},
    execute, flush,
    tx::Engine,
};

/// Identifies this PostgreSQL database with the data it has now. Each way to restore a backup changes one of these: another server or
/// one that was stopped for it, a database that was created again, a table that was dropped or truncated.
const IDENTITY: &str = "concat_ws(' ', \
    to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), \
    (SELECT oid FROM pg_database WHERE datname = current_database()), \
    pg_relation_filenode('head'))";

/// Where the database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The latest revision.
    pub(crate) revision: i64,
    /// Watchers cannot resume from before this revision: the changes since were removed.
    pub(crate) compacted: i64,
    /// Distinguishes revisions of this database from those of another.
    pub(crate) epoch: String,
    /// Whether the epoch was given to this database, and not to one that a backup was made of. If not, no revision may be sent
    /// before [`Db::look`] has given it another.
    pub(crate) known: bool,
}

/// Reads the head.
pub(crate) async fn head(tx: &mut Tx) -> sqlx::Result<Head> {
    // A backup of an SQLite file is restored while no process has it open, so that it is known from the time it was opened.
    const SQLITE: &str = "SELECT revision, compacted, database_epoch, TRUE AS known FROM head WHERE id = 1";
    let columns = match tx.engine() {
        Engine::Sqlite(transaction) => sqlx::query_as(SQLITE).fetch_one(&mut **transaction).await?,
        Engine::Postgres(transaction) => sqlx::query_as(postgres_head()).fetch_one(&mut **transaction).await?,
    };
    Ok(Head::of(columns))
}

impl Head {
    fn of((revision, compacted, epoch, known): (i64, i64, String, bool)) -> Self {
        Self {
            revision,
            compacted,
            epoch,
            known,
        }
    }
}

fn postgres_head() -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT revision, compacted, database_epoch, database_identity = {IDENTITY} AS known FROM head WHERE id = 1"
    ))
}

/// Makes the head of a new database, and gives an epoch to one that needs it.
pub(super) async fn opened(db: &Db) -> sqlx::Result<()> {
    const MAKE: &str = "INSERT INTO head (id, revision, compacted, database_epoch, database_identity) \
        VALUES (1, 0, 0, '', '') ON CONFLICT (id) DO NOTHING";
    const RENEW: &str = "UPDATE head SET database_epoch = $1 WHERE id = 1";
    let mut tx = db.write_quietly().await?;
    execute!(tx, MAKE, [])?;
    if !db.is_shared() {
        execute!(tx, RENEW, [service_kit::random::uuid().to_string()])?;
    }
    tx.commit().await?;
    db.look().await.map(drop)
}

impl Db {
    /// Looks at the head: [`Db::latest`] then knows what other replicas have committed. A database that was restored or replaced
    /// gets a new epoch, and the latest revision may be lower than before. What it returns is durable.
    pub(crate) async fn look(&self) -> sqlx::Result<Head> {
        let _alone = self.looking().lock().await;
        let before = self.latest().borrow().clone();
        let mut head = self.head().await?;
        // What was known here was committed before this look began.
        let lost = head.epoch == *before.epoch && head.revision < before.revision;
        if !head.known || lost {
            renew(self, &before.epoch, before.revision).await?;
            head = self.head().await?;
        }
        if !before.epoch.is_empty() && head.epoch != *before.epoch {
            tracing::warn!(
                registry.revision = head.revision,
                "the database was restored, replaced or restarted: all watchers start anew"
            );
        }
        self.looked(&head.epoch, head.revision);
        Ok(head)
    }

    async fn head(&self) -> sqlx::Result<Head> {
        match self.pools() {
            Pools::Postgres { signal, .. } => {
                let mut connection = signal.acquire().await?;
                let head = Head::of(sqlx::query_as(postgres_head()).fetch_one(&mut *connection).await?);
                let is_known = {
                    let latest = self.latest();
                    let latest = latest.borrow();
                    *latest.epoch == *head.epoch && latest.revision >= head.revision
                };
                if !is_known {
                    // In the same session: it would have ended with a crash that lost what was read.
                    let mut lasting = connection.begin_with(flush::BEGIN_LASTING).await?;
                    flush::flush(&mut lasting).await?;
                    lasting.commit().await?;
                }
                Ok(head)
            }
            Pools::Sqlite { .. } => head(&mut self.read().await?).await,
        }
    }

    /// Makes all that a transaction sees last, whose head this is. A later statement of that transaction that succeeds proves it: it would
    /// have ended with a crash.
    pub(crate) async fn make_last(&self, seen: &Head) -> sqlx::Result<()> {
        if self.latest().borrow().revision < seen.revision {
            self.look().await?;
        }
        Ok(())
    }
}

/// Gives a shared database another epoch. Of replicas that see the need for it at once, one does it.
async fn renew(db: &Db, epoch: &str, revision: i64) -> sqlx::Result<()> {
    let Pools::Postgres { signal, .. } = db.pools() else {
        return Ok(());
    };
    let renew = format!(
        "UPDATE head SET database_identity = {IDENTITY}, database_epoch = $1 WHERE id = 1 \
         AND (database_identity <> {IDENTITY} OR (database_epoch = $2 AND revision < $3))"
    );
    let new = service_kit::random::uuid().to_string();
    // An epoch that watchers know must not be lost.
    let mut lasting = signal.begin_with(flush::BEGIN_LASTING).await?;
    sqlx::query(AssertSqlSafe(renew))
        .bind(new)
        .bind(epoch)
        .bind(revision)
        .execute(&mut *lasting)
        .await?;
    lasting.commit().await
}

#[cfg(test)]
mod tests {
    use contracts::registry::Entry;
    use sqlx::Executor as _;

    use super::*;
    use crate::{
        config::Database,
        store::{
            Object,
            changes::Cursor,
            log, open,
            testing::{on_each_engine, postgres},
        },
    };

    /// Whether a watcher can resume after a revision.
    async fn resumes(db: &Db, epoch: &str, revision: i64) -> bool {
        let mut tx = db.read().await.unwrap();
        let next = log::next(&mut tx, epoch, Cursor::behind(revision), !0, 1 << 20).await;
        next.unwrap().is_some()
    }

    async fn execute_all(db: &Db, sql: &'static str) {
        let Pools::Postgres { write, .. } = db.pools() else {
            panic!("only PostgreSQL is restored while it runs")
        };
        write.execute(sqlx::raw_sql(sql)).await.unwrap();
    }

    #[tokio::test]
    async fn an_epoch_lasts_as_long_as_the_database() {
        on_each_engine(async |opened| {
            let db = &opened.db;
            let epoch = db.epoch();
            assert!(!epoch.is_empty());
            let commit = opened.put(Object::Entry, "e", &Entry::default()).await;
            let head = db.look().await.unwrap();
            assert_eq!(
                (head.revision, head.epoch.as_str(), head.known),
                (commit.revision, &*epoch, true)
            );
            assert!(resumes(db, &epoch, head.revision).await);
            assert!(!resumes(db, &epoch, head.revision + 1).await);
            assert!(!resumes(db, "another", head.revision).await);
            // A replica continues with it. An SQLite file may have been restored while it was not open.
            let again = opened.again().await;
            assert_eq!(again.epoch() == epoch, db.is_shared());
        })
        .await;
    }

    #[tokio::test]
    async fn a_restored_file_has_another_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
        let database = Database::Sqlite(data.join("registry.db"));
        // As a whole, with the write-ahead log, which stays where a reader was the last to close the file.
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            let _none_yet = std::fs::remove_dir_all(to);
            std::fs::create_dir(to).unwrap();
            for file in std::fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        };
        std::fs::create_dir(&data).unwrap();
        let close = async |db: Db| {
            let Pools::Sqlite {
                write,
                read,
                snapshot,
                checkpoint,
            } = db.pools()
            else {
                unreachable!("it is a file")
            };
            tokio::join!(write.close(), read.close(), snapshot.close(), checkpoint.close());
        };
        let put = async |db: &Db| {
            let mut tx = db.write(crate::domain::Actor::Registry, || 1).await.unwrap();
            tx.put(Object::Entry, "e", &[]);
            tx.commit().await.unwrap().revision
        };
        let db = open(&database).await.unwrap();
        put(&db).await;
        close(db).await;
        copy(&data, &backup);
        let db = open(&database).await.unwrap();
        let (epoch, revision) = (db.epoch(), put(&db).await);
        close(db).await;
        copy(&backup, &data);
        let db = open(&database).await.unwrap();
        assert_eq!(put(&db).await, revision, "the number is used a second time");
        assert!(!resumes(&db, &epoch, revision).await);
    }

    #[tokio::test]
    async fn a_database_that_is_restored_while_it_runs_gets_another_epoch() {
        let Some(opened) = postgres().await else { return };
        let (db, other) = (&opened.db, opened.again().await);
        for restore in [
            // pg_restore --data-only behind a TRUNCATE
            "CREATE TABLE saved AS TABLE head; TRUNCATE head; INSERT INTO head SELECT * FROM saved; DROP TABLE saved",
            // pg_restore --clean
            "CREATE TABLE saved AS TABLE head; DROP TABLE head; CREATE TABLE head (LIKE saved); \
             INSERT INTO head SELECT * FROM saved; DROP TABLE saved",
        ] {
            let epoch = db.epoch();
            let revision = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
            assert!(resumes(db, &epoch, revision).await);
            execute_all(db, restore).await;
            // Nothing is sent before the epoch is another.
            assert!(!resumes(db, &epoch, revision).await);
            let (head, same) = tokio::join!(db.look(), other.look());
            let (head, same) = (head.unwrap(), same.unwrap());
            assert_ne!(head.epoch, *epoch);
            assert_eq!((&head.epoch, head.known), (&same.epoch, true));
            assert_eq!(
                (db.epoch(), other.epoch()),
                (head.epoch.as_str().into(), head.epoch.as_str().into())
            );
            assert!(resumes(db, &head.epoch, revision).await);
        }
        // Rows that were put back: what is known of the latest revision goes back, too.
        let epoch = db.epoch();
        let revision = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
        const PUT_BACK: &str =
            "UPDATE head SET revision = revision - 1; DELETE FROM changes WHERE revision > (SELECT revision FROM head)";
        execute_all(db, PUT_BACK).await;
        let head = db.look().await.unwrap();
        assert_ne!(head.epoch, *epoch);
        assert_eq!(db.latest().borrow().revision, revision - 1);
        // And where a write comes before any look: the same numbers are used a second time.
        let epoch = db.epoch();
        let revision = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
        execute_all(db, PUT_BACK).await;
        assert_eq!(
            opened.put(Object::Entry, "e", &Entry::default()).await.revision,
            revision
        );
        assert_ne!(db.epoch(), epoch, "it is known with the commit");
        assert!(!resumes(db, &epoch, revision).await);
        assert_eq!(other.look().await.unwrap().epoch, *db.epoch());
    }
}
