//! Opens a database and makes it ready.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    str::FromStr as _,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    Connection as _, PgConnection, PgPool, SqlitePool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    db::{Db, Pools},
    flush::Flush,
    identity, migrate, snapshot,
};
use crate::config::Database;

/// Connections of each kind.
const WRITERS: u32 = 8;
const READERS: u32 = 8;
/// The number of snapshots that are read at once.
pub(crate) const SNAPSHOTS: u32 = 4;
const SIGNALS: u32 = 4;
/// How long a call waits for a connection, or for a lock, before it fails and the caller may retry.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is tested before it is used again.
const IDLE: Duration = Duration::from_secs(1);
/// Rows that SQLite may read ahead of the reader: each wait for a row costs more than the row, and some are a megabyte. A
/// snapshot asks for as many as it has room for.
const READ_AHEAD: usize = 26;
/// SQLite's log is cut to this after a burst (bytes).
const LOG_LIMIT: &str = "67108864";
/// Pages of SQLite's log at which a write takes part in moving them into the file. Before that, it is done concurrently with the writes
/// (`checkpoint.rs`), so that there is little left to move then.
const CHECKPOINT_AT: &str = "16384";
/// Pages that the connection that writes keeps in memory (KiB, negative).
const WRITE_CACHE: &str = "-16384";

/// For statements that read few rows, by an index: PostgreSQL takes a disk for one that has to be turned, and would rather read a table of
/// some hundred teams whole, at each call. To compile a statement takes longer than to run it.
const PLANNING: [(&str, &str); 2] = [("random_page_cost", "1.1"), ("jit", "off")];
/// PostgreSQL ends what delays others: the wait for a lock, a long statement, an idle transaction.
const LIMITS: [(&str, &str); 3] = [
    ("lock_timeout", "5s"),
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "15s"),
];
/// A read waits for no lock but that of somebody who changes or locks a whole table: it fails soon, so that those of other tables find a
/// connection.
const READ_LIMITS: [(&str, &str); 1] = [("lock_timeout", "500ms")];
/// A snapshot waits for its watcher in the middle of a transaction, for half of this at most.
const SNAPSHOT_LIMITS: [(&str, &str); 2] = [("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "60s")];

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program wrote it.
    #[error(
        "the registry's database was written by a newer version of Chandlery: run that version, or restore a backup"
    )]
    Newer,
    /// Its schema was never released.
    #[error(
        "the registry's database is from before the first release of Chandlery and cannot be read: start with an empty data folder, or an empty database"
    )]
    Unreleased,
    /// The schema could not be brought up to date.
    #[error("the registry's database could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
    /// It cannot be opened or reached. The URL is not repeated: it may hold a password.
    #[error("the registry's database could not be opened: {}", reason(.0))]
    Open(#[from] sqlx::Error),
    /// The URL is not one of PostgreSQL. It is not repeated: it may hold a password.
    #[error("the URL of the registry's database must be postgres://USER:PASSWORD@HOST/DATABASE")]
    Url,
    /// The file of an SQLite database cannot be made, or kept from others.
    #[error("the file of the registry's database could not be made for its owner alone: {0}")]
    File(#[source] io::Error),
    /// Another process has claimed it.
    #[error(
        "another chandlery uses the registry's database ({0}), and one process serves a database: stop that one first, or name another database"
    )]
    InUse(String),
    /// The lock file of an SQLite database cannot be locked.
    #[error("the lock beside the registry's database could not be taken: {0}")]
    Lock(#[source] io::Error),
}

/// What PostgreSQL says, and what the person who started the program can do about it.
fn reason(error: &sqlx::Error) -> String {
    let Some(told) = error.as_database_error() else {
        return error.to_string();
    };
    let next = match told.code().as_deref() {
        // invalid_catalog_name
        Some("3D000") => ": create it first, with createdb",
        // invalid_authorization_specification, invalid_password
        Some("28000" | "28P01") => ": look at the user and the password in its URL",
        _ => "",
    };
    format!("{}{next}", told.message())
}

