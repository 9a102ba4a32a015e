//! Installations: their documents, and what they are found by.

use contracts::registry::{Entry, EntryRevision, Installation, InstallationState, installation::Scope};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    entries::tool_set,
    execute, fitting,
    list::{Arm, Bind, Condition, List, SEVERAL},
    on, rows,
};
use crate::domain::{Caller, Room, time::micros};

/// Whose an installation is, by uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// One user's.
    User(String),
    /// A team's.
    Team(String),
}

/// Rows written by one statement.
const AT_ONCE: usize = 100;

/// One with this uid, also one that waits for cleanup.
pub(crate) async fn by_uid(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Installation>> {
    const FIND: &str = "SELECT document, schema_version FROM installations WHERE uid = $1";
    let found = rows!(tx, FIND, [uid], row => document(row))?;
    Ok(found.into_iter().next())
}

/// The entry that has this slug now, and the uid of the installation that this owner has of it.
pub(crate) async fn of_owner(tx: &mut Tx, slug: &str, owner: &Owner) -> sqlx::Result<Option<(Entry, Option<String>)>> {
    macro_rules! with_that_of {
        ($owner:literal) => {
            concat!(
                "SELECT e.document AS document, e.schema_version AS schema_version, (SELECT i.uid FROM installations i ",
                "WHERE i.entry_uid = e.uid AND i.",
                $owner,
                " = $2 AND i.delete_time IS NULL) AS installed FROM entries e WHERE e.slug = $1 AND e.delete_time IS NULL"
            )
        };
    }
    let (sql, owner) = match owner {
        Owner::User(uid) => (with_that_of!("user_uid"), uid),
        Owner::Team(uid) => (with_that_of!("team_uid"), uid),
    };
    let found = rows!(tx, sql, [slug, owner], row => Ok((document(row)?, row.try_get("installed")?)))?;
    Ok(found.into_iter().next())
}

/// Adds one.
pub(crate) async fn insert(tx: &mut Tx, installation: &mut Installation, owner: &Owner) -> sqlx::Result<()> {
    write(tx, std::slice::from_mut(installation), Some(owner), 0).await
}

/// Writes some that are there. They have been settled at this entry revision: each runs it, or is held before it.
pub(crate) async fn update(tx: &mut Tx, installations: &mut [Installation], settled: i64) -> sqlx::Result<()> {
    write(tx, installations, None, settled).await
}

/// Writes one that is there, and leaves open whether it has been settled.
pub(crate) async fn update_one(tx: &mut Tx, installation: &mut Installation) -> sqlx::Result<()> {
    write(tx, std::slice::from_mut(installation), None, 0).await
}

async fn write(
    tx: &mut Tx,
    installations: &mut [Installation],
    owner: Option<&Owner>,
    settled: i64,
) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO installations (uid, entry_uid, user_uid, team_uid, running_entry_revision, \
        settled_entry_revision, hold_reason, state, document, schema_version, tool_set, create_time, delete_time, expires, \
        registry_revision) ";
    // What is settled stays so.
    const ELSE: &str = " ON CONFLICT (uid) DO UPDATE SET running_entry_revision = excluded.running_entry_revision, \
        settled_entry_revision = CASE WHEN excluded.settled_entry_revision > installations.settled_entry_revision \
            THEN excluded.settled_entry_revision ELSE installations.settled_entry_revision END, \
        hold_reason = excluded.hold_reason, state = excluded.state, document = excluded.document, \
        schema_version = excluded.schema_version, tool_set = excluded.tool_set, delete_time = excluded.delete_time, \
        expires = excluded.expires, registry_revision = excluded.registry_revision";
    let (user, team) = match owner {
        Some(Owner::User(uid)) => (Some(uid.as_str()), None),
        Some(Owner::Team(uid)) => (None, Some(uid.as_str())),
        None => (None, None),
    };
    let registry_revision = tx.revision();
    for some in installations.chunks_mut(AT_ONCE) {
        let mut documents = Vec::with_capacity(some.len());
        for installation in &mut *some {
            installation.registry_revision = registry_revision;
            documents.push(installation.encode_to_vec());
        }
        on!(tx, c => {
            let mut insert = QueryBuilder::new(INSERT);
            insert.push_values(some.iter().zip(&documents), |mut row, (one, document)| {
                // A new one is settled where it begins.
                let settled = if owner.is_some() { one.running_entry_revision } else { settled };
                let held = one.reinstall_required.as_ref().map_or("", |why| why.reason.as_str());
                row.push_bind(&one.uid).push_bind(&one.entry_uid).push_bind(user).push_bind(team)
                    .push_bind(one.running_entry_revision).push_bind(settled).push_bind(held)
                    .push_bind(i64::from(one.state)).push_bind(document).push_bind(SCHEMA_VERSION)
                    .push_bind(tool_set(&one.discovered)).push_bind(one.create_time.as_ref().map(micros))
                    .push_bind(one.delete_time.as_ref().map(micros)).push_bind(expires(one)).push_bind(registry_revision);
            });
            if owner.is_none() {
                insert.push(ELSE);
            }
            insert.build().execute(&mut *c).await.map(drop)
        })?;
        for (installation, document) in some.iter().zip(&documents) {
            tx.put(Object::Installation, &installation.uid, document);
        }
    }
    Ok(())
}

