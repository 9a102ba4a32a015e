//! Entry revisions: immutable, and watched as long as something runs them.

use contracts::registry::EntryRevision;
use prost::Message as _;
use sqlx::Row as _;

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute, fitting, rows,
};
use crate::domain::Room;

fn key(entry_uid: &str, number: i64) -> String {
    format!("{entry_uid}/{number}")
}

/// Adds one, which is the current one from now on.
pub(crate) async fn insert(tx: &mut Tx, revision: &EntryRevision) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO entry_revisions (entry_uid, number, document, schema_version, in_use) VALUES ($1, $2, $3, $4, TRUE)";
    let document = revision.encode_to_vec();
    execute!(
        tx,
        INSERT,
        [&revision.entry_uid, revision.number, &document, SCHEMA_VERSION]
    )?;
    tx.put(
        Object::EntryRevision,
        &key(&revision.entry_uid, revision.number),
        &document,
    );
    Ok(())
}

/// One of an entry's.
pub(crate) async fn get(tx: &mut Tx, entry_uid: &str, number: i64) -> sqlx::Result<Option<EntryRevision>> {
    const FIND: &str = "SELECT document, schema_version FROM entry_revisions WHERE entry_uid = $1 AND number = $2";
    let found = rows!(tx, FIND, [entry_uid, number], row => document(row))?;
    Ok(found.into_iter().next())
}

/// Up to `limit` of an entry's below `before`, newest first; fewer where they are too large for a page.
pub(crate) async fn before(tx: &mut Tx, entry_uid: &str, before: i64, limit: i64) -> sqlx::Result<Vec<EntryRevision>> {
    fitting!(tx, Room::of_page(), sqlx::query(BEFORE).bind(entry_uid).bind(before).bind(limit), row => document(row), revision => EntryRevision::encoded_len(revision))
}

/// The statement of [`before`].
pub(super) const BEFORE: &str = "SELECT document, schema_version FROM entry_revisions \
    WHERE entry_uid = $1 AND number < $2 ORDER BY number DESC LIMIT $3";

/// Removes the older revisions that no installation runs any more from watchers.
pub(crate) async fn retire(tx: &mut Tx, entry_uid: &str, current: i64) -> sqlx::Result<()> {
    const RETIRE: &str = "UPDATE entry_revisions SET in_use = FALSE WHERE entry_uid = $1 AND number < $2 AND in_use \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = $1 \
            AND i.settled_entry_revision = entry_revisions.number AND i.hold_reason = '' AND i.delete_time IS NULL) \
        AND NOT EXISTS (SELECT 1 FROM installations i WHERE i.entry_uid = $1 \
            AND i.running_entry_revision = entry_revisions.number AND (i.hold_reason <> '' OR i.delete_time IS NOT NULL)) \
        RETURNING number";
    for number in rows!(tx, RETIRE, [entry_uid, current], row => row.try_get::<i64, _>("number"))? {
        tx.remove(Object::EntryRevision, &key(entry_uid, number));
    }
    Ok(())
}

/// Deletes all revisions of an entry that is removed.
pub(crate) async fn remove(tx: &mut Tx, entry_uid: &str) -> sqlx::Result<()> {
    const WATCHED: &str = "SELECT number FROM entry_revisions WHERE entry_uid = $1 AND in_use";
    const REMOVE: &str = "DELETE FROM entry_revisions WHERE entry_uid = $1";
    for number in rows!(tx, WATCHED, [entry_uid], row => row.try_get::<i64, _>("number"))? {
        tx.remove(Object::EntryRevision, &key(entry_uid, number));
    }
    execute!(tx, REMOVE, [entry_uid]).map(drop)
}