/// Opens the database, migrating it first.
pub(crate) async fn open(database: &Database) -> Result<Db, OpenError> {
    let pools = match database {
        Database::Sqlite(path) => open_sqlite(path).await?,
        Database::Postgres(url) => open_postgres(postgres_options(url)?).await?,
    };
    let db = Db::new(pools);
    identity::opened(&db).await?;
    Ok(db)
}

/// Reads the URL of a database of PostgreSQL.
pub(super) fn postgres_options(url: &SecretString) -> Result<PgConnectOptions, OpenError> {
    let url = url.expose_secret();
    let is_postgres = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    let options = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres);
    options.ok_or(OpenError::Url)
}

async fn open_postgres(options: PgConnectOptions) -> Result<Pools, OpenError> {
    // Neither a migration nor the wait for another replica's is limited.
    let mut connection = PgConnection::connect_with(&options).await?;
    migrate::migrator()
        .run(&mut connection)
        .await
        .map_err(migration_failed)?;
    connection.close().await?;
    let options = options.options(PLANNING);
    let limited = options.clone().options(LIMITS);
    Ok(Pools::Postgres {
        write: postgres_pool("write", WRITERS, limited.clone()),
        flush: Flush::start(postgres_pool("flush", 1, limited.clone())),
        read: postgres_pool("read", READERS, limited.clone().options(READ_LIMITS)),
        snapshot: postgres_pool("snapshot", SNAPSHOTS, options.clone().options(SNAPSHOT_LIMITS)),
        signal: postgres_pool("signal", SIGNALS, limited.options([("synchronous_commit", "off")])),
        listen: postgres_pool("listen", 1, options),
    })
}

/// `pg_stat_activity` shows what a connection is for.
fn postgres_pool(purpose: &str, connections: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        // Each is tried when it is given back. Only what has waited long since may have broken in the meantime.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.application_name(&format!("chandlery {purpose}")))
}

/// For the owner alone, whatever the umask is: the registry says who has what, and holds the hashes of tokens.
const PRIVATE: u32 = 0o600;

/// Makes the file before SQLite would, and takes from others what an earlier program has left them. SQLite gives its log and the index of
/// that the permissions of the file. One that is there is not opened: to close it again would end this process's locks on it.
fn keep_private(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(PRIVATE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let found = match fs::metadata(&name) {
            Ok(found) => found.permissions().mode() & 0o777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match fs::set_permissions(&name, Permissions::from_mode(PRIVATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) if found & 0o077 != 0 => tracing::warn!(
                "{} had mode {found:03o}, so that other users may have read it: it is for this user alone now",
                name.display()
            ),
            _ => {}
        }
    }
    Ok(())
}

async fn open_sqlite(path: &Path) -> Result<Pools, OpenError> {
    keep_private(path).map_err(OpenError::File)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was acknowledged is there after a power cut, too.
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_LIMIT)
        .foreign_keys(true)
        .row_buffer_size(READ_AHEAD)
        // Otherwise each statement that changes many rows makes a temporary file for its rollback.
        .pragma("temp_store", "MEMORY")
        .busy_timeout(ACQUIRE);
    // Migrators that race fail on SQLite: one at a time.
    let lock = path.with_extension("migrate-lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).mode(PRIVATE).open(lock)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(|error| OpenError::Lock(io::Error::other(error)))?
    .map_err(OpenError::Lock)?;
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_with(
            options
                .clone()
                .pragma("wal_autocheckpoint", CHECKPOINT_AT)
                .pragma("cache_size", WRITE_CACHE),
        )
        .await?;
    migrate::migrator().run(&write).await.map_err(migration_failed)?;
    drop(lock);
    let checkpoint = sqlite_pool(1, options.clone());
    let options = options.read_only(true);
    Ok(Pools::Sqlite {
        write,
        checkpoint,
        read: sqlite_pool(READERS, options.clone()),
        snapshot: sqlite_pool(SNAPSHOTS, options.row_buffer_size(snapshot::PAGE)),
    })
}

fn sqlite_pool(connections: u32, options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

fn migration_failed(error: MigrateError) -> OpenError {
    match error {
        MigrateError::VersionMissing(_) => OpenError::Newer,
        MigrateError::VersionMismatch(_) => OpenError::Unreleased,
        error => OpenError::Migrate(error),
    }
}
