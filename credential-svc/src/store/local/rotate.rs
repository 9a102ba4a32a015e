//! Reseals all values after the key was exchanged.
//!
//! All values are sealed with the same key, which the key check in the database identifies. Both change in one transaction.

use sqlx::{Row as _, SqlitePool};

use super::seal::Seal;
use crate::domain::ports::Version;

/// The index of the seal that the database is sealed with.
pub(super) async fn known(pool: &SqlitePool, seals: &[Seal]) -> sqlx::Result<Option<usize>> {
    let known: Vec<u8> = sqlx::query("SELECT digest FROM key_check")
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    Ok(seals.iter().position(|seal| seal.check() == known))
}

/// Reseals everything with another key, in one transaction, and one value at a time, since each may have many megabytes. A value that does
/// not open stays as it is, and never opens.
pub(super) async fn reseal(pool: &SqlitePool, from: &Seal, to: &Seal) -> sqlx::Result<()> {
    const NEXT: &str = "SELECT owner, version, sealed FROM owners WHERE owner > $1 ORDER BY owner LIMIT 1";
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let (mut after, mut values) = (String::new(), 0_u64);
    while let Some(row) = sqlx::query(NEXT).bind(&after).fetch_optional(&mut *tx).await? {
        let (owner, version): (String, _) = (row.try_get(0)?, Version(row.try_get(1)?));
        match from.open(&owner, version, row.try_get(2)?) {
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
        after = owner;
    }
    sqlx::query("UPDATE key_check SET digest = $1")
        .bind(to.check())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    tracing::info!(values, "resealed all values with the new key");
    Ok(())
}
