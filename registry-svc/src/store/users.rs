//! Users as tokens name them, and the teams they belong to.

use service_kit::{User, UserId};
use sqlx::Row as _;

use super::{Db, Object, Tx, load::rows, on};
use crate::domain::caller::{Caller, CallerTeam};

/// A user's row.
#[derive(Debug)]
pub(crate) struct UserRow {
    pub(crate) uid: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) admin: bool,
    pub(crate) deactivate_time: Option<i64>,
    pub(crate) create_time: i64,
}

/// Reads one user.
pub(crate) async fn find(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<UserRow>> {
    const FIND: &str = "SELECT uid, issuer, subject, email, display_name, admin, deactivate_time, create_time FROM users WHERE uid = $1";
    let found = rows!(tx, FIND, [uid], row => Ok(UserRow {
        uid: row.try_get("uid")?,
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        email: row.try_get("email")?,
        display_name: row.try_get("display_name")?,
        admin: row.try_get("admin")?,
        deactivate_time: row.try_get("deactivate_time")?,
        create_time: row.try_get("create_time")?,
    }))?;
    Ok(found.into_iter().next())
}

/// Makes sure the user has a row; attributes are kept as last seen where they are given.
pub(crate) async fn put(
    tx: &mut Tx,
    issuer: &str,
    subject: &str,
    email: &str,
    display_name: &str,
    now: i64,
) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO users (uid, issuer, subject, email, display_name, create_time) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (uid) DO UPDATE SET \
        email = CASE WHEN excluded.email = '' THEN users.email ELSE excluded.email END, \
        display_name = CASE WHEN excluded.display_name = '' THEN users.display_name ELSE excluded.display_name END";
    let uid = UserId::of(issuer, subject);
    on!(tx, c => sqlx::query(PUT).bind(uid.as_str()).bind(issuer).bind(subject).bind(email).bind(display_name).bind(now)
        .execute(&mut *c).await.map(drop))
}

/// Who this is to the registry, as of now; adds them when they come for the first time. `None`: they are deactivated.
pub(crate) async fn caller(db: &Db, user: &User, now: i64) -> sqlx::Result<Option<Caller>> {
    let uid = user.id.as_str();
    let email = user.email.as_deref().unwrap_or_default();
    let display_name = user.display_name.as_deref().unwrap_or_default();
    let mut tx = db.read().await?;
    let mut row = find(&mut tx, uid).await?;
    let differs = |seen: &str, known: &str| !seen.is_empty() && seen != known;
    let known = row.as_ref().is_some_and(|row| {
        row.admin == user.admin && !differs(email, &row.email) && !differs(display_name, &row.display_name)
    });
    if !known {
        drop(tx);
        let mut write = db.write_quietly().await?;
        put(&mut write, &user.issuer, &user.subject, email, display_name, now).await?;
        on!(write, c => sqlx::query("UPDATE users SET admin = $1 WHERE uid = $2").bind(user.admin).bind(uid)
            .execute(&mut *c).await.map(drop))?;
        write.commit().await?;
        tx = db.read().await?;
        row = find(&mut tx, uid).await?;
    }
    if row.is_some_and(|row| row.deactivate_time.is_some()) {
        return Ok(None);
    }
    let teams = teams(&mut tx, uid, &user.issuer, &user.groups).await?;
    Ok(Some(Caller {
        uid: uid.to_owned(),
        admin: user.admin,
        teams,
    }))
}

/// The teams a user belongs to: by name, by a group of their token, or as one of the whole issuer.
pub(crate) async fn teams(tx: &mut Tx, uid: &str, issuer: &str, groups: &[String]) -> sqlx::Result<Vec<CallerTeam>> {
    const BY_NAME: &str = "SELECT t.uid, t.slug, t.members_manage_installations FROM teams t \
        JOIN team_members m ON m.team_uid = t.uid WHERE m.user_uid = $1";
    const BY_MAPPING: &str = "SELECT t.uid, t.slug, t.members_manage_installations, m.group_name FROM teams t \
        JOIN team_mappings m ON m.team_uid = t.uid WHERE m.issuer = $1";
    let mut teams = rows!(tx, BY_NAME, [uid], row => Ok(CallerTeam {
        uid: row.try_get(0)?,
        slug: row.try_get(1)?,
        members_manage_installations: row.try_get(2)?,
    }))?;
    let mapped = rows!(tx, BY_MAPPING, [issuer], row => {
        let team = CallerTeam { uid: row.try_get(0)?, slug: row.try_get(1)?, members_manage_installations: row.try_get(2)? };
        Ok((team, row.try_get::<Option<String>, _>(3)?))
    })?;
    teams.extend(
        mapped
            .into_iter()
            .filter(|(_, group)| group.as_ref().is_none_or(|group| groups.contains(group)))
            .map(|(team, _)| team),
    );
    teams.sort_by(|a, b| a.uid.cmp(&b.uid));
    teams.dedup_by(|a, b| a.uid == b.uid);
    Ok(teams)
}

/// Up to `limit` users behind `after`, oldest first; only those with this email address, unless it is empty.
pub(crate) async fn after(tx: &mut Tx, after: (i64, &str), email: &str, limit: i64) -> sqlx::Result<Vec<UserRow>> {
    const SELECT: &str = "SELECT uid FROM users WHERE (create_time, uid) > ($1, $2) \
        AND ($3 = '' OR lower(email) = lower($3)) ORDER BY create_time, uid LIMIT $4";
    let uids = rows!(tx, SELECT, [after.0, after.1, email, limit], row => row.try_get::<String, _>(0))?;
    let mut found = Vec::with_capacity(uids.len());
    for uid in uids {
        found.extend(find(tx, &uid).await?);
    }
    Ok(found)
}

/// Shuts a user out, or lets them in again.
pub(crate) async fn set_deactivated(tx: &mut Tx, uid: &str, time: Option<i64>) -> sqlx::Result<()> {
    const SET: &str = "UPDATE users SET deactivate_time = $1 WHERE uid = $2";
    on!(tx, c => sqlx::query(SET).bind(time).bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(Object::DeactivatedUser, uid).await
}
