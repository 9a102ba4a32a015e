//! Rows as the resources that people and watchers get. Both get them from here, so that they agree.

use std::collections::HashMap;

use contracts::registry::{
    Agent, Condition, DeactivatedUser, Entry, Gateway, GatewayToken, Installation, ReinstallRequired, Team,
    TeamMapping, ToolAssignment, ToolDefinition, ToolRef, ToolSet, WatchedGatewayToken, WatchedInstallation,
    WatchedObject, WatchedTeam, WatchedToolAssignment, WholeIssuer, gateway_token, installation, team_mapping,
    tool_assignment, watched_object::Object as Watched,
};
use prost::Message;
use prost_types::Timestamp;
use service_kit::clock;
use sqlx::Row as _;

use super::{Object, Tx, on};
use crate::domain::{conditions, consumer::into_agent};

/// Reads rows on either engine: `rows!(tx, SQL, [bind, …], row => Ok(row.try_get("column")?))`.
macro_rules! rows {
    ($tx:expr, $sql:expr, [$($bind:expr),* $(,)?], $row:ident => $body:expr) => {
        $crate::store::on!($tx, c => sqlx::query($sql)$(.bind($bind))*.fetch_all(&mut *c).await?
            .iter().map(|$row| $body).collect::<sqlx::Result<Vec<_>>>())
    };
}
pub(crate) use rows;

/// Which rows to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// All of them.
    All,
    /// The one with this uid.
    One(&'a str),
}

/// Two statements that differ in which rows they take; both bind one value.
struct Select {
    all: &'static str,
    one: &'static str,
}

macro_rules! select {
    ($columns:literal, $key:literal) => {
        Select {
            all: concat!($columns, " WHERE ", $key, " >= $1"),
            one: concat!($columns, " WHERE ", $key, " = $1"),
        }
    };
}

impl Select {
    fn sql<'a>(&self, which: Which<'a>) -> (&'static str, &'a str) {
        match which {
            Which::All => (self.all, ""),
            Which::One(uid) => (self.one, uid),
        }
    }
}

/// Microseconds since 1970 as a proto's time.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from(clock::from_micros(micros))
}

fn user_name(uid: &str) -> String {
    format!("users/{uid}")
}

