//! Retries (AIP-155): the same `request_id` of the same caller gets the first answer.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Tx, on};
use crate::domain::Error;

/// A creation that may be a retry.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    caller: &'a str,
    rpc: &'static str,
    id: Option<Uuid>,
    digest: Vec<u8>,
}

impl<'a> Request<'a> {
    /// `message` is the request without its maps, which have no order of their own and come beside it. An empty `request_id`
    /// is no retry ever; one that is no UUID is `None`, a violation for the caller to report.
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

    /// The uid of what the first such request made; `None` for a first request.
    pub(crate) async fn replayed(&self, tx: &mut Tx) -> Result<Option<String>, Error> {
        const FIND: &str =
            "SELECT digest, resource_uid FROM requests WHERE caller = $1 AND rpc = $2 AND request_id = $3";
        let Some(id) = self.id else { return Ok(None) };
        let found: Option<(Vec<u8>, String)> = on!(tx, c => sqlx::query_as(FIND).bind(self.caller).bind(self.rpc)
            .bind(id.to_string()).fetch_optional(&mut *c).await)?;
        match found {
            Some((digest, _)) if digest != self.digest => Err(Error::RequestIdReused),
            found => Ok(found.map(|(_, uid)| uid)),
        }
    }

    /// Keeps what the request made, in the transaction that makes it.
    pub(crate) async fn made(&self, tx: &mut Tx, resource_uid: &str, now: i64) -> Result<(), Error> {
        const KEEP: &str = "INSERT INTO requests (caller, rpc, request_id, digest, resource_uid, create_time) VALUES ($1, $2, $3, $4, $5, $6)";
        let Some(id) = self.id else { return Ok(()) };
        on!(tx, c => sqlx::query(KEEP).bind(self.caller).bind(self.rpc).bind(id.to_string()).bind(&self.digest)
            .bind(resource_uid).bind(now).execute(&mut *c).await.map(drop))?;
        Ok(())
    }
}

/// Forgets requests made before `before`.
pub(crate) async fn forget(tx: &mut Tx, before: i64) -> sqlx::Result<()> {
    on!(tx, c => sqlx::query("DELETE FROM requests WHERE create_time < $1").bind(before).execute(&mut *c).await.map(drop))
}
