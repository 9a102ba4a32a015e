//! The embedded store: one SQLite file, every value in it sealed with a key that lies beside it.

mod key;
mod reseal;
mod rotate;
mod schema;
mod seal;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use service_kit::keys::{KeyFileError, Ring};
use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use self::{
    key::Key,
    reseal::Unopened,
    seal::{Place, Seal, Sealed},
};
use crate::domain::{
    destination::Agreed,
    owner::Owner,
    ports::{Answered, Change, RequestKey, Store, StoreError, Written},
    record::{Opened, Record, StoredField},
};

/// The name of the file that holds the key, beside `credentials.db`.
pub const KEY_FILE: &str = "credential.key";

/// Puts a new key in front of the one with the id `old`, if that is still the current one, and seals every value of the store in
/// `directory` with the current key; then the others are forgotten. Cut off at any moment, the store opens, and opening it completes this.
///
/// # Errors
/// Where the store cannot be opened. Nothing may have it open at the same time.
pub async fn rotate_keys(directory: &Path, old: Option<&str>) -> Result<(), OpenError> {
    let file = directory.join(KEY_FILE);
    if let Some(ring) = Ring::existing(&file)?
        && ring.ids().first().map(String::as_str) == old
    {
        // The store as it is must open first: a key of another store is not to be put behind a new one.
        LocalStore::open(directory).await?.close().await;
        ring.rotated()?.save(&file)?;
    }
    LocalStore::open(directory).await?.close().await;
    Ok(())
}

/// Answers are kept for replays so long.
const REPLAY_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("{path}: {error}")]
    Io {
        /// Of what.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Others could read or change it.
    #[error("{path} is not safe: {remedy} {path}")]
    Unsafe {
        /// Of what.
        path: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The file of the key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is data, and no key for it.
    #[error(
        "{path} is missing, and credentials.db cannot be read without it; restore it from the backup that was taken with credentials.db"
    )]
    KeyMissing {
        /// Of the key.
        path: String,
    },
    /// The key is of another store.
    #[error("{path} is not the key of credentials.db beside it; restore the two from the same backup")]
    KeyWrong {
        /// Of the key.
        path: String,
    },
    /// A newer program wrote it.
    #[error(
        "credentials.db has version {found}, and this program knows up to {known}: it was written by a newer Chandlery"
    )]
    Newer {
        /// Of the file.
        found: i64,
        /// Of the program.
        known: i64,
    },
    /// SQLite refuses.
    #[error("credentials.db: {0}")]
    Database(#[from] sqlx::Error),
}

