//! Retries (AIP-155): the same `request_id` of the same caller gets the first answer.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Tx,
    document::{SCHEMA_VERSION, decode, newer},
    execute, on,
};
use crate::domain::Error;

/// A creation that may be a retry.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    caller: &'a str,
    rpc: &'static str,
    id: Option<Uuid>,
    digest: Vec<u8>,
}

/// The first answer to a request.
#[derive(Debug)]
pub(crate) struct Replay<M> {
    /// What it made.
    pub(crate) resource_uid: String,
    /// What was answered.
    pub(crate) answer: M,
}

impl<'a> Request<'a> {
    /// `message` is the request without its id and its maps, which have no order and are passed separately. An empty `request_id`
    /// is never a retry; one that is no UUID is `None`, a violation for the caller to report.
    pub(crate) fn new(
        caller: &'a str,
        rpc: &'static str,
        request_id: &str,
        maps: &[&HashMap<String, String>],
        message: &impl Message,
    ) -> Option<Self> {
        let id = if request_id.is_empty() {
            None
        } else {
            Some(Uuid::try_parse(request_id).ok()?)
        };
        let mut hash = Sha256::new();
        for map in maps {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            hash.update(serde_json::to_vec(&sorted).unwrap_or_default());
        }
        hash.update(message.encode_to_vec());
        Some(Self {
            caller,
            rpc,
            id,
            digest: hash.finalize().to_vec(),
        })
    }

    /// The first answer; `None` for a first request. Whether the caller may still see what it made is for the caller of this.
    pub(crate) async fn replayed<M: Message + Default>(&self, tx: &mut Tx) -> Result<Option<Replay<M>>, Error> {
        const FIND: &str = "SELECT digest, resource_uid, answer, schema_version FROM requests WHERE caller = $1 AND rpc = $2 AND request_id = $3";
        let Some(id) = self.id else { return Ok(None) };
        let found: Option<(Vec<u8>, String, Vec<u8>, i64)> = on!(tx, c => sqlx::query_as(FIND).bind(self.caller).bind(self.rpc)
            .bind(id.to_string()).fetch_optional(&mut *c).await)?;
        match found {
            None => Ok(None),
            Some((digest, ..)) if digest != self.digest => Err(Error::RequestIdReused),
            Some((.., schema_version)) if schema_version > SCHEMA_VERSION => Err(newer(schema_version).into()),
            Some((_, resource_uid, answer, _)) => Ok(Some(Replay {
                resource_uid,
                answer: decode(&answer)?,
            })),
        }
    }

    /// Keeps what the request made and its answer, in the transaction that makes it. The answer must hold no secret.
    pub(crate) async fn made(&self, tx: &mut Tx, resource_uid: &str, answer: &impl Message) -> Result<(), Error> {
        const KEEP: &str = "INSERT INTO requests (caller, rpc, request_id, digest, resource_uid, answer, schema_version, create_time) \
                            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let Some(id) = self.id else { return Ok(()) };
        let now = tx.now();
        execute!(
            tx,
            KEEP,
            [
                self.caller,
                self.rpc,
                id.to_string(),
                &self.digest,
                resource_uid,
                answer.encode_to_vec(),
                SCHEMA_VERSION,
                now
            ]
        )?;
        Ok(())
    }
}

/// Forgets up to `limit` requests made before `before`; says how many.
pub(crate) async fn forget(tx: &mut Tx, before: i64, limit: i64) -> sqlx::Result<u64> {
    const FORGET: &str = "DELETE FROM requests WHERE (caller, rpc, request_id) IN \
        (SELECT caller, rpc, request_id FROM requests WHERE create_time < $1 ORDER BY create_time LIMIT $2)";
    execute!(tx, FORGET, [before, limit])
}
