//! Opening the store: its folder, its key, its tables, and what an interrupted rotation of keys left to do.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration};

use service_kit::keys::Ring;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{LocalStore, error::OpenError, folder, journal, rotate, schema, seal::Seal};

/// The name of the file that holds the key, in the folder of `credentials.db`.
pub const KEY_FILE: &str = "credential.key";
const DATABASE: &str = "credentials.db";

/// Whether there is a store in `directory` that holds values. Makes none.
pub(crate) async fn secrets_in(directory: &Path) -> Result<bool, OpenError> {
    if !directory.join(DATABASE).exists() {
        return Ok(false);
    }
    let store = LocalStore::open(directory).await?;
    let any = sqlx::query("SELECT 1 FROM owners LIMIT 1")
        .fetch_optional(&store.read)
        .await?;
    store.close().await;
    Ok(any.is_some())
}

/// Replaces the key with the id `old`, if that is still the current one, by a new key, and reseals all values of the store in
/// `directory`. If this is interrupted at any moment, the store still opens, and opening it completes the rotation. Does nothing where
/// there is no store: secrets may be in another system.
///
/// # Errors
/// Where the store cannot be opened. No other process may have it open.
pub async fn rotate_keys(directory: &Path, old: Option<&str>) -> Result<(), OpenError> {
    if !directory.join(DATABASE).exists() {
        return Ok(());
    }
    let file = directory.join(KEY_FILE);
    if let Some(ring) = Ring::existing(&file)?
        && ring.ids().first().map(String::as_str) == old
    {
        // The store must open as it is first: this fails if the key belongs to another store.
        LocalStore::open(directory).await?.close().await;
        ring.rotated()?.save(&file)?;
    }
    LocalStore::open(directory).await?.close().await;
    Ok(())
}

impl LocalStore {
    /// Opens `credentials.db` in `directory`, or makes it with a new key.
    pub(crate) async fn open(directory: &Path) -> Result<Self, OpenError> {
        folder::check(directory)?;
        let file = directory.join(DATABASE);
        let key_file = directory.join(KEY_FILE);
        // The journals get the permissions of the file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| OpenError::io(&file.display().to_string(), error))?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("secure_delete", "ON");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await?;
        let version = schema::version(&write).await?;
        if version > schema::VERSION {
            return Err(OpenError::Newer {
                found: version,
                known: schema::VERSION,
            });
        }
        let path = || key_file.display().to_string();
        let ring = match Ring::existing(&key_file)? {
            Some(ring) => ring,
            // The tables and the check of the key come in one transaction: no tables, no data.
            None if version == 0 => Ring::open(&key_file)?,
            None => return Err(OpenError::KeyMissing { path: path() }),
        };
        let mut seals: Vec<Seal> = ring.keys().map(Seal::new).collect();
        let known = match version {
            0 => Some(0),
            _ => rotate::known(&write, &seals).await?,
        };
        let Some(known) = known.filter(|&at| at < seals.len()) else {
            return Err(OpenError::KeyWrong { path: path() });
        };
        schema::migrate(&write, &seals[known]).await?;
        if known > 0 {
            rotate::reseal(&write, &seals[known], &seals[0]).await?;
        }
        // Of the migration, the rotation, and whatever was interrupted before.
        journal::empty(&write).await?;
        // All values are sealed with the first key now; the others could only help a thief.
        if seals.len() > 1 {
            ring.current().save(&key_file)?;
        }
        let seal = Arc::new(seals.swap_remove(0));
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { write, read, seal })
    }

    /// Closes the database, which removes its journal.
    pub(super) async fn close(self) {
        self.read.close().await;
        self.write.close().await;
    }
}