/// When it goes unless somebody completes it.
fn expires(installation: &Installation) -> Option<i64> {
    installation.expire_time.as_ref().map(micros)
}

/// The uids of installations that were not completed by `now`.
pub(crate) async fn expired(tx: &mut Tx, now: i64, limit: i64) -> sqlx::Result<Vec<String>> {
    const FIND: &str =
        "SELECT uid FROM installations WHERE expires IS NOT NULL AND expires <= $1 ORDER BY expires LIMIT $2";
    rows!(tx, FIND, [now, limit], row => row.try_get("uid"))
}

/// Bytes of installations that are changed in one step: with as much again in the log, that is some milliseconds of the disk.
const STEP: usize = 512 << 10;

/// Up to `limit` installations of an entry that were not processed for this entry revision, as far as they fit into a step.
pub(crate) async fn unsettled(
    tx: &mut Tx,
    entry_uid: &str,
    entry_revision: i64,
    limit: i64,
) -> sqlx::Result<Vec<Installation>> {
    const FIND: &str = "SELECT document, schema_version FROM installations \
        WHERE entry_uid = $1 AND settled_entry_revision < $2 AND delete_time IS NULL \
        ORDER BY settled_entry_revision, hold_reason, uid LIMIT $3";
    fitting!(tx, Room::of(STEP), sqlx::query(FIND).bind(entry_uid).bind(entry_revision).bind(limit), row => document(row), one => Installation::encoded_len(one))
}

/// Up to `limit` installations of an entry that are not deleted, in no order, as far as they have room in a step.
pub(crate) async fn of_entry(tx: &mut Tx, entry_uid: &str, limit: i64) -> sqlx::Result<Vec<Installation>> {
    const FIND: &str = "SELECT document, schema_version FROM installations \
        WHERE entry_uid = $1 AND delete_time IS NULL LIMIT $2";
    fitting!(tx, Room::of(STEP), sqlx::query(FIND).bind(entry_uid).bind(limit), row => document(row), one => Installation::encoded_len(one))
}

/// Of one installation: its owner, where that is a person.
pub(crate) fn personal_owner(installation: &Installation) -> Option<&str> {
    match &installation.scope {
        Some(Scope::User(user)) => user.strip_prefix("users/"),
        Some(Scope::Team(_)) | None => None,
    }
}

/// What an installation runs.
pub(crate) async fn running(tx: &mut Tx, installation: &Installation) -> sqlx::Result<Option<EntryRevision>> {
    super::revisions::get(tx, &installation.entry_uid, installation.running_entry_revision).await
}

