//! Deleted entries and installations go once nothing is left of them elsewhere.

use service_kit::Workload;

use super::{Object, Tx, on, tools};

/// What may be cleaned up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    Entry,
    Installation,
}

/// How a report of a cleanup was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It counts, or there is no such thing any more.
    Taken,
    /// The thing is not deleted.
    StillThere,
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
    on!(tx, c => sqlx::query(note).bind(uid).execute(&mut *c).await.map(drop))?;
    match what {
        Deleted::Entry => remove_entry(tx, uid).await?,
        Deleted::Installation => remove_installation(tx, uid).await?,
    }
    Ok(Outcome::Taken)
}

async fn remove_installation(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const CLEAN: &str = "SELECT entry_uid FROM installations \
        WHERE uid = $1 AND delete_time IS NOT NULL AND credential_cleaned AND runtime_cleaned";
    let entry_uid: Option<String> = on!(tx, c => sqlx::query_scalar(CLEAN).bind(uid).fetch_optional(&mut *c).await)?;
    let Some(entry_uid) = entry_uid else { return Ok(()) };
    remove_assignments(
        tx,
        "DELETE FROM tool_assignments WHERE pinned_installation_uid = $1 RETURNING uid",
        uid,
    )
    .await?;
    tools::remove_set(tx, uid).await?;
    for statement in [
        "DELETE FROM conditions WHERE installation_uid = $1",
        "DELETE FROM installations WHERE uid = $1",
    ] {
        on!(tx, c => sqlx::query(statement).bind(uid).execute(&mut *c).await.map(drop))?;
    }
    tx.changed(Object::Installation, uid).await?;
    // Its entry may have been waiting for it.
    remove_entry(tx, &entry_uid).await
}

async fn remove_entry(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const CLEAN: &str = "SELECT uid FROM entries \
        WHERE uid = $1 AND delete_time IS NOT NULL AND credential_cleaned AND runtime_cleaned \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = $1)";
    let clean: Option<String> = on!(tx, c => sqlx::query_scalar(CLEAN).bind(uid).fetch_optional(&mut *c).await)?;
    if clean.is_none() {
        return Ok(());
    }
    remove_assignments(
        tx,
        "DELETE FROM tool_assignments WHERE entry_uid = $1 RETURNING uid",
        uid,
    )
    .await?;
    tools::remove_set(tx, uid).await?;
    for statement in [
        "DELETE FROM entry_teams WHERE entry_uid = $1",
        "DELETE FROM entry_revisions WHERE entry_uid = $1",
        "DELETE FROM entries WHERE uid = $1",
    ] {
        on!(tx, c => sqlx::query(statement).bind(uid).execute(&mut *c).await.map(drop))?;
    }
    tx.changed(Object::Entry, uid).await
}

async fn remove_assignments(tx: &mut Tx, statement: &'static str, uid: &str) -> sqlx::Result<()> {
    let removed: Vec<String> = on!(tx, c => sqlx::query_scalar(statement).bind(uid).fetch_all(&mut *c).await)?;
    for uid in removed {
        tx.changed(Object::ToolAssignment, &uid).await?;
    }
    Ok(())
}
