//! The tables, and the migration of databases with an older schema.

use sqlx::{Row as _, SqlitePool};

use super::{former, seal::Seal};

/// Statements that bring a database from schema N (the index) to N + 1. They are never changed, only added to.
const STEPS: [&str; 4] = [
    "
    CREATE TABLE key_check (
        digest BLOB NOT NULL
    );
    CREATE TABLE records (
        owner TEXT PRIMARY KEY,
        generation BIGINT NOT NULL,
        bound_destination TEXT NOT NULL,
        erased BOOLEAN NOT NULL
    );
    CREATE TABLE secrets (
        owner TEXT NOT NULL REFERENCES records (owner),
        field TEXT NOT NULL,
        generation BIGINT NOT NULL,
        update_time BIGINT NOT NULL,
        nonce BLOB NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (owner, field)
    );
    CREATE TABLE requests (
        user_id TEXT NOT NULL,
        request_id TEXT NOT NULL,
        owner TEXT NOT NULL REFERENCES records (owner),
        time BIGINT NOT NULL,
        digest BLOB NOT NULL,
        summary TEXT NOT NULL,
        PRIMARY KEY (user_id, request_id)
    );
    CREATE INDEX requests_by_time ON requests (time);
    CREATE INDEX requests_by_owner ON requests (owner);
    CREATE TABLE effective (
        installation TEXT PRIMARY KEY,
        generation BIGINT NOT NULL,
        fingerprint BLOB NOT NULL
    );
",
    // An installation's generation is that of its own record since then.
    "DROP TABLE effective;",
    // What an owner has agreed to, sealed. From here on, each secret is sealed together with the destination it is bound to.
    "
    ALTER TABLE records ADD COLUMN agreed_nonce BLOB;
    ALTER TABLE records ADD COLUMN agreed BLOB;
",
    // One sealed value for each owner. `former` fills it from the other tables, and drops those.
    "
    CREATE TABLE owners (
        owner TEXT PRIMARY KEY,
        version BIGINT NOT NULL,
        sealed BLOB NOT NULL
    );
",
];

/// The schema of this version.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// The schema of a database; 0 for a new one.
pub(super) async fn version(pool: &SqlitePool) -> sqlx::Result<i64> {
    sqlx::query("PRAGMA user_version").fetch_one(pool).await?.try_get(0)
}

/// Brings a database to [`VERSION`], all or nothing.
pub(super) async fn migrate(pool: &SqlitePool, seal: &Seal) -> sqlx::Result<()> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let from: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
    if from == VERSION {
        return tx.rollback().await;
    }
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or_default()) {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    if from == 0 {
        sqlx::query("INSERT INTO key_check (digest) VALUES ($1)")
            .bind(seal.check())
            .execute(&mut *tx)
            .await?;
    }
    former::gather(&mut tx, seal, from).await?;
    // The number of steps at this time; a pragma takes no parameters.
    sqlx::raw_sql("PRAGMA user_version = 4").execute(&mut *tx).await?;
    tx.commit().await
}

const _: () = assert!(VERSION == 4, "the pragma in migrate must set the same version");
