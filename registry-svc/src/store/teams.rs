//! Teams, their members and their mappings.

use contracts::registry::{Team, TeamMapping, team_mapping::Selector};
use sqlx::Row as _;

use super::{Object, Tx, load::rows, on};
use crate::domain::etag;

/// Adds a team.
pub(crate) async fn insert(tx: &mut Tx, uid: &str, slug: &str, team: &Team, now: i64) -> sqlx::Result<()> {
    const ADD: &str = "INSERT INTO teams (uid, slug, display_name, members_manage_installations, etag, create_time, update_time, revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $6, $7)";
    let revision = tx.revision();
    let etag = etag::of(uid, revision);
    on!(tx, c => sqlx::query(ADD).bind(uid).bind(slug).bind(&team.display_name).bind(team.members_manage_installations)
        .bind(etag).bind(now).bind(revision).execute(&mut *c).await.map(drop))?;
    put_mappings(tx, uid, &team.mappings).await?;
    tx.changed(Object::Team, uid).await
}

/// Changes all of a team that can be changed.
pub(crate) async fn update(tx: &mut Tx, uid: &str, team: &Team, now: i64) -> sqlx::Result<()> {
    const CHANGE: &str = "UPDATE teams SET display_name = $1, members_manage_installations = $2, etag = $3, update_time = $4 WHERE uid = $5";
    let etag = etag::of(uid, tx.revision());
    on!(tx, c => sqlx::query(CHANGE).bind(&team.display_name).bind(team.members_manage_installations).bind(etag)
        .bind(now).bind(uid).execute(&mut *c).await.map(drop))?;
    put_mappings(tx, uid, &team.mappings).await?;
    tx.changed(Object::Team, uid).await
}

async fn put_mappings(tx: &mut Tx, uid: &str, mappings: &[TeamMapping]) -> sqlx::Result<()> {
    const ADD: &str = "INSERT INTO team_mappings (team_uid, position, issuer, group_name) VALUES ($1, $2, $3, $4)";
    on!(tx, c => sqlx::query("DELETE FROM team_mappings WHERE team_uid = $1").bind(uid).execute(&mut *c).await.map(drop))?;
    for (position, mapping) in (0_i64..).zip(mappings) {
        let group = match &mapping.selector {
            Some(Selector::Group(group)) => Some(group.as_str()),
            _ => None,
        };
        on!(tx, c => sqlx::query(ADD).bind(uid).bind(position).bind(&mapping.issuer).bind(group)
            .execute(&mut *c).await.map(drop))?;
    }
    Ok(())
}

/// What keeps a team from being deleted, for people; `None`: nothing.
pub(crate) async fn in_use(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<&'static str>> {
    const USES: [(&str, &str); 4] = [
        (
            "SELECT count(*) FROM installations WHERE team_uid = $1",
            "has installations, or some that wait for their cleanup",
        ),
        (
            "SELECT count(*) FROM gateway_tokens WHERE team_uid = $1 AND revoke_time IS NULL",
            "has gateway tokens that are not revoked",
        ),
        (
            "SELECT count(*) FROM entry_teams et JOIN entries e ON e.uid = et.entry_uid WHERE et.team_uid = $1 AND e.delete_time IS NULL",
            "is in the visibility of an entry",
        ),
        (
            "SELECT count(*) FROM consumer_teams WHERE team_uid = $1",
            "is in the visibility of a gateway or an agent",
        ),
    ];
    for (sql, text) in USES {
        let uses: i64 = on!(tx, c => sqlx::query_scalar(sql).bind(uid).fetch_one(&mut *c).await)?;
        if uses > 0 {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Takes a team away that nothing uses.
pub(crate) async fn delete(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM gateway_token_consumers WHERE token_uid IN (SELECT uid FROM gateway_tokens WHERE team_uid = $1)",
        "DELETE FROM gateway_tokens WHERE team_uid = $1",
        "DELETE FROM entry_teams WHERE team_uid = $1",
        "DELETE FROM team_mappings WHERE team_uid = $1",
        "DELETE FROM team_members WHERE team_uid = $1",
        "DELETE FROM teams WHERE uid = $1",
    ] {
        on!(tx, c => sqlx::query(statement).bind(uid).execute(&mut *c).await.map(drop))?;
    }
    tx.changed(Object::Team, uid).await
}

/// Adds a member by name, unless they are one.
pub(crate) async fn add_member(tx: &mut Tx, uid: &str, user_uid: &str, now: i64) -> sqlx::Result<()> {
    const ADD: &str = "INSERT INTO team_members (team_uid, user_uid, create_time) VALUES ($1, $2, $3) \
        ON CONFLICT (team_uid, user_uid) DO NOTHING";
    let added = on!(tx, c => sqlx::query(ADD).bind(uid).bind(user_uid).bind(now).execute(&mut *c).await
        .map(|done| done.rows_affected()))?;
    if added > 0 {
        tx.changed(Object::Team, uid).await?;
    }
    Ok(())
}

/// Removes a member by name, if they are one.
pub(crate) async fn remove_member(tx: &mut Tx, uid: &str, user_uid: &str) -> sqlx::Result<()> {
    const REMOVE: &str = "DELETE FROM team_members WHERE team_uid = $1 AND user_uid = $2";
    let removed = on!(tx, c => sqlx::query(REMOVE).bind(uid).bind(user_uid).execute(&mut *c).await
        .map(|done| done.rows_affected()))?;
    if removed > 0 {
        tx.changed(Object::Team, uid).await?;
    }
    Ok(())
}

/// A member by name: since when, the user's uid and email.
pub(crate) type Member = (i64, String, String);

/// Up to `limit` members behind `after`, oldest first.
pub(crate) async fn members_after(tx: &mut Tx, uid: &str, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<Member>> {
    const SELECT: &str = "SELECT m.create_time, m.user_uid, u.email FROM team_members m JOIN users u ON u.uid = m.user_uid \
        WHERE m.team_uid = $1 AND (m.create_time, m.user_uid) > ($2, $3) ORDER BY m.create_time, m.user_uid LIMIT $4";
    rows!(tx, SELECT, [uid, after.0, after.1, limit], row => Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
}

/// One member by name.
pub(crate) async fn member(tx: &mut Tx, uid: &str, user_uid: &str) -> sqlx::Result<Option<Member>> {
    const SELECT: &str = "SELECT m.create_time, m.user_uid, u.email FROM team_members m JOIN users u ON u.uid = m.user_uid \
        WHERE m.team_uid = $1 AND m.user_uid = $2";
    let found = rows!(tx, SELECT, [uid, user_uid], row => Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))?;
    Ok(found.into_iter().next())
}

/// Creation time and uid of up to `limit` teams behind `after`, oldest first.
pub(crate) async fn after(tx: &mut Tx, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
    const SELECT: &str =
        "SELECT create_time, uid FROM teams WHERE (create_time, uid) > ($1, $2) ORDER BY create_time, uid LIMIT $3";
    rows!(tx, SELECT, [after.0, after.1, limit], row => Ok((row.try_get(0)?, row.try_get(1)?)))
}
