//! Opens a database and makes it ready.

use std::{fs::File, io, path::Path, str::FromStr as _, sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Db, Inner, Pools, migrate, on};
use crate::config::Database;

const READERS: u32 = 8;
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a call waits for a connection before it is told to retry.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program wrote it.
    #[error(
        "the registry's database was written by a newer version of Chandlery: run that version, or restore a backup"
    )]
    Newer,
    /// The schema could not be brought up to date.
    #[error("the registry's database could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
    /// It cannot be opened or reached. The URL is not repeated: it may hold a password.
    #[error("the registry's database could not be opened: {0}")]
    Open(#[from] sqlx::Error),
    /// The lock file beside an SQLite database cannot be had.
    #[error("the lock beside the registry's database could not be taken: {0}")]
    Lock(#[source] io::Error),
}

/// Opens the database, migrating it first.
pub(crate) async fn open(database: &Database) -> Result<Db, OpenError> {
    let pools = match database {
        Database::Sqlite(path) => open_sqlite(path).await?,
        Database::Postgres(url) => {
            let options = PgConnectOptions::from_str(url.expose_secret())?;
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(ACQUIRE)
                .connect_with(options)
                .await?;
            migrate::migrator().run(&pool).await.map_err(migration_failed)?;
            Pools::Postgres(pool)
        }
    };
    let (latest, _) = watch::channel(0);
    let unknown = Db(Arc::new(Inner {
        pools,
        epoch: String::new(),
        latest,
    }));
    let (epoch, revision) = head(&unknown).await?;
    let Some(inner) = Arc::into_inner(unknown.0) else {
        unreachable!("nobody else has this handle yet")
    };
    inner.latest.send_replace(revision);
    Ok(Db(Arc::new(Inner { epoch, ..inner })))
}

async fn open_sqlite(path: &Path) -> Result<Pools, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was acknowledged is there after a power cut, too.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(ACQUIRE);
    // Migrators that race fail on SQLite: one at a time.
    let lock = path.with_extension("migrate-lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).open(lock)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(|error| OpenError::Lock(io::Error::other(error)))?
    .map_err(OpenError::Lock)?;
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .connect_with(options.clone())
        .await?;
    migrate::migrator().run(&write).await.map_err(migration_failed)?;
    drop(lock);
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE)
        .connect_with(options.read_only(true))
        .await?;
    Ok(Pools::Sqlite { write, read })
}

fn migration_failed(error: MigrateError) -> OpenError {
    if migrate::is_newer(&error) {
        OpenError::Newer
    } else {
        OpenError::Migrate(error)
    }
}

/// The epoch and the latest revision; a new database gets its epoch here.
async fn head(db: &Db) -> sqlx::Result<(String, i64)> {
    const MAKE: &str =
        "INSERT INTO head (id, revision, compacted, database_epoch) VALUES (1, 0, 0, $1) ON CONFLICT (id) DO NOTHING";
    const READ: &str = "SELECT database_epoch, revision FROM head WHERE id = 1";
    let epoch = Uuid::new_v4().to_string();
    let mut tx = db.write_quietly().await?;
    on!(tx, c => sqlx::query(MAKE).bind(epoch).execute(&mut *c).await.map(drop))?;
    let head: (String, i64) = on!(tx, c => sqlx::query_as(READ).fetch_one(&mut *c).await)?;
    tx.commit().await?;
    Ok(head)
}
