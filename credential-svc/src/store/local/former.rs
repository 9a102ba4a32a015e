//! Migrates databases of the schemas 1 to 3, which seal each secret of an owner alone and keep everything else about it in clear, to one
//! sealed value for each owner.

use std::collections::BTreeMap;

use registry_model::destination::incomplete;
use secrecy::SecretString;
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::seal::Seal;
use crate::{
    domain::{
        destination::Agreed,
        ports::Version,
        record::{Field, Record, Value},
        replay::{Answer, Answers, Request},
        summary::StoredField,
    },
    store::encoding::encode,
};

/// Owners that are read at once.
const AT_ONCE: i64 = 256;
/// The first schema in which secrets are sealed together with the destination they are bound to.
const BOUND_SINCE: i64 = 3;

/// Fills the table `owners` from the tables of schema `from`, and drops those.
pub(super) async fn gather(tx: &mut Transaction<'static, Sqlite>, seal: &Seal, from: i64) -> sqlx::Result<()> {
    const NEXT: &str = "SELECT owner, generation, bound_destination, erased, agreed_nonce, agreed FROM records
        WHERE owner > $1 ORDER BY owner LIMIT $2";
    let first = Version::NONE.next();
    let mut after = String::new();
    loop {
        let rows = sqlx::query(NEXT)
            .bind(&after)
            .bind(AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let owner: String = row.try_get(0)?;
            let value = match row.try_get(3)? {
                // No change is under way: the process that served requests has ended.
                true => Value::Erased {
                    time: 0,
                    unrevoked: Vec::new(),
                },
                false => Value::Record(record(tx, seal, from, &owner, &row).await?),
            };
            sqlx::query("INSERT INTO owners (owner, version, sealed) VALUES ($1, $2, $3)")
                .bind(&owner)
                .bind(first.0)
                .bind(seal.seal(&owner, first, &encode(value)))
                .execute(&mut **tx)
                .await?;
            after = owner;
        }
    }
    sqlx::raw_sql("DROP TABLE secrets; DROP TABLE requests; DROP TABLE records;")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A secret that does not open is left out: it could never be read. What is left is not vended before its owner has confirmed it, or entered
/// all of it again.
async fn record(
    tx: &mut Transaction<'static, Sqlite>,
    seal: &Seal,
    from: i64,
    owner: &str,
    row: &SqliteRow,
) -> sqlx::Result<Record> {
    const SECRETS: &str = "SELECT field, generation, update_time, nonce, sealed FROM secrets WHERE owner = $1";
    let destination: String = row.try_get(2)?;
    let (mut fields, mut is_whole) = (BTreeMap::new(), true);
    for row in sqlx::query(SECRETS).bind(owner).fetch_all(&mut **tx).await? {
        let key: String = row.try_get(0)?;
        let stored = StoredField {
            generation: row.try_get(1)?,
            update_time: row.try_get(2)?,
        };
        let place = Place {
            owner,
            field: &key,
            generation: stored.generation,
            destination: (from >= BOUND_SINCE).then_some(&destination),
        };
        let opened = place.open(seal, row.try_get(3)?, row.try_get(4)?);
        let text = opened.as_ref().and_then(|plain| std::str::from_utf8(plain).ok());
        match text.map(SecretString::from) {
            Some(value) => drop(fields.insert(key, Field { stored, value })),
            None => {
                is_whole = false;
                tracing::error!(credential.owner = %owner, field = key, "a secret was not sealed for its place with the store's key; its owner must enter it again");
            }
        }
    }
    let (nonce, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.try_get(4)?, row.try_get(5)?);
    let agreed = nonce.zip(sealed).and_then(|(nonce, sealed)| {
        // No field has an empty key.
        let place = Place {
            owner,
            field: "",
            generation: 0,
            destination: Some(&destination),
        };
        let opened = place.open(seal, nonce, sealed);
        let agreed: Option<Agreed> = opened.and_then(|plain| serde_json::from_slice(&plain).ok());
        if agreed.is_none() {
            tracing::error!(credential.owner = %owner, "what the owner agreed to was not sealed for its place with the store's key; where the destination changes, the owner is not shown what has changed");
        }
        agreed
    });
    let bound_destination = match (fields.is_empty(), is_whole) {
        (true, _) => String::new(),
        (false, true) => destination,
        (false, false) => incomplete(&destination),
    };
    Ok(Record {
        generation: row.try_get(1)?,
        agreed: agreed.filter(|_| !fields.is_empty()),
        bound_destination,
        fields,
        answers: answers(tx, owner).await?,
        ..Record::default()
    })
}

/// The digests of these requests were made with a key of the store. A request that is retried does not match its digest, and is refused
/// rather than made a second time.
async fn answers(tx: &mut Transaction<'static, Sqlite>, owner: &str) -> sqlx::Result<Answers> {
    const ANSWERS: &str =
        "SELECT user_id, request_id, time, digest, summary FROM requests WHERE owner = $1 ORDER BY time";
    let mut answers = Vec::new();
    for row in sqlx::query(ANSWERS).bind(owner).fetch_all(&mut **tx).await? {
        let id = Uuid::try_parse(row.try_get(1)?);
        let digest = <[u8; 32]>::try_from(row.try_get::<&[u8], _>(3)?);
        let summary = serde_json::from_str(row.try_get(4)?);
        let (Ok(id), Ok(digest), Ok(summary)) = (id, digest, summary) else {
            tracing::error!(credential.owner = %owner, "an answer that was kept for retries cannot be read");
            continue;
        };
        let request = Request {
            user: row.try_get(0)?,
            id,
            digest,
        };
        let time = row.try_get(2)?;
        answers.push(Answer { request, time, summary });
    }
    Ok(Answers::new(answers))
}

/// The additional data of a secret.
struct Place<'a> {
    owner: &'a str,
    field: &'a str,
    generation: i64,
    /// What it is bound to. `None` before [`BOUND_SINCE`].
    destination: Option<&'a str>,
}

impl Place<'_> {
    fn open(&self, seal: &Seal, nonce: Vec<u8>, sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
        Some(seal.values.open(&self.bytes(), &[nonce, sealed].concat())?.1)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.owner, self.field] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        if let Some(destination) = self.destination {
            bytes.extend_from_slice(&(destination.len() as u64).to_be_bytes());
            bytes.extend_from_slice(destination.as_bytes());
        }
        bytes
    }
}
