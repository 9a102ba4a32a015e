//! Users as tokens name them, and the teams they belong to.

use contracts::registry::DeactivatedUser;
use prost::Message as _;
use service_kit::{User, UserId};
use sqlx::{QueryBuilder, Row as _};

use super::{Db, Object, Tx, execute, on_reader, push_list, rows};
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
    pub(crate) machine: bool,
    pub(crate) deactivate_time: Option<i64>,
    pub(crate) create_time: i64,
    /// When they were last deactivated or reactivated; 0: never.
    pub(crate) registry_revision: i64,
}

/// A statement that reads [`UserRow`]s.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT uid, issuer, subject, email, display_name, admin, machine, deactivate_time, create_time, registry_revision FROM users ",
            $which
        )
    };
}

/// Reads the [`UserRow`]s of a statement made by `select!`.
macro_rules! users {
    ($tx:expr, $sql:expr, [$($bind:expr),* $(,)?]) => {
        rows!($tx, $sql, [$($bind),*], row => Ok(UserRow {
            uid: row.try_get("uid")?,
            issuer: row.try_get("issuer")?,
            subject: row.try_get("subject")?,
            email: row.try_get("email")?,
            display_name: row.try_get("display_name")?,
            admin: row.try_get("admin")?,
            machine: row.try_get("machine")?,
            deactivate_time: row.try_get("deactivate_time")?,
            create_time: row.try_get("create_time")?,
            registry_revision: row.try_get("registry_revision")?,
        }))
    };
}

/// A page of all users.
pub(super) const LIST: &str = select!("WHERE (create_time, uid) > ($1, $2) ORDER BY create_time, uid LIMIT $3");
/// A page of the users with an email address.
pub(super) const LIST_BY_EMAIL: &str =
    select!("WHERE email_key = $4 AND (create_time, uid) > ($1, $2) ORDER BY create_time, uid LIMIT $3");