fn decode<M: Message + Default>(document: &[u8]) -> sqlx::Result<M> {
    M::decode(document).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn first<T>(rows: Vec<T>) -> Option<T> {
    rows.into_iter().next()
}

/// What watchers get of one object now; `None`: it is gone.
pub(crate) async fn watched(tx: &mut Tx, object: Object, uid: &str) -> sqlx::Result<Option<WatchedObject>> {
    Ok(first(snapshot(tx, object, Which::One(uid)).await?))
}

/// What watchers get of the objects of one kind.
pub(crate) async fn snapshot(tx: &mut Tx, object: Object, which: Which<'_>) -> sqlx::Result<Vec<WatchedObject>> {
    fn wrap<T>(objects: Vec<T>, key: impl Fn(&T) -> String, variant: impl Fn(T) -> Watched) -> Vec<WatchedObject> {
        objects
            .into_iter()
            .map(|object| WatchedObject {
                key: key(&object),
                object: Some(variant(object)),
            })
            .collect()
    }
    Ok(match object {
        Object::ToolDefinition => wrap(
            tool_definitions(tx, which).await?,
            |object| object.hash.clone(),
            Watched::ToolDefinition,
        ),
        Object::ToolSet => wrap(
            tool_sets(tx, which).await?,
            |object| object.owner_uid.clone(),
            Watched::ToolSet,
        ),
        Object::Team => wrap(
            watched_teams(tx, which).await?,
            |object| object.team.as_ref().map(|team| team.uid.clone()).unwrap_or_default(),
            Watched::Team,
        ),
        Object::DeactivatedUser => wrap(
            deactivated_users(tx, which).await?,
            |object| object.user.trim_start_matches("users/").to_owned(),
            Watched::DeactivatedUser,
        ),
        Object::Entry => wrap(entries(tx, which).await?, |object| object.uid.clone(), Watched::Entry),
        Object::Installation => wrap(
            installations(tx, which).await?,
            |object| {
                object
                    .installation
                    .as_ref()
                    .map(|installation| installation.uid.clone())
                    .unwrap_or_default()
            },
            Watched::Installation,
        ),
        Object::Gateway => wrap(
            gateways(tx, which).await?,
            |object| object.uid.clone(),
            Watched::Gateway,
        ),
        Object::Agent => wrap(agents(tx, which).await?, |object| object.uid.clone(), Watched::Agent),
        Object::ToolAssignment => wrap(
            tool_assignments(tx, which).await?,
            |object| {
                object
                    .tool_assignment
                    .as_ref()
                    .map(|assignment| assignment.uid.clone())
                    .unwrap_or_default()
            },
            Watched::ToolAssignment,
        ),
        Object::GatewayToken => gateway_tokens(tx, which)
            .await?
            .into_iter()
            .filter_map(|(uid, token)| {
                let live = token
                    .gateway_token
                    .as_ref()
                    .is_some_and(|token| token.revoke_time.is_none());
                live.then_some(WatchedObject {
                    key: uid,
                    object: Some(Watched::GatewayToken(token)),
                })
            })
            .collect(),
    })
}

/// An entry as of now, also one that waits for cleanup.
pub(crate) async fn entry(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Entry>> {
    Ok(first(entries(tx, Which::One(uid)).await?))
}

/// The uid of the entry that has this slug now.
pub(crate) async fn entry_uid(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<String>> {
    const BY_SLUG: &str = "SELECT uid FROM entries WHERE slug = $1 AND delete_time IS NULL";
    on!(tx, c => sqlx::query_scalar(BY_SLUG).bind(slug).fetch_optional(&mut *c).await)
}

/// An installation as of now, also one that waits for cleanup.
pub(crate) async fn installation(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<WatchedInstallation>> {
    Ok(first(installations(tx, Which::One(uid)).await?))
}

/// An MCP gateway as of now.
pub(crate) async fn gateway(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Gateway>> {
    Ok(first(gateways(tx, Which::One(uid)).await?))
}

/// An agent as of now.
pub(crate) async fn agent(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Agent>> {
    Ok(first(agents(tx, Which::One(uid)).await?))
}

/// A tool assignment as of now.
pub(crate) async fn tool_assignment(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<WatchedToolAssignment>> {
    Ok(first(tool_assignments(tx, Which::One(uid)).await?))
}

/// A team as of now, with its members.
pub(crate) async fn team(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<WatchedTeam>> {
    Ok(first(watched_teams(tx, Which::One(uid)).await?))
}

/// The uid of the team with this slug.
pub(crate) async fn team_uid(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<String>> {
    on!(tx, c => sqlx::query_scalar("SELECT uid FROM teams WHERE slug = $1").bind(slug).fetch_optional(&mut *c).await)
}

/// A gateway token as of now.
pub(crate) async fn gateway_token(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<GatewayToken>> {
    Ok(first(gateway_tokens(tx, Which::One(uid)).await?).and_then(|(_, token)| token.gateway_token))
}

/// The tools of an entry or an installation; `None` until they are known.
pub(crate) async fn tool_set(tx: &mut Tx, owner_uid: &str) -> sqlx::Result<Option<ToolSet>> {
    Ok(first(tool_sets(tx, Which::One(owner_uid)).await?))
}

async fn entries(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<Entry>> {
    const SELECT: Select = select!(
        "SELECT e.uid, e.slug, e.lifecycle, e.entry_revision, e.creator, e.updater, e.etag, e.create_time, e.update_time, \
         e.delete_time, e.revision, r.document \
         FROM entries e JOIN entry_revisions r ON r.entry_uid = e.uid AND r.number = e.entry_revision",
        "e.uid"
    );
    let (sql, key) = SELECT.sql(which);
    rows!(tx, sql, [key], row => {
        let slug: String = row.try_get("slug")?;
        let lifecycle: i64 = row.try_get("lifecycle")?;
        Ok(Entry {
            name: format!("entries/{slug}"),
            uid: row.try_get("uid")?,
            lifecycle: i32::try_from(lifecycle).unwrap_or_default(),
            entry_revision: row.try_get("entry_revision")?,
            creator: user_name(row.try_get("creator")?),
            updater: user_name(row.try_get("updater")?),
            etag: row.try_get("etag")?,
            create_time: Some(timestamp(row.try_get("create_time")?)),
            update_time: Some(timestamp(row.try_get("update_time")?)),
            delete_time: row.try_get::<Option<i64>, _>("delete_time")?.map(timestamp),
            revision: row.try_get("revision")?,
            ..decode::<Entry>(row.try_get("document")?)?
        })
    })
}

async fn installations(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<WatchedInstallation>> {
    const SELECT: Select = select!(
        "SELECT i.uid, i.entry_uid, i.user_uid, t.slug AS team_slug, i.field_values, i.created_entry_revision, \
         i.running_entry_revision, i.generation, i.credential_generation, i.reinstall, i.runtime_endpoint, i.first_ready_time, \
         i.etag, i.creator, i.create_time, i.update_time, i.delete_time, i.expire_time, i.revision, e.slug AS entry_slug, r.document \
         FROM installations i JOIN entries e ON e.uid = i.entry_uid \
         JOIN entry_revisions r ON r.entry_uid = i.entry_uid AND r.number = i.running_entry_revision \
         LEFT JOIN teams t ON t.uid = i.team_uid",
        "i.uid"
    );
    let mut reported = reported_conditions(tx, which).await?;
    let (sql, key) = SELECT.sql(which);
    let mut found = rows!(tx, sql, [key], row => {
        let entry_name = format!("entries/{}", row.try_get::<String, _>("entry_slug")?);
        let entry_uid: String = row.try_get("entry_uid")?;
        let running_entry_revision = row.try_get("running_entry_revision")?;
        let user: Option<String> = row.try_get("user_uid")?;
        let team: Option<String> = row.try_get("team_slug")?;
        let field_values: String = row.try_get("field_values")?;
        let reinstall: Option<Vec<u8>> = row.try_get("reinstall")?;
        Ok(WatchedInstallation {
            installation: Some(Installation {
                name: format!("installations/{}", row.try_get::<String, _>("uid")?),
                uid: row.try_get("uid")?,
                entry: entry_name.clone(),
                entry_uid: entry_uid.clone(),
                scope: match (user, team) {
                    (Some(user), _) => Some(installation::Scope::User(user_name(&user))),
                    (None, team) => team.map(|slug| installation::Scope::Team(format!("teams/{slug}"))),
                },
                values: serde_json::from_str(&field_values).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                created_entry_revision: row.try_get("created_entry_revision")?,
                running_entry_revision,
                generation: row.try_get("generation")?,
                credential_generation: row.try_get("credential_generation")?,
                reinstall_required: reinstall.map(|document| decode::<ReinstallRequired>(&document)).transpose()?,
                first_ready_time: row.try_get::<Option<i64>, _>("first_ready_time")?.map(timestamp),
                etag: row.try_get("etag")?,
                create_time: Some(timestamp(row.try_get("create_time")?)),
                update_time: Some(timestamp(row.try_get("update_time")?)),
                creator: user_name(row.try_get("creator")?),
                delete_time: row.try_get::<Option<i64>, _>("delete_time")?.map(timestamp),
                expire_time: row.try_get::<Option<i64>, _>("expire_time")?.map(timestamp),
                revision: row.try_get("revision")?,
                ..Installation::default()
            }),
            running_entry: Some(Entry {
                name: entry_name,
                uid: entry_uid,
                entry_revision: running_entry_revision,
                ..decode::<Entry>(row.try_get("document")?)?
            }),
            runtime_endpoint: row.try_get("runtime_endpoint")?,
        })
    })?;
    for watched in &mut found {
        if let (Some(installation), Some(entry)) = (&mut watched.installation, &watched.running_entry) {
            let reported = reported.remove(&installation.uid).unwrap_or_default();
            installation.conditions = conditions::applicable(entry, reported, installation.create_time);
            installation.state = conditions::state(installation).into();
        }
    }
    Ok(found)
}

async fn reported_conditions(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<HashMap<String, Vec<Condition>>> {
    const SELECT: Select = select!(
        "SELECT installation_uid, condition_type, status, reason, message, observed_generation, transition_time FROM conditions",
        "installation_uid"
    );
    let (sql, key) = SELECT.sql(which);
    let found = rows!(tx, sql, [key], row => {
        let condition_type: i64 = row.try_get("condition_type")?;
        let status: i64 = row.try_get("status")?;
        let condition = Condition {
            r#type: i32::try_from(condition_type).unwrap_or_default(),
            status: i32::try_from(status).unwrap_or_default(),
            reason: row.try_get("reason")?,
            message: row.try_get("message")?,
            observed_generation: row.try_get("observed_generation")?,
            transition_time: Some(timestamp(row.try_get("transition_time")?)),
        };
        Ok((row.try_get::<String, _>("installation_uid")?, condition))
    })?;
    let mut conditions: HashMap<String, Vec<Condition>> = HashMap::new();
    for (uid, condition) in found {
        conditions.entry(uid).or_default().push(condition);
    }
    Ok(conditions)
}

/// `consumers.kind` of MCP gateways.
pub(crate) const GATEWAY: i64 = 1;
/// `consumers.kind` of agents.
pub(crate) const AGENT: i64 = 2;

/// The collection that a kind of consumer is named in.
pub(crate) fn consumer_collection(kind: i64) -> &'static str {
    if kind == AGENT { "agents" } else { "gateways" }
}

/// The uid of the gateway or agent with this slug.
pub(crate) async fn consumer_uid(tx: &mut Tx, kind: i64, slug: &str) -> sqlx::Result<Option<String>> {
    const BY_SLUG: &str = "SELECT uid FROM consumers WHERE kind = $1 AND slug = $2";
    on!(tx, c => sqlx::query_scalar(BY_SLUG).bind(kind).bind(slug).fetch_optional(&mut *c).await)
}

async fn gateways(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<Gateway>> {
    Ok(consumers(tx, which)
        .await?
        .into_iter()
        .filter(|(kind, _)| *kind == GATEWAY)
        .map(|(_, gateway)| gateway)
        .collect())
}

async fn agents(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<Agent>> {
    let agents = consumers(tx, which)
        .await?
        .into_iter()
        .filter(|(kind, _)| *kind == AGENT);
    Ok(agents.map(|(_, document)| into_agent(document)).collect())
}

async fn consumers(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<(i64, Gateway)>> {
    const SELECT: Select = select!(
        "SELECT uid, kind, slug, document, creator, etag, create_time, update_time, revision FROM consumers",
        "uid"
    );
    let (sql, key) = SELECT.sql(which);
    rows!(tx, sql, [key], row => {
        let kind: i64 = row.try_get("kind")?;
        let gateway = Gateway {
            name: format!("{}/{}", consumer_collection(kind), row.try_get::<String, _>("slug")?),
            uid: row.try_get("uid")?,
            creator: user_name(row.try_get("creator")?),
            etag: row.try_get("etag")?,
            create_time: Some(timestamp(row.try_get("create_time")?)),
            update_time: Some(timestamp(row.try_get("update_time")?)),
            revision: row.try_get("revision")?,
            ..decode::<Gateway>(row.try_get("document")?)?
        };
        Ok((kind, gateway))
    })
}

async fn tool_assignments(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<WatchedToolAssignment>> {
    const SELECT: Select = select!(
        "SELECT a.uid, a.consumer_uid, a.entry_uid, a.tool, a.pinned_installation_uid, a.exposed_name, a.creator, a.etag, \
         a.create_time, a.update_time, a.revision, c.kind, c.slug, e.slug AS entry_slug \
         FROM tool_assignments a JOIN consumers c ON c.uid = a.consumer_uid JOIN entries e ON e.uid = a.entry_uid",
        "a.uid"
    );
    let (sql, key) = SELECT.sql(which);
    rows!(tx, sql, [key], row => {
        let uid: String = row.try_get("uid")?;
        let collection = consumer_collection(row.try_get("kind")?);
        let parent: String = row.try_get("slug")?;
        let pinned: Option<String> = row.try_get("pinned_installation_uid")?;
        Ok(WatchedToolAssignment {
            consumer_uid: row.try_get("consumer_uid")?,
            entry_uid: row.try_get("entry_uid")?,
            tool_assignment: Some(ToolAssignment {
                name: format!("{collection}/{parent}/toolAssignments/{uid}"),
                uid,
                entry: format!("entries/{}", row.try_get::<String, _>("entry_slug")?),
                tool: row.try_get("tool")?,
                binding: Some(match pinned {
                    Some(uid) => tool_assignment::Binding::PinnedInstallation(format!("installations/{uid}")),
                    None => tool_assignment::Binding::ResolveAtCallTime(contracts::registry::ResolveAtCallTime {}),
                }),
                exposed_name: row.try_get("exposed_name")?,
                etag: row.try_get("etag")?,
                create_time: Some(timestamp(row.try_get("create_time")?)),
                update_time: Some(timestamp(row.try_get("update_time")?)),
                creator: user_name(row.try_get("creator")?),
                revision: row.try_get("revision")?,
            }),
        })
    })
}

async fn watched_teams(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<WatchedTeam>> {
    const TEAMS: Select = select!(
        "SELECT uid, slug, display_name, members_manage_installations, etag, create_time, update_time, revision FROM teams",
        "uid"
    );
    const MEMBERS: Select = select!("SELECT team_uid, user_uid FROM team_members", "team_uid");
    const MAPPINGS: Select = select!(
        "SELECT team_uid, position, issuer, group_name FROM team_mappings",
        "team_uid"
    );
    let (sql, key) = MEMBERS.sql(which);
    let mut members = rows!(tx, sql, [key], row => Ok((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?)))?;
    members.sort();
    let (sql, key) = MAPPINGS.sql(which);
    let mut mappings = rows!(tx, sql, [key], row => {
        let group: Option<String> = row.try_get("group_name")?;
        let mapping = TeamMapping {
            issuer: row.try_get("issuer")?,
            selector: Some(match group {
                Some(group) => team_mapping::Selector::Group(group),
                None => team_mapping::Selector::WholeIssuer(WholeIssuer {}),
            }),
        };
        Ok((row.try_get::<String, _>("team_uid")?, row.try_get::<i64, _>("position")?, mapping))
    })?;
    mappings.sort_by_key(|(_, position, _)| *position);
    let mut members_of: HashMap<String, Vec<String>> = HashMap::new();
    for (team, user) in members {
        members_of.entry(team).or_default().push(user_name(&user));
    }
    let mut mappings_of: HashMap<String, Vec<TeamMapping>> = HashMap::new();
    for (team, _, mapping) in mappings {
        mappings_of.entry(team).or_default().push(mapping);
    }
    let (sql, key) = TEAMS.sql(which);
    rows!(tx, sql, [key], row => {
        let uid: String = row.try_get("uid")?;
        Ok(WatchedTeam {
            members: members_of.remove(&uid).unwrap_or_default(),
            team: Some(Team {
                name: format!("teams/{}", row.try_get::<String, _>("slug")?),
                display_name: row.try_get("display_name")?,
                mappings: mappings_of.remove(&uid).unwrap_or_default(),
                members_manage_installations: row.try_get("members_manage_installations")?,
                etag: row.try_get("etag")?,
                create_time: Some(timestamp(row.try_get("create_time")?)),
                update_time: Some(timestamp(row.try_get("update_time")?)),
                revision: row.try_get("revision")?,
                uid,
            }),
        })
    })
}

async fn deactivated_users(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<DeactivatedUser>> {
    const ALL: &str = "SELECT uid FROM users WHERE deactivate_time IS NOT NULL AND uid >= $1";
    const ONE: &str = "SELECT uid FROM users WHERE deactivate_time IS NOT NULL AND uid = $1";
    let (sql, key) = Select { all: ALL, one: ONE }.sql(which);
    rows!(tx, sql, [key], row => Ok(DeactivatedUser { user: user_name(row.try_get("uid")?) }))
}

async fn gateway_tokens(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<(String, WatchedGatewayToken)>> {
    const TOKENS: Select = select!(
        "SELECT k.uid, k.token_hash, k.display_name, k.user_uid, t.slug AS team_slug, k.creator, k.create_time, k.expire_time, \
         k.revoke_time, k.last_use_time, k.revision, u.issuer, u.subject \
         FROM gateway_tokens k LEFT JOIN teams t ON t.uid = k.team_uid LEFT JOIN users u ON u.uid = k.user_uid",
        "k.uid"
    );
    const CONSUMERS: Select = select!(
        "SELECT k.token_uid, c.kind, c.slug FROM gateway_token_consumers k JOIN consumers c ON c.uid = k.consumer_uid",
        "k.token_uid"
    );
    let (sql, key) = CONSUMERS.sql(which);
    let mut limits = rows!(tx, sql, [key], row => {
        let slug: String = row.try_get("slug")?;
        let name = format!("{}/{slug}", consumer_collection(row.try_get("kind")?));
        Ok((row.try_get::<String, _>("token_uid")?, name))
    })?;
    limits.sort();
    let mut limits_of: HashMap<String, Vec<String>> = HashMap::new();
    for (token, consumer) in limits {
        limits_of.entry(token).or_default().push(consumer);
    }
    let (sql, key) = TOKENS.sql(which);
    rows!(tx, sql, [key], row => {
        let uid: String = row.try_get("uid")?;
        let user: Option<String> = row.try_get("user_uid")?;
        let team: Option<String> = row.try_get("team_slug")?;
        let token = WatchedGatewayToken {
            gateway_token: Some(GatewayToken {
                name: format!("gatewayTokens/{uid}"),
                display_name: row.try_get("display_name")?,
                subject: match (user, team) {
                    (Some(user), _) => Some(gateway_token::Subject::User(user_name(&user))),
                    (None, team) => team.map(|slug| gateway_token::Subject::Team(format!("teams/{slug}"))),
                },
                consumers: limits_of.remove(&uid).unwrap_or_default(),
                expire_time: row.try_get::<Option<i64>, _>("expire_time")?.map(timestamp),
                revoke_time: row.try_get::<Option<i64>, _>("revoke_time")?.map(timestamp),
                last_use_time: row.try_get::<Option<i64>, _>("last_use_time")?.map(timestamp),
                create_time: Some(timestamp(row.try_get("create_time")?)),
                creator: user_name(row.try_get("creator")?),
                revision: row.try_get("revision")?,
            }),
            token_hash: row.try_get("token_hash")?,
            issuer: row.try_get::<Option<String>, _>("issuer")?.unwrap_or_default(),
            subject: row.try_get::<Option<String>, _>("subject")?.unwrap_or_default(),
        };
        Ok((uid, token))
    })
}

async fn tool_definitions(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<ToolDefinition>> {
    const SELECT: Select = select!("SELECT hash, definition FROM tool_definitions", "hash");
    let (sql, key) = SELECT.sql(which);
    rows!(tx, sql, [key], row => {
        Ok(ToolDefinition { hash: row.try_get("hash")?, definition_json: row.try_get("definition")? })
    })
}

async fn tool_sets(tx: &mut Tx, which: Which<'_>) -> sqlx::Result<Vec<ToolSet>> {
    const SETS: Select = select!("SELECT owner_uid FROM tool_sets", "owner_uid");
    const TOOLS: Select = select!(
        "SELECT owner_uid, tool, definition_hash FROM tool_set_tools",
        "owner_uid"
    );
    let (sql, key) = TOOLS.sql(which);
    let mut tools = rows!(tx, sql, [key], row => {
        let tool = ToolRef { tool: row.try_get("tool")?, definition_hash: row.try_get("definition_hash")? };
        Ok((row.try_get::<String, _>("owner_uid")?, tool))
    })?;
    // Sorted here, so that the order is that of bytes on both engines.
    tools.sort_by(|(_, a), (_, b)| a.tool.cmp(&b.tool));
    let mut tools_of: HashMap<String, Vec<ToolRef>> = HashMap::new();
    for (owner, tool) in tools {
        tools_of.entry(owner).or_default().push(tool);
    }
    let (sql, key) = SETS.sql(which);
    rows!(tx, sql, [key], row => {
        let owner_uid: String = row.try_get("owner_uid")?;
        Ok(ToolSet { tools: tools_of.remove(&owner_uid).unwrap_or_default(), owner_uid })
    })
}
