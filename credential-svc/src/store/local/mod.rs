//! The embedded store: one SQLite file, in which every value is sealed with a key from another file of the same folder.

mod error;
mod folder;
mod former;
mod journal;
mod open;
mod rotate;
mod schema;
mod seal;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use service_kit::turns::off_thread;
use sqlx::{Row as _, SqlitePool};

pub(crate) use self::open::secrets_in;
use self::seal::Seal;
pub use self::{
    error::OpenError,
    open::{KEY_FILE, rotate_keys},
};
use super::encoding::{decode, encode};
use crate::domain::{
    owner::Owner,
    ports::{Store, StoreError, Version, Written},
    record::Value,
};

/// The largest value (bytes of its secrets): one owner can put 64 secrets of 64 KiB, and those of earlier entry revisions stay.
const MAX: usize = 16 << 20;

/// The store.
pub(crate) struct LocalStore {
    write: SqlitePool,
    read: SqlitePool,
    seal: Arc<Seal>,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").finish_non_exhaustive()
    }
}

impl Store for LocalStore {
    async fn read(&self, owner: &Owner) -> Result<Option<(Version, Value)>, StoreError> {
        let name = owner.to_string();
        let row = sqlx::query("SELECT version, sealed FROM owners WHERE owner = $1")
            .bind(&name)
            .fetch_optional(&self.read)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let version = Version(row.try_get(0)?);
        let sealed: Vec<u8> = row.try_get(1)?;
        let seal = Arc::clone(&self.seal);
        let opened = off_thread(sealed.len(), move || {
            let encoded = seal.open(&name, version, &sealed);
            let encoded = encoded.ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "the value of {name} was not sealed for its place with this key"
                ))
            })?;
            decode(&encoded)
        });
        Ok(Some((version, opened.await?)))
    }

    async fn write(&self, owner: &Owner, expected: Version, value: Value) -> Result<Written, StoreError> {
        const CREATE: &str =
            "INSERT INTO owners (owner, version, sealed) VALUES ($1, $2, $3) ON CONFLICT (owner) DO NOTHING";
        const REPLACE: &str = "UPDATE owners SET version = $2, sealed = $3 WHERE owner = $1 AND version = $2 - 1";
        let (name, next) = (owner.to_string(), expected.next());
        let size = value.size();
        if size > MAX {
            return Err(StoreError::TooLarge { size, limit: MAX });
        }
        let seal = Arc::clone(&self.seal);
        let sealed = off_thread(size, {
            let name = name.clone();
            move || seal.seal(&name, next, &encode(value))
        });
        let statement = if expected == Version::NONE { CREATE } else { REPLACE };
        let written = sqlx::query(statement)
            .bind(name)
            .bind(next.0)
            .bind(sealed.await)
            .execute(&self.write)
            .await?;
        if written.rows_affected() == 0 {
            return Ok(Written::Conflict);
        }
        if expected != Version::NONE {
            journal::empty(&self.write).await?;
        }
        Ok(Written::Done)
    }

    async fn delete(&self, owner: &Owner) -> Result<(), StoreError> {
        let deleted = sqlx::query("DELETE FROM owners WHERE owner = $1")
            .bind(owner.to_string())
            .execute(&self.write)
            .await?;
        if deleted.rows_affected() > 0 {
            journal::empty(&self.write).await?;
        }
        Ok(())
    }

    async fn list(&self, after: Option<&Owner>, limit: usize) -> Result<Vec<Owner>, StoreError> {
        // Names have the order of owners: entries first, then by uid.
        let rows = sqlx::query("SELECT owner FROM owners WHERE owner > $1 ORDER BY owner LIMIT $2")
            .bind(after.map(Owner::to_string).unwrap_or_default())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.read)
            .await?;
        let owner = |row: sqlx::sqlite::SqliteRow| {
            let name: String = row.try_get(0)?;
            Owner::parse(&name).ok_or_else(|| StoreError::Corrupt(format!("the owner {name} is of an unknown kind")))
        };
        rows.into_iter().map(owner).collect()
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.read).await?;
        Ok(())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
