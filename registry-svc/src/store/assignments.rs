//! Tool assignments: what is written, how they are listed, and what the rules need to know of many at once.

use std::collections::{BTreeMap, BTreeSet};

use contracts::registry::{FeatureKind, ToolAssignment};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Object, Tx,
    document::{SCHEMA_VERSION, document},
    entries::seen,
    execute,
    list::{self, Arm, Bind, Condition, List},
    on, push_list, rows,
};
use crate::domain::{
    Caller,
    assignment::{pinned_uid, tool},
    etag,
};

/// Inserts new assignments; sets their etags and revisions. The caller has checked that they conflict with none.
pub(crate) async fn insert(tx: &mut Tx, assignments: &mut [ToolAssignment]) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO tool_assignments (uid, consumer_uid, entry_uid, kind, tool, pinned_uid, exposed_name, \
        document, schema_version, create_time, registry_revision) ";
    if assignments.is_empty() {
        return Ok(());
    }
    let (revision, now) = (tx.revision(), tx.now());
    let documents: Vec<Vec<u8>> = assignments.iter_mut().map(|one| seal(one, revision)).collect();
    on!(tx, c => {
        let mut insert = QueryBuilder::new(INSERT);
        insert.push_values(assignments.iter().zip(&documents), |mut row, (one, document)| {
            row.push_bind(&one.uid).push_bind(&one.consumer_uid).push_bind(&one.entry_uid).push_bind(i64::from(one.kind))
                .push_bind(tool(one).unwrap_or_default()).push_bind(pinned_uid(one).unwrap_or_default())
                .push_bind(&one.exposed_name).push_bind(document).push_bind(SCHEMA_VERSION).push_bind(now)
                .push_bind(revision);
        });
        insert.build().execute(&mut *c).await.map(drop)
    })?;
    for (one, document) in assignments.iter().zip(&documents) {
        tx.put(Object::ToolAssignment, &one.uid, document);
    }
    Ok(())
}

/// Changes how the installation of one is chosen, and which name is shown; sets its etag and its revision.
pub(crate) async fn update(tx: &mut Tx, assignment: &mut ToolAssignment) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE tool_assignments SET pinned_uid = $1, exposed_name = $2, document = $3, schema_version = $4, \
        registry_revision = $5 WHERE uid = $6";
    let revision = tx.revision();
    let document = seal(assignment, revision);
    let (uid, exposed_name) = (&assignment.uid, &assignment.exposed_name);
    let pinned = pinned_uid(assignment).unwrap_or_default();
    execute!(
        tx,
        UPDATE,
        [pinned, exposed_name, &document, SCHEMA_VERSION, revision, uid]
    )?;
    tx.put(Object::ToolAssignment, uid, &document);
    Ok(())
}

/// What is kept of an assignment that this revision writes.
fn seal(assignment: &mut ToolAssignment, revision: i64) -> Vec<u8> {
    assignment.registry_revision = revision;
    assignment.etag = etag::of(&assignment.uid, revision);
    assignment.encode_to_vec()
}

/// Takes these away.
pub(crate) async fn delete(tx: &mut Tx, uids: &[&str]) -> sqlx::Result<()> {
    on!(tx, c => {
        let mut delete = QueryBuilder::new("DELETE FROM tool_assignments WHERE uid IN ");
        push_list!(delete, uids);
        delete.build().execute(&mut *c).await.map(drop)
    })?;
    for uid in uids {
        tx.remove(Object::ToolAssignment, uid);
    }
    Ok(())
}

/// Takes up to `limit` of a gateway or an agent away; says whether there may be more.
pub(super) async fn delete_of_consumer(tx: &mut Tx, consumer_uid: &str, limit: i64) -> sqlx::Result<bool> {
    const DELETE: &str = "DELETE FROM tool_assignments WHERE uid IN \
        (SELECT uid FROM tool_assignments WHERE consumer_uid = $1 ORDER BY create_time, uid LIMIT $2) RETURNING uid";
    let deleted: Vec<String> = rows!(tx, DELETE, [consumer_uid, limit], row => row.try_get("uid"))?;
    for uid in &deleted {
        tx.remove(Object::ToolAssignment, uid);
    }
    Ok(i64::try_from(deleted.len()).is_ok_and(|deleted| deleted >= limit))
}

