//! The change log, as watchers read it.

use contracts::registry::{Change, ChangeBatch, ObjectKind, Removal, WatchedObject, change};
use prost::Message as _;
use sqlx::Row as _;

use super::{Object, Tx, load, load::Which, load::rows, on};

/// So many revisions are read at once.
const WINDOW: i64 = 64;
/// So many revisions are kept to resume from.
const KEPT: i64 = 10_000;

/// Where the log stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The latest revision.
    pub(crate) revision: i64,
    /// What is needed to resume from before this revision has been forgotten.
    pub(crate) compacted: i64,
}

/// Reads the head.
pub(crate) async fn head(tx: &mut Tx) -> sqlx::Result<Head> {
    const HEAD: &str = "SELECT revision, compacted FROM head WHERE id = 1";
    let (revision, compacted) = on!(tx, c => sqlx::query_as(HEAD).fetch_one(&mut *c).await)?;
    Ok(Head { revision, compacted })
}

/// What changed behind a revision.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is too long ago.
    Compacted,
    /// These batches, up to this revision.
    Batches(Vec<ChangeBatch>, i64),
}

/// The changes of `kinds` (bits) in some revisions behind `after`, one batch a revision.
pub(crate) async fn next(tx: &mut Tx, after: i64, kinds: i64) -> sqlx::Result<Next> {
    const CHANGES: &str = "SELECT revision, kind, object_key, object FROM changes \
        WHERE revision > $1 AND revision <= $2 ORDER BY revision, position";
    let head = head(tx).await?;
    if after < head.compacted || after > head.revision {
        return Ok(Next::Compacted);
    }
    let until = head.revision.min(after + WINDOW);
    let changes = rows!(tx, CHANGES, [after, until], row => {
        let revision: i64 = row.try_get("revision")?;
        let kind: i64 = row.try_get("kind")?;
        let key: String = row.try_get("object_key")?;
        let object: Option<Vec<u8>> = row.try_get("object")?;
        Ok((revision, kind, key, object))
    })?;
    let mut batches: Vec<ChangeBatch> = Vec::new();
    for (revision, kind, key, object) in changes {
        if kinds & (1 << kind) == 0 {
            continue;
        }
        let change = match object {
            Some(object) => change::Change::Put(
                WatchedObject::decode(object.as_slice()).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            ),
            None => {
                let kind = i32::try_from(kind)
                    .ok()
                    .and_then(|kind| ObjectKind::try_from(kind).ok())
                    .unwrap_or_default();
                change::Change::Remove(Removal { kind: kind.into(), key })
            }
        };
        let change = Change { change: Some(change) };
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => batches.push(ChangeBatch {
                revision,
                changes: vec![change],
            }),
        }
    }
    Ok(Next::Batches(batches, until))
}

/// All objects of `kinds` (bits), and the revision they show.
pub(crate) async fn snapshot(tx: &mut Tx, kinds: i64) -> sqlx::Result<(i64, Vec<WatchedObject>)> {
    let revision = head(tx).await?.revision;
    let mut objects = Vec::new();
    for object in Object::ALL {
        if kinds & (1 << object.kind() as i64) != 0 {
            objects.append(&mut load::snapshot(tx, object, Which::All).await?);
        }
    }
    Ok((revision, objects))
}

/// Forgets what is too long ago.
pub(crate) async fn compact(tx: &mut Tx) -> sqlx::Result<()> {
    const FORGET: &str = "DELETE FROM changes WHERE revision <= $1";
    // `compacted` first: on PostgreSQL it locks the row that every writer locks first.
    const MARK: &str = "UPDATE head SET compacted = $1 WHERE id = 1 AND compacted < $1";
    let until = head(tx).await?.revision - KEPT;
    if until > 0 {
        on!(tx, c => sqlx::query(MARK).bind(until).execute(&mut *c).await.map(drop))?;
        on!(tx, c => sqlx::query(FORGET).bind(until).execute(&mut *c).await.map(drop))?;
    }
    Ok(())
}