/// Which installations a list is of; empty: any.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) entry_uid: String,
    pub(crate) team_uid: String,
    pub(crate) user_uid: String,
    pub(crate) state: InstallationState,
}

/// The states of those that do not wait for their cleanup.
const PRESENT: [InstallationState; 3] = [
    InstallationState::Pending,
    InstallationState::Ready,
    InstallationState::Failed,
];

/// The installations that a caller sees: their own, those of their teams; all for an admin. Those that wait for their cleanup only
/// where that is asked for. `None`: there can be none.
pub(crate) fn list(caller: &Caller, filter: &Filter) -> Option<List> {
    let of_entry = || [Bind::from(filter.entry_uid.as_str())];
    let states = match filter.state {
        InstallationState::Unspecified => PRESENT.as_slice(),
        _ => &[filter.state],
    };
    let in_state = || [Bind::Int(filter.state as i64)];
    let by_entry = !filter.entry_uid.is_empty();
    let by_state = filter.state != InstallationState::Unspecified;
    let arm = |condition| Arm::of("installations o", condition);
    let of_user = |uid: &str| arm(Condition::new("o.user_uid = ?", [Bind::from(uid)]));
    let of_team = |uid: &str| arm(Condition::new("o.team_uid = ?", [Bind::from(uid)]));
    let mut filters = Vec::new();
    let arms = match (filter.team_uid.as_str(), filter.user_uid.as_str()) {
        // Those in each state are read in order, and these are merged.
        ("", "") if caller.admin => states
            .iter()
            .map(|&state| {
                let state = [Bind::Int(state as i64)];
                arm(if by_entry {
                    Condition::new("o.entry_uid = ?", of_entry()).and(" AND o.state = ?", state)
                } else {
                    Condition::new("o.state = ?", state)
                })
            })
            .collect(),
        (team, user) => {
            if by_entry {
                filters.push(Condition::new("o.entry_uid = ?", of_entry()));
            }
            if filter.state == InstallationState::Deleting {
                filters.push(Condition::new("o.state = ?", in_state()));
            } else if by_state {
                // Not sought by: of an entry that many have, many are in a state, but each owner has one at most.
                filters.push(Condition::new("o.state + 0 = ?", in_state()));
            }
            match (team, user) {
                ("", "") if caller.teams.len() <= SEVERAL => std::iter::once(of_user(&caller.uid))
                    .chain(caller.teams.iter().map(|one| of_team(&one.uid)))
                    .collect(),
                ("", "") => {
                    let teams = caller.teams.iter().map(|one| Bind::from(one.uid.as_str())).collect();
                    // Of one entry, each team has one at most.
                    let condition = if by_entry {
                        Condition::any_of("o.team_uid IN ({}) AND o.delete_time IS NULL", teams)
                            .and(" AND o.entry_uid = ?", of_entry())
                    } else {
                        Condition::any_of("o.team_uid IN ({})", teams)
                    };
                    let of_teams = Arm {
                        unordered: true,
                        ..arm(condition)
                    };
                    let mut own = of_user(&caller.uid);
                    if by_entry {
                        own.condition = own.condition.and(" AND o.entry_uid = ?", of_entry());
                    }
                    vec![own, of_teams]
                }
                ("", uid) if caller.admin || uid == caller.uid => vec![of_user(uid)],
                (uid, "") if caller.admin || caller.team(uid).is_some() => vec![of_team(uid)],
                _ => return None,
            }
        }
    };
    if filter.state != InstallationState::Deleting {
        filters.push(Condition::new("o.delete_time IS NULL", []));
    }
    Some(List {
        table: "installations",
        extra: "NULL",
        arms,
        filters,
    })
}

/// Takes away the row of one that goes.
pub(crate) async fn remove(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    execute!(tx, "DELETE FROM installations WHERE uid = $1", [uid])?;
    tx.remove(Object::Installation, uid);
    Ok(())
}