/// Those with these uids.
pub(crate) async fn find(tx: &mut Tx, uids: &BTreeSet<&str>) -> sqlx::Result<Vec<ToolAssignment>> {
    on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT document, schema_version FROM tool_assignments WHERE uid IN ");
        push_list!(select, uids);
        select.build().fetch_all(&mut *c).await?.iter().map(document).collect()
    })
}

/// The assignments of a gateway or an agent whose entry the caller may see.
pub(crate) fn list(caller: &Caller, consumer_uid: &str) -> List {
    let seen = Condition::any_of(seen!("o.entry_uid"), list::audiences(caller));
    List {
        table: "tool_assignments",
        extra: "NULL",
        arms: vec![Arm::of(
            "tool_assignments o",
            Condition::new("o.consumer_uid = ?", [Bind::from(consumer_uid)]),
        )],
        filters: vec![seen],
    }
}

/// Which of these entries, by uid, the caller may see.
pub(crate) async fn visible_entries(
    tx: &mut Tx,
    caller: &Caller,
    uids: &BTreeSet<&str>,
) -> sqlx::Result<BTreeSet<String>> {
    if uids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let audiences = audiences(caller);
    on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT DISTINCT entry_uid FROM entry_audiences WHERE entry_uid IN ");
        push_list!(select, uids);
        select.push(" AND audience IN ");
        push_list!(select, &audiences);
        select.build().fetch_all(&mut *c).await?.iter().map(|row| row.try_get(0)).collect()
    })
}

/// Which of these installations, by uid, the caller may see.
pub(crate) async fn visible_installations(
    tx: &mut Tx,
    caller: &Caller,
    uids: &BTreeSet<&str>,
) -> sqlx::Result<BTreeSet<String>> {
    let found = installations(tx, uids).await?.into_values();
    Ok(found.filter(|one| one.seen_by(caller)).map(|one| one.uid).collect())
}

/// An entry, as the rules of assignments need it.
#[derive(Clone, Debug)]
pub(crate) struct AssignedEntry {
    pub(crate) uid: String,
    /// Hash of the set of its tools, or empty.
    pub(crate) tool_set: String,
}

/// Those of the entries with these slugs that the caller may see, by slug.
pub(crate) async fn entries(
    tx: &mut Tx,
    caller: &Caller,
    slugs: &BTreeSet<&str>,
) -> sqlx::Result<BTreeMap<String, AssignedEntry>> {
    let mut found: BTreeMap<String, AssignedEntry> = on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT slug, uid, tool_set FROM entries WHERE delete_time IS NULL AND slug IN ");
        push_list!(select, slugs);
        select.build().fetch_all(&mut *c).await?.iter().map(|row| {
            Ok((row.try_get("slug")?, AssignedEntry { uid: row.try_get("uid")?, tool_set: row.try_get("tool_set")? }))
        }).collect::<sqlx::Result<_>>()
    })?;
    if !caller.admin {
        let uids = found.values().map(|entry| entry.uid.as_str()).collect();
        let visible = visible_entries(tx, caller, &uids).await?;
        found.retain(|_, entry| visible.contains(&entry.uid));
    }
    Ok(found)
}

/// An installation, as the rules of assignments need it.
#[derive(Clone, Debug)]
pub(crate) struct PinnedInstallation {
    pub(crate) uid: String,
    pub(crate) entry_uid: String,
    pub(crate) entry_slug: String,
    /// Its owner, if it is personal.
    pub(crate) user_uid: Option<String>,
    /// Of which team it is, if it is not.
    pub(crate) team_uid: Option<String>,
    /// Hash of the set of its tools, or empty.
    pub(crate) tool_set: String,
    /// Whether it waits for its cleanup.
    pub(crate) deleted: bool,
}

impl PinnedInstallation {
    /// Whether the caller may see it, as `domain::installation::sees` says of the message.
    pub(crate) fn seen_by(&self, caller: &Caller) -> bool {
        caller.admin
            || self.user_uid.as_ref().is_some_and(|user| *user == caller.uid)
            || self.team_uid.as_ref().is_some_and(|team| caller.team(team).is_some())
    }
}

