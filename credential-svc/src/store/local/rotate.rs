//! Reseals all values after the key was exchanged.
//!
//! All values are sealed with the same key, which the key check in the database identifies. Both change in one transaction.

use sqlx::{Row as _, SqlitePool};

use super::seal::Seal;
use crate::domain::ports::Version;

/// Rows that are read at once.
const AT_ONCE: i64 = 256;

/// The index of the seal that the database is sealed with.
pub(super) async fn known(pool: &SqlitePool, seals: &[Seal]) -> sqlx::Result<Option<usize>> {
    let known: Vec<u8> = sqlx::query("SELECT digest FROM key_check")
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    Ok(seals.iter().position(|seal| seal.check() == known))
}

/// Reseals everything with another key, in one transaction. A value that does not open stays as it is, and never opens.
pub(super) async fn reseal(pool: &SqlitePool, from: &Seal, to: &Seal) -> sqlx::Result<()> {
    const NEXT: &str = "SELECT owner, version, sealed FROM owners WHERE owner > $1 ORDER BY owner LIMIT $2";
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let (mut behind, mut values) = (String::new(), 0_u64);
    loop {
        let rows = sqlx::query(NEXT)
            .bind(&behind)
            .bind(AT_ONCE)
            .fetch_all(&mut *tx)
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let (owner, version): (String, _) = (row.try_get(0)?, Version(row.try_get(1)?));
            let sealed: Vec<u8> = row.try_get(2)?;
            match from.open(&owner, version, &sealed) {
                Some(encoded) => {
                    sqlx::query("UPDATE owners SET sealed = $2 WHERE owner = $1")
                        .bind(&owner)
                        .bind(to.seal(&owner, version, &encoded))
                        .execute(&mut *tx)
                        .await?;
                    values += 1;
                }
                None => {
                    tracing::error!(credential.owner = %owner, "a value was not sealed for its place with the store's key; it stays as it is")
                }
            }
            behind = owner;
        }
    }
    sqlx::query("UPDATE key_check SET digest = $1")
        .bind(to.check())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    // Nothing that was sealed with the old key stays in the journal.
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await?;
    tracing::info!(values, "resealed all values with the new key");
    Ok(())
}
