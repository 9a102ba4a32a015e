//! Seals everything anew where the key was exchanged.
//!
//! All values are sealed with one key, and the check of the key in the same file says with which: they change together, in one transaction.

use sqlx::{Row as _, Sqlite, SqlitePool, Transaction};

use super::seal::{Place, Seal, Sealed};

/// Rows that are sealed anew at once.
const AT_ONCE: i64 = 256;

/// What the file holds of a key, to know it by.
pub(super) fn check(seal: &Seal) -> Vec<u8> {
    seal.digest(&[b"key check"]).to_vec()
}

/// Which of `seals` the file is sealed with.
pub(super) async fn known(pool: &SqlitePool, seals: &[Seal]) -> sqlx::Result<Option<usize>> {
    let known: Vec<u8> = sqlx::query("SELECT digest FROM key_check")
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    Ok(seals.iter().position(|seal| check(seal) == known))
}

/// Seals everything with another key, in one transaction.
pub(super) async fn seal_anew(pool: &SqlitePool, from: &Seal, to: &Seal) -> sqlx::Result<()> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let values = secrets(&mut tx, from, to).await?;
    agreed(&mut tx, from, to).await?;
    sqlx::query("UPDATE key_check SET digest = $1")
        .bind(check(to))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    // What was sealed with the old key is not to be found in the log either.
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await?;
    tracing::info!(values, "sealed all values with the new key");
    Ok(())
}

/// Says how many. A value that does not open in its place stays as it is, and does not open later either.
async fn secrets(tx: &mut Transaction<'static, Sqlite>, from: &Seal, to: &Seal) -> sqlx::Result<u64> {
    const NEXT: &str = "SELECT s.owner, s.field, s.generation, s.nonce, s.sealed, r.bound_destination
        FROM secrets s JOIN records r ON r.owner = s.owner
        WHERE (s.owner, s.field) > ($1, $2) ORDER BY s.owner, s.field LIMIT $3";
    const SEAL: &str = "UPDATE secrets SET nonce = $3, sealed = $4 WHERE owner = $1 AND field = $2";
    let (mut behind, mut done) = ((String::new(), String::new()), 0);
    loop {
        let rows = sqlx::query(NEXT)
            .bind(&behind.0)
            .bind(&behind.1)
            .bind(AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
        if rows.is_empty() {
            return Ok(done);
        }
        for row in rows {
            let (owner, field, destination): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(5)?);
            let place = Place {
                owner: &owner,
                field: &field,
                generation: row.try_get(2)?,
                destination: Some(&destination),
            };
            let sealed = Sealed {
                nonce: row.try_get(3)?,
                text: row.try_get(4)?,
            };
            match from.open(place, sealed) {
                Ok(value) => {
                    let sealed = to.seal(place, &value);
                    let update = sqlx::query(SEAL).bind(&owner).bind(&field);
                    update.bind(sealed.nonce).bind(sealed.text).execute(&mut **tx).await?;
                    done += 1;
                }
                Err(_) => {
                    tracing::error!(credential.owner = %owner, field, "a value does not open in its place; it is to be entered again");
                }
            }
            behind = (owner, field);
        }
    }
}

/// What owners have agreed to.
async fn agreed(tx: &mut Transaction<'static, Sqlite>, from: &Seal, to: &Seal) -> sqlx::Result<()> {
    const NEXT: &str = "SELECT owner, bound_destination, agreed_nonce, agreed FROM records
        WHERE owner > $1 AND agreed IS NOT NULL ORDER BY owner LIMIT $2";
    const SEAL: &str = "UPDATE records SET agreed_nonce = $2, agreed = $3 WHERE owner = $1";
    let mut behind = String::new();
    loop {
        let rows = sqlx::query(NEXT)
            .bind(&behind)
            .bind(AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let (owner, destination): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let place = Place::of_agreement(&owner, &destination);
            let sealed = Sealed {
                nonce: row.try_get(2)?,
                text: row.try_get(3)?,
            };
            match from.open(place, sealed) {
                Ok(text) => {
                    let sealed = to.seal(place, &text);
                    let update = sqlx::query(SEAL).bind(&owner);
                    update.bind(sealed.nonce).bind(sealed.text).execute(&mut **tx).await?;
                }
                Err(_) => {
                    tracing::error!(credential.owner = %owner, "what was agreed to does not open in its place");
                }
            }
            behind = owner;
        }
    }
}
