//! The write-ahead log of the database. It keeps what was replaced or deleted, as it was sealed, until it is emptied.

use sqlx::{Row as _, SqlitePool};

/// Moves the log into the database, where `secure_delete` overwrites what was replaced, and empties it. The cost depends on what was
/// written since the last call, not on what is stored. Writers wait for it; readers do not, and it waits only for those that read from
/// the log already.
pub(super) async fn empty(write: &SqlitePool) -> sqlx::Result<()> {
    let outcome = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(write).await?;
    let is_busy: bool = outcome.try_get(0)?;
    if is_busy {
        tracing::warn!(
            "credentials.db-wal still has sealed values that were replaced, because another program reads the database; the next change of a secret or the next start removes them"
        );
    }
    Ok(())
}
