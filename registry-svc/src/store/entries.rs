//! Entries and their revisions: what is written, and in which order they are listed.

use contracts::registry::{Entry, EntryLifecycle, EntryRevision};
use prost::Message as _;
use sqlx::Row as _;

use super::{
    Object, Tx,
    load::{self, rows, timestamp},
    on,
};
use crate::domain::{entry::EntrySpec, etag};

/// Adds an entry at its first revision.
pub(crate) async fn insert(
    tx: &mut Tx,
    uid: &str,
    slug: &str,
    spec: &EntrySpec,
    creator: &str,
    now: i64,
) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO entries (uid, slug, lifecycle, entry_revision, creator, updater, etag, create_time, \
                          update_time, revision) VALUES ($1, $2, $3, 1, $4, $4, $5, $6, $6, $7)";
    let revision = tx.revision();
    let lifecycle = EntryLifecycle::Draft as i64;
    on!(tx, c => sqlx::query(INSERT).bind(uid).bind(slug).bind(lifecycle).bind(creator).bind(etag::of(uid, revision)).bind(now)
        .bind(revision).execute(&mut *c).await.map(drop))?;
    insert_revision(tx, uid, 1, spec, creator, now).await?;
    tx.changed(Object::Entry, uid).await
}

/// Adds a revision and makes it the current one.
pub(crate) async fn update(
    tx: &mut Tx,
    uid: &str,
    number: i64,
    spec: &EntrySpec,
    updater: &str,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str =
        "UPDATE entries SET entry_revision = $1, updater = $2, update_time = $3, etag = $4 WHERE uid = $5";
    insert_revision(tx, uid, number, spec, updater, now).await?;
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(UPDATE).bind(number).bind(updater).bind(now).bind(etag).bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Entry, uid).await
}

async fn insert_revision(
    tx: &mut Tx,
    uid: &str,
    number: i64,
    spec: &EntrySpec,
    creator: &str,
    now: i64,
) -> sqlx::Result<()> {
    const INSERT: &str =
        "INSERT INTO entry_revisions (entry_uid, number, document, creator, create_time) VALUES ($1, $2, $3, $4, $5)";
    let document = spec.message().encode_to_vec();
    on!(tx, c => sqlx::query(INSERT).bind(uid).bind(number).bind(document).bind(creator).bind(now).execute(&mut *c).await.map(drop))
}

/// Says anew which teams see it.
pub(crate) async fn set_teams(tx: &mut Tx, uid: &str, team_uids: &[String]) -> sqlx::Result<()> {
    on!(tx, c => sqlx::query("DELETE FROM entry_teams WHERE entry_uid = $1").bind(uid).execute(&mut *c).await.map(drop))?;
    for team in team_uids {
        const INSERT: &str = "INSERT INTO entry_teams (entry_uid, team_uid) VALUES ($1, $2)";
        on!(tx, c => sqlx::query(INSERT).bind(uid).bind(team).execute(&mut *c).await.map(drop))?;
    }
    Ok(())
}

/// Moves it to another lifecycle.
pub(crate) async fn set_lifecycle(
    tx: &mut Tx,
    uid: &str,
    lifecycle: EntryLifecycle,
    updater: &str,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE entries SET lifecycle = $1, updater = $2, update_time = $3, etag = $4 WHERE uid = $5";
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(UPDATE).bind(lifecycle as i64).bind(updater).bind(now).bind(etag).bind(uid)
        .execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Entry, uid).await
}

/// Marks it deleted: nobody finds it any more, and it goes once everybody has cleaned up.
pub(crate) async fn mark_deleted(tx: &mut Tx, uid: &str, updater: &str, now: i64) -> sqlx::Result<()> {
    const UPDATE: &str =
        "UPDATE entries SET delete_time = $1, update_time = $1, updater = $2, etag = $3 WHERE uid = $4";
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(UPDATE).bind(now).bind(updater).bind(etag).bind(uid).execute(&mut *c).await.map(drop))?;
    set_teams(tx, uid, &[]).await?;
    tx.changed(Object::Entry, uid).await
}

/// The uids of up to `limit` entries behind `after`, oldest first.
pub(crate) async fn uids_after(tx: &mut Tx, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
    const SELECT: &str = "SELECT create_time, uid FROM entries WHERE delete_time IS NULL AND (create_time, uid) > ($1, $2) \
                          ORDER BY create_time, uid LIMIT $3";
    rows!(tx, SELECT, [after.0, after.1, limit], row => Ok((row.try_get("create_time")?, row.try_get("uid")?)))
}

/// An entry as it was at a revision.
pub(crate) async fn at_revision(tx: &mut Tx, uid: &str, number: i64) -> sqlx::Result<Option<EntrySpec>> {
    const SELECT: &str = "SELECT document FROM entry_revisions WHERE entry_uid = $1 AND number = $2";
    let found = rows!(tx, SELECT, [uid, number], row => {
        let document: Vec<u8> = row.try_get("document")?;
        decode(&document).map(EntrySpec::from_stored)
    })?;
    Ok(found.into_iter().next())
}

/// Up to `limit` revisions of `entry` below `before`, newest first.
pub(crate) async fn revisions_before(
    tx: &mut Tx,
    entry: &Entry,
    before: i64,
    limit: i64,
) -> sqlx::Result<Vec<EntryRevision>> {
    const SELECT: &str = "SELECT number, document, creator, create_time FROM entry_revisions \
                          WHERE entry_uid = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
    rows!(tx, SELECT, [entry.uid.as_str(), before, limit], row => {
        let number: i64 = row.try_get("number")?;
        let document: Vec<u8> = row.try_get("document")?;
        let creator: String = row.try_get("creator")?;
        Ok(EntryRevision {
            name: format!("{}/revisions/{number}", entry.name),
            entry: Some(Entry {
                name: entry.name.clone(),
                uid: entry.uid.clone(),
                entry_revision: number,
                creator: entry.creator.clone(),
                create_time: entry.create_time,
                ..decode(&document)?
            }),
            create_time: Some(timestamp(row.try_get("create_time")?)),
            creator: format!("users/{creator}"),
        })
    })
}

/// The uids of its installations that are not deleted, oldest first.
pub(crate) async fn installations(tx: &mut Tx, uid: &str) -> sqlx::Result<Vec<String>> {
    const SELECT: &str =
        "SELECT uid FROM installations WHERE entry_uid = $1 AND delete_time IS NULL ORDER BY create_time, uid";
    rows!(tx, SELECT, [uid], row => row.try_get("uid"))
}

/// The uids of the teams of these names, or the first name that no team has.
pub(crate) async fn team_uids(tx: &mut Tx, names: &[String]) -> sqlx::Result<Result<Vec<String>, usize>> {
    let mut uids = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match load::team_uid(tx, name.trim_start_matches("teams/")).await? {
            Some(uid) => uids.push(uid),
            None => return Ok(Err(index)),
        }
    }
    Ok(Ok(uids))
}

fn decode(document: &[u8]) -> sqlx::Result<Entry> {
    Entry::decode(document).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