/// The installations with these uids, by uid.
pub(crate) async fn installations(
    tx: &mut Tx,
    uids: &BTreeSet<&str>,
) -> sqlx::Result<BTreeMap<String, PinnedInstallation>> {
    if uids.is_empty() {
        return Ok(BTreeMap::new());
    }
    on!(tx, c => {
        let mut select = QueryBuilder::new(
            "SELECT i.uid, i.entry_uid, e.slug, i.user_uid, i.team_uid, i.tool_set, i.delete_time FROM installations i \
             JOIN entries e ON e.uid = i.entry_uid WHERE i.uid IN ",
        );
        push_list!(select, uids);
        select.build().fetch_all(&mut *c).await?.iter().map(|row| {
            let found = PinnedInstallation {
                uid: row.try_get("uid")?,
                entry_uid: row.try_get("entry_uid")?,
                entry_slug: row.try_get("slug")?,
                user_uid: row.try_get("user_uid")?,
                team_uid: row.try_get("team_uid")?,
                tool_set: row.try_get("tool_set")?,
                deleted: row.try_get::<Option<i64>, _>("delete_time")?.is_some(),
            };
            Ok((found.uid.clone(), found))
        }).collect()
    })
}

/// Which of these tools are in these sets: pairs of a set's hash and a name.
pub(crate) async fn known_tools(
    tx: &mut Tx,
    tools: &BTreeSet<(&str, &str)>,
) -> sqlx::Result<BTreeSet<(String, String)>> {
    if tools.is_empty() {
        return Ok(BTreeSet::new());
    }
    on!(tx, c => {
        let mut select =
            QueryBuilder::new("SELECT set_hash, name FROM feature_set_features WHERE (set_hash, name) IN (");
        select.push_values(tools, |mut row, (set, tool)| {
            row.push_bind(*set).push_bind(*tool);
        });
        select.push(")");
        select.build().fetch_all(&mut *c).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    })
}

/// Uids of the assignments of a gateway or an agent that have the same tool and binding as one of these, by entry, tool and
/// pinned installation.
pub(crate) async fn same(
    tx: &mut Tx,
    consumer_uid: &str,
    new: &[ToolAssignment],
) -> sqlx::Result<BTreeMap<(String, String, String), String>> {
    on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT uid, entry_uid, tool, pinned_uid FROM tool_assignments WHERE kind = ");
        select.push_bind(FeatureKind::Tool as i64).push(" AND consumer_uid = ").push_bind(consumer_uid)
            .push(" AND (entry_uid, tool, pinned_uid) IN (");
        select.push_values(new, |mut row, one| {
            row.push_bind(&one.entry_uid).push_bind(tool(one).unwrap_or_default())
                .push_bind(pinned_uid(one).unwrap_or_default());
        });
        select.push(")");
        select.build().fetch_all(&mut *c).await?.iter().map(|row| {
            Ok(((row.try_get("entry_uid")?, row.try_get("tool")?, row.try_get("pinned_uid")?), row.try_get("uid")?))
        }).collect()
    })
}

/// Uids of the assignments of a gateway or an agent that have one of these exposed names, by name; and whether they are only
/// left over from a deleted entry.
pub(crate) async fn exposing(
    tx: &mut Tx,
    consumer_uid: &str,
    names: &BTreeSet<&str>,
) -> sqlx::Result<BTreeMap<String, (String, bool)>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    on!(tx, c => {
        let mut select = QueryBuilder::new(
            "SELECT a.uid, a.exposed_name, e.delete_time FROM tool_assignments a JOIN entries e ON e.uid = a.entry_uid \
             WHERE a.exposed_name <> '' AND a.consumer_uid = ",
        );
        select.push_bind(consumer_uid).push(" AND a.exposed_name IN ");
        push_list!(select, names);
        select.build().fetch_all(&mut *c).await?.iter().map(|row| {
            let left_over = row.try_get::<Option<i64>, _>("delete_time")?.is_some();
            Ok((row.try_get("exposed_name")?, (row.try_get("uid")?, left_over)))
        }).collect()
    })
}

fn audiences(caller: &Caller) -> Vec<String> {
    let audiences = list::audiences(caller).into_iter();
    audiences
        .filter_map(|audience| match audience {
            Bind::Text(audience) => Some(audience),
            Bind::Bytes(_) | Bind::Int(_) => None,
        })
        .collect()
}
