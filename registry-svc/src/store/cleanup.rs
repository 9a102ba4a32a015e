//! Deleted entries and installations go once nothing is left of them elsewhere, nor here of what depends on them.

use contracts::registry::{Entry, Installation};
use service_kit::Workload;
use sqlx::Row as _;

use super::{Object, Tx, entries, execute, features, installations, on, revisions, rows, runtimes};

/// Assignments pinned to an installation that one transaction takes away.
const PINNED_AT_ONCE: i64 = 100;

/// What may be cleaned up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    Entry,
    Installation,
}

/// The outcome of a report of a cleanup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was noted, or the resource no longer exists.
    Taken,
    /// The resource is not deleted.
    StillThere,
}

/// Whether the resource no longer exists, or `workload` has reported its cleanup before.
pub(crate) async fn is_noted(tx: &mut Tx, what: Deleted, uid: &str, workload: Workload) -> sqlx::Result<bool> {
    let find = match (what, workload) {
        (Deleted::Entry, Workload::Credential) => "SELECT credential_cleaned FROM entries WHERE uid = $1",
        (Deleted::Entry, _) => "SELECT runtime_cleaned FROM entries WHERE uid = $1",
        (Deleted::Installation, Workload::Credential) => "SELECT credential_cleaned FROM installations WHERE uid = $1",
        (Deleted::Installation, _) => "SELECT runtime_cleaned FROM installations WHERE uid = $1",
    };
    let noted: Option<bool> = on!(tx, c => sqlx::query_scalar(find).bind(uid).fetch_optional(&mut *c).await)?;
    Ok(noted.unwrap_or(true))
}

/// Notes that `workload` has cleaned up, and removes the row if it was the last to.
pub(crate) async fn report(tx: &mut Tx, what: Deleted, uid: &str, workload: Workload) -> sqlx::Result<Outcome> {
    let (deleted, by_credential, by_orchestrator) = match what {
        Deleted::Entry => (
            "SELECT delete_time FROM entries WHERE uid = $1",
            "UPDATE entries SET credential_cleaned = TRUE WHERE uid = $1",
            "UPDATE entries SET runtime_cleaned = TRUE WHERE uid = $1",
        ),
        Deleted::Installation => (
            "SELECT delete_time FROM installations WHERE uid = $1",
            "UPDATE installations SET credential_cleaned = TRUE WHERE uid = $1",
            "UPDATE installations SET runtime_cleaned = TRUE WHERE uid = $1",
        ),
    };
    let delete_time: Option<Option<i64>> =
        on!(tx, c => sqlx::query_scalar(deleted).bind(uid).fetch_optional(&mut *c).await)?;
    match delete_time {
        None => return Ok(Outcome::Taken),
        Some(None) => return Ok(Outcome::StillThere),
        Some(Some(_)) => {}
    }
    let note = if workload == Workload::Credential {
        by_credential
    } else {
        by_orchestrator
    };
    execute!(tx, note, [uid])?;
    match what {
        Deleted::Entry => remove_entry(tx, uid).await?,
        Deleted::Installation => remove_installation(tx, uid).await?,
    }
    Ok(Outcome::Taken)
}

/// Removes one installation, or one entry, that everybody has cleaned up after and that waited for what depends on it; says
/// whether there was one. A step of it is bounded: there may be more to do for the same one.
pub(crate) async fn remove_next(tx: &mut Tx) -> sqlx::Result<bool> {
    const INSTALLATION: &str = "SELECT uid FROM installations WHERE credential_cleaned AND runtime_cleaned LIMIT 1";
    const ENTRY: &str = "SELECT uid FROM entries WHERE credential_cleaned AND runtime_cleaned AND NOT unfinished \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = entries.uid) LIMIT 1";
    let installation: Option<String> = on!(tx, c => sqlx::query_scalar(INSTALLATION).fetch_optional(&mut *c).await)?;
    if let Some(uid) = installation {
        remove_installation(tx, &uid).await?;
        return Ok(true);
    }
    let entry: Option<String> = on!(tx, c => sqlx::query_scalar(ENTRY).fetch_optional(&mut *c).await)?;
    if let Some(uid) = entry {
        remove_entry(tx, &uid).await?;
        return Ok(true);
    }
    Ok(false)
}

/// Whether [`remove_next`] may have something to do.
pub(crate) async fn has_next(tx: &mut Tx) -> sqlx::Result<bool> {
    const NEXT: &str = "SELECT uid FROM installations WHERE credential_cleaned AND runtime_cleaned \
        UNION ALL SELECT uid FROM entries WHERE credential_cleaned AND runtime_cleaned AND NOT unfinished \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = entries.uid) LIMIT 1";
    Ok(!rows!(tx, NEXT, [], _row => Ok(()))?.is_empty())
}

async fn remove_installation(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const CLEAN: &str = "SELECT document, schema_version FROM installations \
        WHERE uid = $1 AND delete_time IS NOT NULL AND credential_cleaned AND runtime_cleaned";
    const PINNED: &str = "DELETE FROM tool_assignments WHERE uid IN \
        (SELECT uid FROM tool_assignments WHERE pinned_uid = $1 AND pinned_uid <> '' LIMIT $2) RETURNING uid";
    let clean: Vec<Installation> = rows!(tx, CLEAN, [uid], row => super::document::document(row))?;
    let Some(installation) = clean.into_iter().next() else {
        return Ok(());
    };
    if remove_assignments(tx, PINNED, uid, PINNED_AT_ONCE).await? {
        return Ok(());
    }
    runtimes::remove(tx, uid).await?;
    installations::remove(tx, uid).await?;
    features::release(tx, entries::tool_set(&installation.discovered)).await?;
    if let Some(entry) = entries::by_uid(tx, &installation.entry_uid).await? {
        revisions::retire(tx, &entry.uid, entry.entry_revision).await?;
        // It may have been waiting for this installation.
        remove_entry(tx, &entry.uid).await?;
    }
    Ok(())
}

async fn remove_entry(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const CLEAN: &str = "SELECT document, schema_version FROM entries \
        WHERE uid = $1 AND delete_time IS NOT NULL AND credential_cleaned AND runtime_cleaned AND NOT unfinished \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = $1)";
    let clean: Vec<Entry> = rows!(tx, CLEAN, [uid], row => super::document::document(row))?;
    let Some(entry) = clean.into_iter().next() else {
        return Ok(());
    };
    revisions::remove(tx, uid).await?;
    runtimes::remove(tx, uid).await?;
    execute!(tx, "DELETE FROM entries WHERE uid = $1", [uid])?;
    tx.remove(Object::Entry, uid);
    features::release(tx, entries::tool_set(&entry.discovered)).await
}

/// Takes up to `limit` assignments of a deleted entry away; says whether there may be more.
pub(crate) async fn remove_assignments_of_entry(tx: &mut Tx, entry_uid: &str, limit: i64) -> sqlx::Result<bool> {
    const OF_ENTRY: &str = "DELETE FROM tool_assignments WHERE uid IN \
        (SELECT uid FROM tool_assignments WHERE entry_uid = $1 LIMIT $2) RETURNING uid";
    remove_assignments(tx, OF_ENTRY, entry_uid, limit).await
}

async fn remove_assignments(tx: &mut Tx, statement: &'static str, of: &str, limit: i64) -> sqlx::Result<bool> {
    let removed = rows!(tx, statement, [of, limit], row => row.try_get::<String, _>("uid"))?;
    for uid in &removed {
        tx.remove(Object::ToolAssignment, uid);
    }
    Ok(i64::try_from(removed.len()).is_ok_and(|removed| removed >= limit))
}