impl OpenError {
    fn io(path: &str, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// The store.
pub(crate) struct LocalStore {
    write: SqlitePool,
    read: SqlitePool,
    seal: Seal,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Opens `credentials.db` in `directory`, or makes it with a new key.
    pub(crate) async fn open(directory: &Path) -> Result<Self, OpenError> {
        key::check_directory(directory)?;
        let file = directory.join("credentials.db");
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
        let seals: Vec<Seal> = ring.keys().map(|key| Seal::new(&Key::new(*key))).collect();
        let known = match version {
            0 => Some(0),
            _ => rotate::known(&write, &seals).await?,
        };
        let Some(known) = known.filter(|&at| at < seals.len()) else {
            return Err(OpenError::KeyWrong { path: path() });
        };
        schema::migrate(&write, &seals[known], &rotate::check(&seals[known])).await?;
        if known > 0 {
            rotate::seal_anew(&write, &seals[known], &seals[0]).await?;
        }
        // What all values are sealed with is known now, and the others are of no use to anybody but a thief.
        if seals.len() > 1 {
            ring.current().save(&key_file)?;
        }
        let seal = seals
            .into_iter()
            .next()
            .ok_or_else(|| OpenError::KeyMissing { path: path() })?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { write, read, seal })
    }

    /// Lets go of the file, and leaves nothing beside it.
    async fn close(self) {
        self.read.close().await;
        self.write.close().await;
    }

    async fn begin(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    fn unseal(
        &self,
        owner: &str,
        destination: &str,
        row: &SqliteRow,
    ) -> Result<(String, StoredField, SecretString), StoreError> {
        let field: String = row.try_get("field")?;
        let stored = StoredField {
            generation: row.try_get("generation")?,
            update_time: row.try_get("update_time")?,
        };
        let sealed = Sealed {
            nonce: row.try_get("nonce")?,
            text: row.try_get("sealed")?,
        };
        let place = Place {
            owner,
            field: &field,
            generation: stored.generation,
            destination: Some(destination),
        };
        let value = self.seal.open(place, sealed).map_err(|_| unopened(owner, &field))?;
        Ok((field, stored, value))
    }

    fn seal_agreed(&self, owner: &str, destination: &str, agreed: &Agreed) -> Result<Sealed, StoreError> {
        let text = serde_json::to_string(agreed)
            .map_err(|error| StoreError::Corrupt(format!("what was agreed to cannot be written: {error}")))?;
        Ok(self
            .seal
            .seal(Place::of_agreement(owner, destination), &SecretString::from(text)))
    }

    /// What the owner has agreed to, if that was kept.
    async fn agreed(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        owner: &str,
        destination: &str,
    ) -> Result<Option<Agreed>, StoreError> {
        const QUERY: &str = "SELECT agreed_nonce, agreed FROM records WHERE owner = $1 AND agreed IS NOT NULL";
        let Some(row) = sqlx::query(QUERY).bind(owner).fetch_optional(&mut **tx).await? else {
            return Ok(None);
        };
        let sealed = Sealed {
            nonce: row.try_get(0)?,
            text: row.try_get(1)?,
        };
        let corrupt = || {
            StoreError::Corrupt(format!(
                "what the owner of {owner} has agreed to does not open in its place"
            ))
        };
        let text = self
            .seal
            .open(Place::of_agreement(owner, destination), sealed)
            .map_err(|_| corrupt())?;
        let agreed = serde_json::from_str(text.expose_secret()).map_err(|_| corrupt())?;
        Ok(Some(agreed))
    }
}

fn unopened(owner: &str, field: &str) -> StoreError {
    StoreError::Corrupt(format!("the field {field} of {owner} does not open in its place"))
}

/// Generation and destination of an owner that is not erased.
async fn head(tx: &mut Transaction<'static, Sqlite>, owner: &str) -> sqlx::Result<Option<Record>> {
    const QUERY: &str = "SELECT generation, bound_destination FROM records WHERE owner = $1 AND NOT erased";
    let Some(row) = sqlx::query(QUERY).bind(owner).fetch_optional(&mut **tx).await? else {
        return Ok(None);
    };
    Ok(Some(Record {
        generation: row.try_get(0)?,
        bound_destination: row.try_get(1)?,
        fields: BTreeMap::new(),
    }))
}

impl Store for LocalStore {
    async fn describe(&self, owner: &Owner) -> Result<Option<Record>, StoreError> {
        const FIELDS: &str = "SELECT field, generation, update_time FROM secrets WHERE owner = $1";
        let owner = owner.to_string();
        let mut tx = self.read.begin().await?;
        let Some(mut record) = head(&mut tx, &owner).await? else {
            return Ok(None);
        };
        for row in sqlx::query(FIELDS).bind(&owner).fetch_all(&mut *tx).await? {
            let stored = StoredField {
                generation: row.try_get(1)?,
                update_time: row.try_get(2)?,
            };
            record.fields.insert(row.try_get(0)?, stored);
        }
        tx.rollback().await?;
        Ok(Some(record))
    }

    async fn describe_many(&self, owners: &[Owner]) -> Result<HashMap<Owner, Record>, StoreError> {
        const QUERY: &str = "SELECT r.owner, r.generation, r.bound_destination, s.field, s.generation, s.update_time
            FROM records r LEFT JOIN secrets s ON s.owner = r.owner
            WHERE r.owner IN (SELECT value FROM json_each($1)) AND NOT r.erased";
        let names: HashMap<String, &Owner> = owners.iter().map(|owner| (owner.to_string(), owner)).collect();
        let list = serde_json::Value::from(names.keys().cloned().collect::<Vec<_>>()).to_string();
        let mut records: HashMap<Owner, Record> = HashMap::new();
        for row in sqlx::query(QUERY).bind(list).fetch_all(&self.read).await? {
            let name: &str = row.try_get(0)?;
            let Some(&owner) = names.get(name) else { continue };
            if !records.contains_key(owner) {
                let record = Record {
                    generation: row.try_get(1)?,
                    bound_destination: row.try_get(2)?,
                    fields: BTreeMap::new(),
                };
                records.insert(owner.clone(), record);
            }
            if let (Some(field), Some(record)) = (row.try_get::<Option<String>, _>(3)?, records.get_mut(owner)) {
                let stored = StoredField {
                    generation: row.try_get(4)?,
                    update_time: row.try_get(5)?,
                };
                record.fields.insert(field, stored);
            }
        }
        Ok(records)
    }

    async fn open(&self, owner: &Owner) -> Result<Option<Opened>, StoreError> {
        const FIELDS: &str = "SELECT field, generation, update_time, nonce, sealed FROM secrets WHERE owner = $1";
        let owner = owner.to_string();
        let mut tx = self.read.begin().await?;
        let Some(record) = head(&mut tx, &owner).await? else {
            return Ok(None);
        };
        let agreed = self.agreed(&mut tx, &owner, &record.bound_destination).await?;
        let mut opened = Opened {
            record,
            values: BTreeMap::new(),
            agreed,
        };
        for row in sqlx::query(FIELDS).bind(&owner).fetch_all(&mut *tx).await? {
            let (field, stored, value) = self.unseal(&owner, &opened.record.bound_destination, &row)?;
            opened.record.fields.insert(field.clone(), stored);
            opened.values.insert(field, value);
        }
        tx.rollback().await?;
        Ok(Some(opened))
    }

    async fn write(&self, owner: &Owner, change: Change) -> Result<Written, StoreError> {
        const INSERT: &str =
            "INSERT INTO records (owner, generation, bound_destination, erased) VALUES ($1, 0, '', FALSE)
            ON CONFLICT (owner) DO NOTHING";
        const BOUND: &str = "SELECT bound_destination FROM records WHERE owner = $1";
        const ADVANCE: &str = "UPDATE records SET generation = generation + 1, bound_destination = $3,
                agreed_nonce = $4, agreed = $5
            WHERE owner = $1 AND generation = $2 AND NOT erased";
        const PUT: &str = "INSERT INTO secrets (owner, field, generation, update_time, nonce, sealed)
            VALUES ($1, $2, $3, $4, $5, $6)";
        const ANSWER: &str = "INSERT INTO requests (user_id, request_id, owner, time, digest, summary)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, request_id) DO NOTHING";
        let owner = owner.to_string();
        let generation = change.expected_generation + 1;
        let mut tx = self.begin().await?;
        sqlx::query(INSERT).bind(&owner).execute(&mut *tx).await?;
        let before: String = sqlx::query(BOUND).bind(&owner).fetch_one(&mut *tx).await?.try_get(0)?;
        let agreed = match &change.agreed {
            Some(agreed) => Some(self.seal_agreed(&owner, &change.bound_destination, agreed)?),
            None => None,
        };
        let advanced = sqlx::query(ADVANCE)
            .bind(&owner)
            .bind(change.expected_generation)
            .bind(&change.bound_destination)
            .bind(agreed.as_ref().map(|sealed| &sealed.nonce))
            .bind(agreed.as_ref().map(|sealed| &sealed.text))
            .execute(&mut *tx)
            .await?;
        if advanced.rows_affected() == 0 {
            let erased: bool = sqlx::query("SELECT erased FROM records WHERE owner = $1")
                .bind(&owner)
                .fetch_one(&mut *tx)
                .await?
                .try_get(0)?;
            tx.rollback().await?;
            return Ok(if erased { Written::Erased } else { Written::Conflict });
        }
        let replaced = change.put.iter().map(|(field, _)| field);
        for field in change.forget.iter().chain(replaced) {
            sqlx::query("DELETE FROM secrets WHERE owner = $1 AND field = $2")
                .bind(&owner)
                .bind(field)
                .execute(&mut *tx)
                .await?;
        }
        if before != change.bound_destination
            && let Err(Unopened { field }) =
                reseal::rebind(&mut tx, &self.seal, &owner, &before, &change.bound_destination).await?
        {
            return Err(unopened(&owner, &field));
        }
        for (field, value) in &change.put {
            let sealed = self.seal.seal(
                Place {
                    owner: &owner,
                    field,
                    generation,
                    destination: Some(&change.bound_destination),
                },
                value,
            );
            sqlx::query(PUT)
                .bind(&owner)
                .bind(field)
                .bind(generation)
                .bind(change.time)
                .bind(sealed.nonce)
                .bind(sealed.text)
                .execute(&mut *tx)
                .await?;
        }
        if let Some((request, answered)) = &change.answer {
            sqlx::query("DELETE FROM requests WHERE time < $1")
                .bind(change.time.saturating_sub(REPLAY_MICROS))
                .execute(&mut *tx)
                .await?;
            let summary = serde_json::to_string(&answered.summary)
                .map_err(|error| StoreError::Corrupt(format!("an answer cannot be written: {error}")))?;
            let inserted = sqlx::query(ANSWER)
                .bind(&request.user)
                .bind(request.id.to_string())
                .bind(&owner)
                .bind(change.time)
                .bind(answered.digest.as_slice())
                .bind(summary)
                .execute(&mut *tx)
                .await?;
            if inserted.rows_affected() == 0 {
                tx.rollback().await?;
                return Ok(Written::Conflict);
            }
        }
        tx.commit().await?;
        Ok(Written::Done)
    }

    async fn answered(&self, request: &RequestKey) -> Result<Option<Answered>, StoreError> {
        const QUERY: &str = "SELECT digest, summary FROM requests WHERE user_id = $1 AND request_id = $2";
        let row = sqlx::query(QUERY)
            .bind(&request.user)
            .bind(request.id.to_string())
            .fetch_optional(&self.read)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let digest: Vec<u8> = row.try_get(0)?;
        let summary: String = row.try_get(1)?;
        let corrupt = |what: &str| StoreError::Corrupt(format!("an answer kept for replays has {what}"));
        Ok(Some(Answered {
            digest: digest.try_into().map_err(|_| corrupt("a digest of another length"))?,
            summary: serde_json::from_str(&summary).map_err(|_| corrupt("another form"))?,
        }))
    }

    async fn erase(&self, owner: &Owner) -> Result<(), StoreError> {
        const MARK: &str = "INSERT INTO records (owner, generation, bound_destination, erased) VALUES ($1, 0, '', TRUE)
            ON CONFLICT (owner) DO UPDATE SET bound_destination = '', agreed_nonce = NULL, agreed = NULL, erased = TRUE";
        let name = owner.to_string();
        let mut tx = self.begin().await?;
        sqlx::query(MARK).bind(&name).execute(&mut *tx).await?;
        let forgotten = sqlx::query("DELETE FROM secrets WHERE owner = $1")
            .bind(&name)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM requests WHERE owner = $1")
            .bind(&name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if forgotten.rows_affected() > 0 {
            // What was sealed leaves the journal too. Readers may hold it up; the next one takes it along.
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&self.write)
                .await?;
        }
        Ok(())
    }

    async fn outgrow(&self, owner: &Owner, told: i64) -> Result<(), StoreError> {
        const OUTGROW: &str =
            "INSERT INTO records (owner, generation, bound_destination, erased) VALUES ($1, $2 + 1, '', FALSE)
            ON CONFLICT (owner) DO UPDATE SET generation = excluded.generation
            WHERE records.generation < $2 AND NOT records.erased";
        let grown = sqlx::query(OUTGROW)
            .bind(owner.to_string())
            .bind(told)
            .execute(&self.write)
            .await?;
        if grown.rows_affected() > 0 {
            tracing::warn!(credential.owner = %owner, generation.told = told, "the store is older than what was told of it");
        }
        Ok(())
    }

    fn keyed_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.seal.digest(parts)
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
