//! Teams, their members and their mappings.

use std::collections::HashMap;

use contracts::registry::{Team, TeamMapping, WatchedTeamMember, team_mapping::Selector};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute,
    list::{Arm, Bind, Condition, List},
    on, push_list, rows,
};
use crate::domain::{Caller, etag};

/// The team with this slug.
pub(crate) async fn find(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<Team>> {
    const FIND: &str = "SELECT document, schema_version FROM teams WHERE slug = $1";
    Ok(rows!(tx, FIND, [slug], row => document(row))?.into_iter().next())
}

/// The team with this uid.
pub(crate) async fn by_uid(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Team>> {
    const FIND: &str = "SELECT document, schema_version FROM teams WHERE uid = $1";
    Ok(rows!(tx, FIND, [uid], row => document(row))?.into_iter().next())
}

/// The uid of the team with this slug.
pub(crate) async fn uid(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<String>> {
    const FIND: &str = "SELECT uid FROM teams WHERE slug = $1";
    on!(tx, c => sqlx::query_scalar(FIND).bind(slug).fetch_optional(&mut *c).await)
}

/// The uids of the teams with these names, in their order; else the index of one that does not exist.
pub(crate) async fn uids(tx: &mut Tx, names: &[String]) -> sqlx::Result<Result<Vec<String>, usize>> {
    if names.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let found: HashMap<String, String> = on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT slug, uid FROM teams WHERE slug IN ");
        push_list!(select, names.iter().map(|name| name.trim_start_matches("teams/")));
        select.build().fetch_all(&mut *c).await?.iter().map(|row| Ok((row.try_get("slug")?, row.try_get("uid")?)))
            .collect::<sqlx::Result<_>>()
    })?;
    let uid = |(index, name): (usize, &String)| found.get(name.trim_start_matches("teams/")).cloned().ok_or(index);
    Ok(names.iter().enumerate().map(uid).collect())
}

/// Inserts or updates a team; sets its etag and its revision.
pub(crate) async fn put(tx: &mut Tx, team: &mut Team) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO teams \
        (uid, slug, members_manage_installations, document, schema_version, create_time, registry_revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (uid) DO UPDATE SET \
        members_manage_installations = excluded.members_manage_installations, document = excluded.document, \
        schema_version = excluded.schema_version, registry_revision = excluded.registry_revision";
    let (revision, now) = (tx.revision(), tx.now());
    team.registry_revision = revision;
    team.etag = etag::of(&team.uid, revision);
    let document = team.encode_to_vec();
    let slug = team.name.trim_start_matches("teams/");
    let managed = team.members_manage_installations();
    execute!(
        tx,
        PUT,
        [&team.uid, slug, managed, &document, SCHEMA_VERSION, now, revision]
    )?;
    put_mappings(tx, &team.uid, &team.mappings).await?;
    tx.put(Object::Team, &team.uid, &document);
    Ok(())
}

async fn put_mappings(tx: &mut Tx, uid: &str, mappings: &[TeamMapping]) -> sqlx::Result<()> {
    execute!(tx, "DELETE FROM team_mappings WHERE team_uid = $1", [uid])?;
    if mappings.is_empty() {
        return Ok(());
    }
    on!(tx, c => {
        let mut insert = QueryBuilder::new("INSERT INTO team_mappings (team_uid, issuer, group_name) ");
        insert.push_values(mappings, |mut row, mapping| {
            let group = match &mapping.selector {
                Some(Selector::Group(group)) => group.as_str(),
                Some(Selector::WholeIssuer(_)) | None => "",
            };
            row.push_bind(uid).push_bind(&mapping.issuer).push_bind(group);
        });
        insert.push(" ON CONFLICT (team_uid, issuer, group_name) DO NOTHING");
        insert.build().execute(&mut *c).await.map(drop)
    })
}

/// The caller's teams; all for an admin. A caller in no team has no such list.
pub(crate) fn list(caller: &Caller) -> List {
    let own = caller.teams.iter().map(|team| Bind::from(team.uid.as_str())).collect();
    List {
        table: "teams",
        extra: "NULL",
        arms: vec![Arm::of(
            "teams o",
            if caller.admin {
                Condition::new("TRUE", [])
            } else {
                Condition::any_of("o.uid IN ({})", own)
            },
        )],
        filters: Vec::new(),
    }
}

/// What keeps a team from being deleted, as people read it; `None`: nothing.
pub(crate) async fn in_use(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<&'static str>> {
    const USES: [(&str, &str); 4] = [
        (
            "SELECT 1 FROM installations WHERE team_uid = $1 LIMIT 1",
            "has installations, or some that wait for their cleanup",
        ),
        (
            "SELECT 1 FROM gateway_tokens WHERE team_uid = $1 AND revoke_time IS NULL LIMIT 1",
            "has gateway tokens that are not revoked",
        ),
        (
            "SELECT 1 FROM entry_audiences WHERE audience = 'team:' || $1 LIMIT 1",
            "is in the visibility of an entry",
        ),
        (
            "SELECT 1 FROM consumer_audiences WHERE kind IN (1, 2) AND audience = 'team:' || $1 LIMIT 1",
            "is in the visibility of a gateway or an agent",
        ),
    ];
    for (sql, text) in USES {
        if !rows!(tx, sql, [uid], _row => Ok(()))?.is_empty() {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Deletes a team that nothing uses. Its members are deleted with it, without a change for each. What owners of pinned installations
/// agreed to stays as it is: it never names a team that is created later.
pub(crate) async fn delete(tx: &mut Tx, team: &Team) -> sqlx::Result<()> {
    let uid = team.uid.as_str();
    for statement in [
        "DELETE FROM gateway_token_consumers WHERE token_uid IN (SELECT uid FROM gateway_tokens WHERE team_uid = $1)",
        "DELETE FROM gateway_tokens WHERE team_uid = $1",
        "DELETE FROM team_mappings WHERE team_uid = $1",
        "DELETE FROM team_members WHERE team_uid = $1",
        "DELETE FROM teams WHERE uid = $1",
    ] {
        execute!(tx, statement, [uid])?;
    }
    tx.remove(Object::Team, uid);
    Ok(())
}

/// A member by name.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) user_uid: String,
    pub(crate) email: String,
    /// Since when.
    pub(crate) create_time: i64,
    pub(crate) registry_revision: i64,
}

/// A statement that reads [`Member`]s.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT m.user_uid, u.email, m.create_time, m.registry_revision FROM team_members m \
             JOIN users u ON u.uid = m.user_uid WHERE m.team_uid = $1 AND ",
            $which
        )
    };
}

