//! Installations: what is written, and in which order they are listed.

use contracts::registry::{ConditionStatus, ConditionType, ReinstallRequired};
use prost::Message as _;
use sqlx::Row as _;

use super::{Object, Tx, load::rows, on};
use crate::domain::{etag, installation::Values};

/// Whose an installation is, by uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// One user's.
    User(String),
    /// A team's.
    Team(String),
}

/// A new installation.
#[derive(Debug)]
pub(crate) struct NewInstallation<'a> {
    pub(crate) uid: &'a str,
    pub(crate) entry_uid: &'a str,
    pub(crate) entry_revision: i64,
    pub(crate) owner: &'a Owner,
    pub(crate) values: &'a Values,
    /// Uid of the user who makes it.
    pub(crate) creator: &'a str,
    pub(crate) now: i64,
    /// When it goes if nobody completes it.
    pub(crate) expire_time: i64,
}

/// Adds an installation at generation 1.
pub(crate) async fn insert(tx: &mut Tx, new: &NewInstallation<'_>) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO installations (uid, entry_uid, user_uid, team_uid, field_values, created_entry_revision, \
         running_entry_revision, generation, etag, creator, create_time, update_time, expire_time, revision) \
         VALUES ($1, $2, $3, $4, $5, $6, $6, 1, $7, $8, $9, $9, $10, $11)";
    let (user, team) = match new.owner {
        Owner::User(uid) => (Some(uid.as_str()), None),
        Owner::Team(uid) => (None, Some(uid.as_str())),
    };
    let revision = tx.revision();
    let values = to_json(new.values)?;
    on!(tx, c => sqlx::query(INSERT).bind(new.uid).bind(new.entry_uid).bind(user).bind(team).bind(values)
        .bind(new.entry_revision).bind(etag::of(new.uid, revision)).bind(new.creator).bind(new.now).bind(new.expire_time)
        .bind(revision).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Installation, new.uid).await
}

/// Gives it other values and the revision to run; whatever held it back no longer does.
pub(crate) async fn update(
    tx: &mut Tx,
    uid: &str,
    values: &Values,
    entry_revision: i64,
    new_generation: bool,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE installations SET field_values = $1, running_entry_revision = $2, generation = generation + $3, \
                          reinstall = NULL, update_time = $4, etag = $5 WHERE uid = $6";
    let (values, etag) = (to_json(values)?, etag::of(uid, tx.revision()));
    on!(tx, c => sqlx::query(UPDATE).bind(values).bind(entry_revision).bind(i64::from(new_generation)).bind(now).bind(etag)
        .bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Installation, uid).await
}

/// Moves it to a revision that needs nothing of its owner; the etag that they know stays good.
pub(crate) async fn follow(
    tx: &mut Tx,
    uid: &str,
    values: &Values,
    entry_revision: i64,
    new_generation: bool,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE installations SET field_values = $1, running_entry_revision = $2, generation = generation + $3, \
                          reinstall = NULL, update_time = $4 WHERE uid = $5";
    let values = to_json(values)?;
    on!(tx, c => sqlx::query(UPDATE).bind(values).bind(entry_revision).bind(i64::from(new_generation)).bind(now).bind(uid)
        .execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Installation, uid).await
}

/// Keeps it at the revision it runs, and says why.
pub(crate) async fn hold(tx: &mut Tx, uid: &str, why: &ReinstallRequired, now: i64) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE installations SET reinstall = $1, update_time = $2 WHERE uid = $3";
    let why = why.encode_to_vec();
    on!(tx, c => sqlx::query(UPDATE).bind(why).bind(now).bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Installation, uid).await
}

/// Marks it deleted: it goes once credential-svc and orchestrator-svc have reported their cleanup.
pub(crate) async fn mark_deleted(tx: &mut Tx, uid: &str, now: i64) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE installations SET delete_time = $1, update_time = $1, expire_time = NULL, etag = $2 \
                          WHERE uid = $3 AND delete_time IS NULL";
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(UPDATE).bind(now).bind(etag).bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::Installation, uid).await
}

/// The uid of the installation that this owner has of this entry.
pub(crate) async fn of_owner(tx: &mut Tx, entry_uid: &str, owner: &Owner) -> sqlx::Result<Option<String>> {
    const OF_USER: &str =
        "SELECT uid FROM installations WHERE entry_uid = $1 AND user_uid = $2 AND delete_time IS NULL";
    const OF_TEAM: &str =
        "SELECT uid FROM installations WHERE entry_uid = $1 AND team_uid = $2 AND delete_time IS NULL";
    let (sql, owner) = match owner {
        Owner::User(uid) => (OF_USER, uid),
        Owner::Team(uid) => (OF_TEAM, uid),
    };
    on!(tx, c => sqlx::query_scalar(sql).bind(entry_uid).bind(owner).fetch_optional(&mut *c).await)
}

/// Positions, entries and owners of up to `limit` installations behind `after`, oldest first. Empty filters take all.
pub(crate) async fn after(
    tx: &mut Tx,
    after: (i64, &str),
    entry_uid: &str,
    limit: i64,
) -> sqlx::Result<Vec<((i64, String), Owner)>> {
    const SELECT: &str = "SELECT create_time, uid, user_uid, team_uid FROM installations \
                          WHERE delete_time IS NULL AND (create_time, uid) > ($1, $2) AND ($3 = '' OR entry_uid = $3) \
                          ORDER BY create_time, uid LIMIT $4";
    rows!(tx, SELECT, [after.0, after.1, entry_uid, limit], row => {
        let user: Option<String> = row.try_get("user_uid")?;
        let team: Option<String> = row.try_get("team_uid")?;
        let owner = user.map_or_else(|| Owner::Team(team.unwrap_or_default()), Owner::User);
        Ok(((row.try_get("create_time")?, row.try_get("uid")?), owner))
    })
}

/// The uids of installations that nobody has completed by `now`: never ready, and still without their credential.
pub(crate) async fn expired(tx: &mut Tx, now: i64, limit: i64) -> sqlx::Result<Vec<String>> {
    const SELECT: &str = "SELECT uid FROM installations WHERE expire_time IS NOT NULL AND expire_time <= $1 AND delete_time IS NULL \
                          AND first_ready_time IS NULL AND NOT EXISTS (SELECT 1 FROM conditions c WHERE c.installation_uid = installations.uid \
                          AND c.condition_type = $2 AND c.status = $3) ORDER BY expire_time, uid LIMIT $4";
    let (credential, there) = (ConditionType::CredentialReady as i64, ConditionStatus::True as i64);
    rows!(tx, SELECT, [now, credential, there, limit], row => row.try_get("uid"))
}

fn to_json(values: &Values) -> sqlx::Result<String> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
