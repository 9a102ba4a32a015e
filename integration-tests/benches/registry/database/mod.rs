//! Creates and removes the databases of the benchmark: SQLite files, and databases of a PostgreSQL server.

pub(crate) mod bulk;
pub(crate) mod engine;

use std::{env, path::Path};

use integration_tests::Result;
use registry_svc::Database;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

pub(crate) use integration_tests::postgres::Server;

use self::bulk::Bulk;
pub(crate) use self::engine::Engine;
use crate::report::say;

/// Creates a SQLite database in this folder.
pub(crate) fn sqlite(folder: &Path) -> Database {
    Database::Sqlite(folder.join(format!("{}.db", Uuid::new_v4().simple())))
}

/// Creates a database on a PostgreSQL server.
pub(crate) async fn postgres(server: &SecretString) -> Result<Database> {
    let name = format!("bench_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server.expose_secret()).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let mut url = url::Url::parse(server.expose_secret())?;
    url.set_path(&name);
    Ok(Database::Postgres(String::from(url).into()))
}

/// Whether databases are kept after the run.
pub(crate) fn are_kept() -> bool {
    env::var_os("CHANDLERY_BENCH_KEEP").is_some()
}

/// Removes a database, unless databases [are kept](are_kept).
pub(crate) async fn remove(database: &Database, server: Option<&SecretString>) -> Result<()> {
    if are_kept() {
        match database {
            Database::Sqlite(path) => say(&format!("  kept: {}", path.display())),
            Database::Postgres(url) => {
                let url = url::Url::parse(url.expose_secret())?;
                say(&format!(
                    "  kept: the database {} of the server",
                    url.path().trim_start_matches('/')
                ));
            }
        }
        return Ok(());
    }
    match (database, server) {
        (Database::Sqlite(path), _) => {
            for ending in ["db", "db-wal", "db-shm"] {
                // The latter two exist only while the database is open.
                let _ = std::fs::remove_file(path.with_extension(ending));
            }
        }
        (Database::Postgres(url), Some(server)) => {
            let url = url::Url::parse(url.expose_secret())?;
            let name = url.path().trim_start_matches('/');
            let mut connection = PgConnection::connect(server.expose_secret()).await?;
            sqlx::query(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
                .execute(&mut connection)
                .await?;
        }
        (Database::Postgres(_), None) => {}
    }
    Ok(())
}

/// Removes the watchers of killed processes. Otherwise, every write would wait for them during the first 30 seconds.
pub(crate) async fn forget_watchers(database: &Database) -> Result<()> {
    let mut bulk = Bulk::begin(database).await?;
    bulk.run("DELETE FROM watchers").await?;
    bulk.commit().await
}

/// The size of a database on disk, in bytes.
pub(crate) async fn bytes(database: &Database) -> Result<u64> {
    Ok(match database {
        Database::Sqlite(path) => std::fs::metadata(path)?.len(),
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose_secret()).await?;
            let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
                .fetch_one(&mut connection)
                .await?;
            u64::try_from(bytes)?
        }
    })
}
