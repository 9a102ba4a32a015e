//! Tool assignments: what is written, and in which order they are listed.

use sqlx::Row as _;

use super::{Object, Tx, load::rows, on};
use crate::domain::etag;

/// A new assignment.
#[derive(Debug)]
pub(crate) struct NewAssignment<'a> {
    pub(crate) uid: &'a str,
    pub(crate) consumer_uid: &'a str,
    pub(crate) entry_uid: &'a str,
    pub(crate) tool: &'a str,
    /// Uid of the installation it is pinned to.
    pub(crate) pinned: Option<&'a str>,
    pub(crate) exposed_name: &'a str,
    /// Uid of the user who makes it.
    pub(crate) creator: &'a str,
    pub(crate) now: i64,
}

/// Adds one.
pub(crate) async fn insert(tx: &mut Tx, new: &NewAssignment<'_>) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO tool_assignments (uid, consumer_uid, entry_uid, tool, pinned_installation_uid, exposed_name, \
                          creator, etag, create_time, update_time, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)";
    let revision = tx.revision();
    on!(tx, c => sqlx::query(INSERT).bind(new.uid).bind(new.consumer_uid).bind(new.entry_uid).bind(new.tool).bind(new.pinned)
        .bind(new.exposed_name).bind(new.creator).bind(etag::of(new.uid, revision)).bind(new.now).bind(revision)
        .execute(&mut *c).await.map(drop))?;
    tx.changed(Object::ToolAssignment, new.uid).await
}

/// Changes how the installation is chosen and which name is shown.
pub(crate) async fn update(
    tx: &mut Tx,
    uid: &str,
    pinned: Option<&str>,
    exposed_name: &str,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE tool_assignments SET pinned_installation_uid = $1, exposed_name = $2, update_time = $3, etag = $4 \
                          WHERE uid = $5";
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(UPDATE).bind(pinned).bind(exposed_name).bind(now).bind(etag).bind(uid)
        .execute(&mut *c).await.map(drop))?;
    tx.changed(Object::ToolAssignment, uid).await
}

/// Takes one away.
pub(crate) async fn delete(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    on!(tx, c => sqlx::query("DELETE FROM tool_assignments WHERE uid = $1").bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::ToolAssignment, uid).await
}

/// Takes away all of an entry.
pub(crate) async fn delete_of_entry(tx: &mut Tx, entry_uid: &str) -> sqlx::Result<()> {
    const DELETE: &str = "DELETE FROM tool_assignments WHERE entry_uid = $1 RETURNING uid";
    for uid in rows!(tx, DELETE, [entry_uid], row => row.try_get::<String, _>("uid"))? {
        tx.changed(Object::ToolAssignment, &uid).await?;
    }
    Ok(())
}

/// The uid of another assignment of the same consumer that `exposed_name` would collide with.
pub(crate) async fn exposing(
    tx: &mut Tx,
    consumer_uid: &str,
    exposed_name: &str,
    except: &str,
) -> sqlx::Result<Option<String>> {
    const SELECT: &str =
        "SELECT uid FROM tool_assignments WHERE consumer_uid = $1 AND exposed_name = $2 AND uid <> $3 LIMIT 1";
    on!(tx, c => sqlx::query_scalar(SELECT).bind(consumer_uid).bind(exposed_name).bind(except).fetch_optional(&mut *c).await)
}

/// The uid of another assignment of the same tool with the same binding to the same consumer.
pub(crate) async fn same(
    tx: &mut Tx,
    consumer_uid: &str,
    entry_uid: &str,
    tool: &str,
    pinned: Option<&str>,
    except: &str,
) -> sqlx::Result<Option<String>> {
    const SELECT: &str = "SELECT uid FROM tool_assignments WHERE consumer_uid = $1 AND entry_uid = $2 AND tool = $3 \
                          AND COALESCE(pinned_installation_uid, '') = $4 AND uid <> $5 LIMIT 1";
    on!(tx, c => sqlx::query_scalar(SELECT).bind(consumer_uid).bind(entry_uid).bind(tool).bind(pinned.unwrap_or_default())
        .bind(except).fetch_optional(&mut *c).await)
}

/// The uids of up to `limit` assignments of a consumer behind `after`, oldest first.
pub(crate) async fn uids_after(
    tx: &mut Tx,
    consumer_uid: &str,
    after: (i64, &str),
    limit: i64,
) -> sqlx::Result<Vec<(i64, String)>> {
    const SELECT: &str = "SELECT create_time, uid FROM tool_assignments WHERE consumer_uid = $1 AND (create_time, uid) > ($2, $3) \
                          ORDER BY create_time, uid LIMIT $4";
    rows!(tx, SELECT, [consumer_uid, after.0, after.1, limit], row => {
        Ok((row.try_get("create_time")?, row.try_get("uid")?))
    })
}

/// Whether an entry or an installation is known to have this tool.
pub(crate) async fn has_tool(tx: &mut Tx, owner_uid: &str, tool: &str) -> sqlx::Result<bool> {
    const SELECT: &str = "SELECT tool FROM tool_set_tools WHERE owner_uid = $1 AND tool = $2";
    let found: Option<String> =
        on!(tx, c => sqlx::query_scalar(SELECT).bind(owner_uid).bind(tool).fetch_optional(&mut *c).await)?;
    Ok(found.is_some())
}