/// Reads one user.
pub(crate) async fn find(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<UserRow>> {
    const FIND: &str = select!("WHERE uid = $1");
    Ok(users!(tx, FIND, [uid])?.into_iter().next())
}

/// Up to `limit` users behind `after`, oldest first; only those with this email address, unless it is empty.
pub(crate) async fn page(tx: &mut Tx, after: (i64, &str), email: &str, limit: i64) -> sqlx::Result<Vec<UserRow>> {
    if email.is_empty() {
        users!(tx, LIST, [after.0, after.1, limit])
    } else {
        users!(tx, LIST_BY_EMAIL, [after.0, after.1, limit, email.to_lowercase()])
    }
}

/// Makes sure that the user has a row; says their uid.
pub(crate) async fn add(tx: &mut Tx, issuer: &str, subject: &str) -> sqlx::Result<String> {
    const ADD: &str = "INSERT INTO users (uid, issuer, subject, email, email_key, display_name, create_time) \
        VALUES ($1, $2, $3, '', '', '', $4) ON CONFLICT (uid) DO NOTHING";
    let uid = UserId::of(issuer, subject).as_str().to_owned();
    let now = tx.now();
    execute!(tx, ADD, [&uid, issuer, subject, now])?;
    Ok(uid)
}

/// Who this is to the registry, as of now; adds them when they come for the first time. `None`: they are deactivated.
pub(crate) async fn caller(db: &Db, user: &User, now: i64) -> sqlx::Result<Option<Caller>> {
    let mut known = known(db, user).await?;
    if !known.as_ref().is_some_and(|known| known.is_current(user)) {
        let mut tx = db.write_aside().await?;
        note(&mut tx, user, now).await?;
        tx.commit().await?;
        known = self::known(db, user).await?;
    }
    Ok(known.filter(|known| !known.deactivated).map(|known| Caller {
        uid: user.id.as_str().to_owned(),
        admin: user.admin,
        machine: user.machine,
        teams: known.teams,
    }))
}

/// What is known of somebody who calls.
struct Known {
    email: String,
    display_name: String,
    admin: bool,
    machine: bool,
    deactivated: bool,
    teams: Vec<CallerTeam>,
}

impl Known {
    /// Whether this is what the token says; what the token leaves out stays as it was last seen.
    fn is_current(&self, user: &User) -> bool {
        let same = |seen: Option<&str>, known: &str| seen.is_none_or(|seen| seen.is_empty() || seen == known);
        self.admin == user.admin
            && self.machine == user.machine
            && same(user.email.as_deref(), &self.email)
            && same(user.display_name.as_deref(), &self.display_name)
    }
}

/// A user's row and the teams they belong to: by name, by a group of their token, or as one of the whole issuer. Every call begins with
/// this: it is one statement.
async fn known(db: &Db, user: &User) -> sqlx::Result<Option<Known>> {
    let uid = user.id.as_str();
    on_reader!(db, pool => {
        let mut query = QueryBuilder::new(
            "SELECT u.email, u.display_name, u.admin, u.machine, u.deactivate_time, t.uid AS team_uid, t.slug, \
             t.members_manage_installations FROM users u LEFT JOIN (\
             SELECT uid, slug, members_manage_installations FROM teams WHERE uid IN (\
             SELECT team_uid FROM team_members WHERE user_uid = ",
        );
        query.push_bind(uid).push(" UNION SELECT team_uid FROM team_mappings WHERE issuer = ").push_bind(&user.issuer)
            .push(" AND group_name IN ");
        // PostgreSQL takes no NUL, and no team is mapped to a group that has one.
        let groups = user.groups.iter().map(String::as_str).filter(|group| !group.contains('\0'));
        push_list!(query, std::iter::once("").chain(groups));
        query.push(")) t ON TRUE WHERE u.uid = ").push_bind(uid).push(" ORDER BY t.uid");
        let mut known: Option<Known> = None;
        for row in query.build().fetch_all(pool).await? {
            let known = match &mut known {
                Some(known) => known,
                None => known.insert(Known {
                    email: row.try_get("email")?,
                    display_name: row.try_get("display_name")?,
                    admin: row.try_get("admin")?,
                    machine: row.try_get("machine")?,
                    deactivated: row.try_get::<Option<i64>, _>("deactivate_time")?.is_some(),
                    teams: Vec::new(),
                }),
            };
            // Somebody without teams has one row, of no team.
            if let Some(uid) = row.try_get("team_uid")? {
                known.teams.push(CallerTeam {
                    uid,
                    slug: row.try_get("slug")?,
                    members_manage_installations: row.try_get("members_manage_installations")?,
                });
            }
        }
        Ok(known)
    })
}

/// Keeps what a token says of a user.
async fn note(tx: &mut Tx, user: &User, now: i64) -> sqlx::Result<()> {
    const NOTE: &str = "INSERT INTO users (uid, issuer, subject, email, email_key, display_name, admin, machine, create_time) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (uid) DO UPDATE SET admin = excluded.admin, machine = excluded.machine, \
        email = CASE WHEN excluded.email = '' THEN users.email ELSE excluded.email END, \
        email_key = CASE WHEN excluded.email = '' THEN users.email_key ELSE excluded.email_key END, \
        display_name = CASE WHEN excluded.display_name = '' THEN users.display_name ELSE excluded.display_name END";
    let text = |text: Option<&str>| text.unwrap_or_default().replace('\0', "");
    let (email, display_name) = (text(user.email.as_deref()), text(user.display_name.as_deref()));
    let (uid, admin, machine) = (user.id.as_str(), user.admin, user.machine);
    let email_key = email.to_lowercase();
    execute!(
        tx,
        NOTE,
        [
            uid,
            &user.issuer,
            &user.subject,
            email,
            email_key,
            display_name,
            admin,
            machine,
            now
        ]
    )
    .map(drop)
}

/// Deactivates or reactivates a user.
pub(crate) async fn set_deactivated(tx: &mut Tx, uid: &str, time: Option<i64>) -> sqlx::Result<()> {
    const SET: &str = "UPDATE users SET deactivate_time = $1, registry_revision = $2 WHERE uid = $3";
    let revision = tx.revision();
    execute!(tx, SET, [time, revision, uid])?;
    match time {
        Some(_) => tx.put(Object::DeactivatedUser, uid, &deactivated(uid)),
        None => tx.remove(Object::DeactivatedUser, uid),
    }
    Ok(())
}

/// What watchers get of a deactivated user.
fn deactivated(uid: &str) -> Vec<u8> {
    let user = format!("users/{uid}");
    DeactivatedUser { user }.encode_to_vec()
}
