//! The tables, and how a file of an older version gets them.

use sqlx::{Row as _, SqlitePool};

use super::{reseal, seal::Seal};

/// Steps that bring a file from version N (its index) to N + 1. They are never changed, only added to.
const STEPS: [&str; 3] = [
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
    // An installation's generation is now that of its own record.
    "DROP TABLE effective;",
    // What an owner has agreed to, sealed. What secrets are bound to is sealed with them from here on: see `reseal`.
    "
    ALTER TABLE records ADD COLUMN agreed_nonce BLOB;
    ALTER TABLE records ADD COLUMN agreed BLOB;
",
];

/// The version since which what secrets are bound to is sealed with them.
const BOUND_SINCE: i64 = 3;

/// What this program writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// The version of a file; 0 for a new one.
pub(super) async fn version(pool: &SqlitePool) -> sqlx::Result<i64> {
    sqlx::query("PRAGMA user_version").fetch_one(pool).await?.try_get(0)
}

/// Brings a file to [`VERSION`], all or nothing.
pub(super) async fn migrate(pool: &SqlitePool, seal: &Seal, key_check: &[u8]) -> sqlx::Result<()> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let from: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or_default()) {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    if from == 0 {
        sqlx::query("INSERT INTO key_check (digest) VALUES ($1)")
            .bind(key_check)
            .execute(&mut *tx)
            .await?;
    }
    if from < BOUND_SINCE {
        reseal::bind_all(&mut tx, seal).await?;
    }
    // The number of steps at this time; a pragma takes no parameters.
    sqlx::raw_sql("PRAGMA user_version = 3").execute(&mut *tx).await?;
    tx.commit().await
}

const _: () = assert!(VERSION == 3, "the pragma in migrate must set the same version");