/// Reads the [`Member`]s of a statement made by `select!`.
macro_rules! members {
    ($tx:expr, $sql:expr, [$($bind:expr),* $(,)?]) => {
        rows!($tx, $sql, [$($bind),*], row => Ok(Member {
            user_uid: row.try_get("user_uid")?,
            email: row.try_get("email")?,
            create_time: row.try_get("create_time")?,
            registry_revision: row.try_get("registry_revision")?,
        }))
    };
}

/// A page of the members of a team.
pub(super) const LIST_MEMBERS: &str =
    select!("(m.create_time, m.user_uid) > ($2, $3) ORDER BY m.create_time, m.user_uid LIMIT $4");

/// Up to `limit` members behind `after`, oldest first.
pub(crate) async fn members(tx: &mut Tx, uid: &str, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<Member>> {
    members!(tx, LIST_MEMBERS, [uid, after.0, after.1, limit])
}

/// One member by name.
pub(crate) async fn member(tx: &mut Tx, uid: &str, user_uid: &str) -> sqlx::Result<Option<Member>> {
    const FIND: &str = select!("m.user_uid = $2");
    Ok(members!(tx, FIND, [uid, user_uid])?.into_iter().next())
}

/// Adds a member by name who is none yet.
pub(crate) async fn add_member(tx: &mut Tx, uid: &str, user_uid: &str) -> sqlx::Result<()> {
    const ADD: &str =
        "INSERT INTO team_members (team_uid, user_uid, create_time, registry_revision) VALUES ($1, $2, $3, $4)";
    let (now, revision) = (tx.now(), tx.revision());
    execute!(tx, ADD, [uid, user_uid, now, revision])?;
    tx.put(
        Object::TeamMember,
        &member_key(uid, user_uid),
        &member_document(uid, user_uid),
    );
    Ok(())
}

/// Removes a member by name; says whether they were one.
pub(crate) async fn remove_member(tx: &mut Tx, uid: &str, user_uid: &str) -> sqlx::Result<bool> {
    const REMOVE: &str = "DELETE FROM team_members WHERE team_uid = $1 AND user_uid = $2";
    let removed = execute!(tx, REMOVE, [uid, user_uid])? > 0;
    if removed {
        tx.remove(Object::TeamMember, &member_key(uid, user_uid));
    }
    Ok(removed)
}

/// The key of a watched member.
fn member_key(uid: &str, user_uid: &str) -> String {
    format!("{uid}/{user_uid}")
}

/// What watchers get of a member.
fn member_document(uid: &str, user_uid: &str) -> Vec<u8> {
    WatchedTeamMember {
        team_uid: uid.to_owned(),
        user: format!("users/{user_uid}"),
    }
    .encode_to_vec()
}
