//! Entries: their documents, and what they are found by.

use contracts::registry::{Entry, EntryRollout, FeatureKind, RolloutHold};
use prost::Message as _;
use sqlx::Row as _;

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute, identity, on, rows, search,
};
use crate::domain::time::micros;

/// The entry that has this slug now.
pub(crate) async fn by_slug(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<Entry>> {
    const FIND: &str = "SELECT document, schema_version FROM entries WHERE slug = $1 AND delete_time IS NULL";
    let found = rows!(tx, FIND, [slug], row => document(row))?;
    Ok(found.into_iter().next())
}

/// The entry with this uid, also one that waits for cleanup.
pub(crate) async fn by_uid(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Entry>> {
    const FIND: &str = "SELECT document, schema_version FROM entries WHERE uid = $1";
    let found = rows!(tx, FIND, [uid], row => document(row))?;
    Ok(found.into_iter().next())
}

/// The hash of the tools of those that have some: a [`FeatureKind::Tool`] set.
pub(crate) fn tool_set(discovered: &[contracts::registry::DiscoveredSet]) -> &str {
    discovered
        .iter()
        .find(|set| set.kind() == FeatureKind::Tool)
        .map_or("", |set| set.set_hash.as_str())
}

/// Writes an entry, new or there already; sets its revision. What it is found by is [`index`]ed apart.
pub(crate) async fn put(tx: &mut Tx, entry: &mut Entry) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO entries \
        (uid, slug, entry_revision, lifecycle, document, schema_version, tool_set, create_time, delete_time, registry_revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (uid) DO UPDATE SET \
        entry_revision = excluded.entry_revision, lifecycle = excluded.lifecycle, document = excluded.document, \
        schema_version = excluded.schema_version, tool_set = excluded.tool_set, delete_time = excluded.delete_time, \
        registry_revision = excluded.registry_revision";
    entry.registry_revision = tx.revision();
    entry.rollout = None;
    let document = entry.encode_to_vec();
    let slug = entry.name.trim_start_matches("entries/");
    execute!(
        tx,
        PUT,
        [
            &entry.uid,
            slug,
            entry.entry_revision,
            i64::from(entry.lifecycle),
            &document,
            SCHEMA_VERSION,
            tool_set(&entry.discovered),
            entry.create_time.as_ref().map(micros),
            entry.delete_time.as_ref().map(micros),
            entry.registry_revision
        ]
    )?;
    tx.put(Object::Entry, &entry.uid, &document);
    Ok(())
}

/// Says whether the entry's installations, and when it is deleted its assignments, are still to be processed.
pub(crate) async fn set_unfinished(tx: &mut Tx, uid: &str, unfinished: bool) -> sqlx::Result<()> {
    const SET: &str = "UPDATE entries SET unfinished = $1 WHERE uid = $2";
    execute!(tx, SET, [unfinished, uid]).map(drop)
}

/// The first unfinished entry whose uid comes after this one.
pub(crate) async fn unfinished_after(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<String>> {
    const FIND: &str = "SELECT uid FROM entries WHERE unfinished AND uid > $1 ORDER BY uid LIMIT 1";
    on!(tx, c => sqlx::query_scalar(FIND).bind(uid).fetch_optional(&mut *c).await)
}

/// The revision of the last step that was done for the entry, if nothing is left to be done.
pub(crate) async fn finished(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<i64>> {
    const FIND: &str = "SELECT unfinished, rollout_revision FROM entries WHERE uid = $1";
    let found: Option<(bool, i64)> = on!(tx, c => sqlx::query_as(FIND).bind(uid).fetch_optional(&mut *c).await)?;
    match found {
        Some((unfinished, revision)) => Ok((!unfinished).then_some(revision)),
        // An entry that is gone is finished. Its last revision is no longer known; this view includes it.
        None => Ok(Some(identity::head(tx).await?.revision)),
    }
}

/// Notes that this transaction does a step for the entry that watchers see.
pub(crate) async fn set_rollout_revision(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    const SET: &str = "UPDATE entries SET rollout_revision = $1 WHERE uid = $2";
    let revision = tx.revision();
    execute!(tx, SET, [revision, uid]).map(drop)
}

/// Makes an entry, which was found by what it was `before`, found by its present audience, labels and words, or by nothing if it is
/// deleted. `team_uids` are those of its visibility.
pub(crate) async fn index(
    tx: &mut Tx,
    before: Option<&Entry>,
    entry: &Entry,
    team_uids: &[String],
) -> sqlx::Result<()> {
    if entry.delete_time.is_some() {
        return search::clear(tx, &entry.uid).await;
    }
    search::update(tx, before, entry, team_uids).await
}

/// Makes an entry found by a lifecycle that it did not have before.
pub(crate) async fn index_lifecycle(tx: &mut Tx, entry: &Entry) -> sqlx::Result<()> {
    search::set_lifecycle(tx, entry).await
}

/// The uids of up to `limit` installations of it that are not deleted, in no order.
pub(crate) async fn some_installations(tx: &mut Tx, uid: &str, limit: i64) -> sqlx::Result<Vec<String>> {
    const FIND: &str = "SELECT uid FROM installations WHERE entry_uid = $1 AND delete_time IS NULL LIMIT $2";
    rows!(tx, FIND, [uid, limit], row => row.try_get("uid"))
}

/// How many installations it has that are not deleted.
pub(crate) async fn count_installed(tx: &mut Tx, uid: &str) -> sqlx::Result<i64> {
    const COUNT: &str = "SELECT count(*) FROM installations WHERE entry_uid = $1 AND delete_time IS NULL";
    on!(tx, c => sqlx::query_scalar(COUNT).bind(uid).fetch_one(&mut *c).await)
}

/// How far its installations have come to this entry revision.
pub(crate) async fn rollout(tx: &mut Tx, uid: &str, entry_revision: i64) -> sqlx::Result<EntryRollout> {
    const LEFT: &str = "SELECT count(*) FROM installations \
        WHERE entry_uid = $1 AND settled_entry_revision < $2 AND delete_time IS NULL";
    const ALL: &str = "SELECT count(*) FROM installations \
        WHERE entry_uid = $1 AND settled_entry_revision >= $2 AND delete_time IS NULL";
    const HELD: &str = "SELECT hold_reason, count(*) AS held FROM installations WHERE entry_uid = $1 \
        AND hold_reason <> '' AND settled_entry_revision >= $2 AND delete_time IS NULL \
        GROUP BY hold_reason ORDER BY held DESC, hold_reason";
    let left = on!(tx, c => sqlx::query_scalar(LEFT).bind(uid).bind(entry_revision).fetch_one(&mut *c).await)?;
    let settled: i64 = on!(tx, c => sqlx::query_scalar(ALL).bind(uid).bind(entry_revision).fetch_one(&mut *c).await)?;
    let holds = rows!(tx, HELD, [uid, entry_revision], row => Ok(RolloutHold {
        reason: row.try_get("hold_reason")?,
        installations: row.try_get("held")?,
    }))?;
    let held = holds.iter().map(|hold| hold.installations).sum();
    Ok(EntryRollout {
        entry_revision,
        moved: settled - held,
        held,
        left,
        holds,
    })
}

/// That somebody of these audiences sees the entry whose uid is in this column. An entry has few audiences, a caller may have a thousand:
/// the former are read.
macro_rules! seen {
    ($column:literal) => {
        concat!(
            "(SELECT 1 FROM entry_audiences a WHERE a.entry_uid = ",
            $column,
            " AND a.audience || '' IN ({}) LIMIT 1) IS NOT NULL"
        )
    };
}
pub(super) use seen;
