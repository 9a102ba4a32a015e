//! Gateway tokens, by the hash of their text.

use std::collections::HashMap;

use contracts::registry::{GatewayToken, WatchedGatewayToken};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Db, Object, Tx,
    document::{SCHEMA_VERSION, document},
    execute,
    list::{Arm, Bind, Condition, List, Listed, SEVERAL},
    on, push_list, rows,
};
use crate::domain::{Caller, time::timestamp};

/// Whose a token is: one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Uid of the user.
    User(String),
    /// Uid of the team.
    Team(String),
}

/// A token that is kept.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) owner: Owner,
    /// As watchers get it, without the time of its last use.
    pub(crate) watched: WatchedGatewayToken,
    pub(crate) last_use_time: Option<i64>,
}

impl Token {
    /// As people get it.
    pub(crate) fn message(self) -> GatewayToken {
        message(self.watched, self.last_use_time)
    }

    /// Whether it has been ended.
    pub(crate) fn is_revoked(&self) -> bool {
        let token = self.watched.gateway_token.as_ref();
        token.is_some_and(|token| token.revoke_time.is_some())
    }

    /// The revision of its last change.
    pub(crate) fn registry_revision(&self) -> i64 {
        let token = self.watched.gateway_token.as_ref();
        token.map_or(0, |token| token.registry_revision)
    }
}

fn message(watched: WatchedGatewayToken, last_use_time: Option<i64>) -> GatewayToken {
    GatewayToken {
        last_use_time: last_use_time.map(timestamp),
        ..watched.gateway_token.unwrap_or_default()
    }
}

/// Keeps a new token that works for these gateways and agents, by uid; everywhere if there are none. Sets its revision.
pub(crate) async fn insert(
    tx: &mut Tx,
    uid: &str,
    owner: &Owner,
    watched: &mut WatchedGatewayToken,
    consumer_uids: &[String],
) -> sqlx::Result<()> {
    const ADD: &str = "INSERT INTO gateway_tokens \
        (uid, token_hash, user_uid, team_uid, document, schema_version, create_time, registry_revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    const LIMIT: &str = "INSERT INTO gateway_token_consumers (token_uid, consumer_uid) VALUES ($1, $2) \
        ON CONFLICT (token_uid, consumer_uid) DO NOTHING";
    let (user, team) = match owner {
        Owner::User(uid) => (Some(uid), None),
        Owner::Team(uid) => (None, Some(uid)),
    };
    let (revision, now) = (tx.revision(), tx.now());
    if let Some(token) = &mut watched.gateway_token {
        token.registry_revision = revision;
    }
    let document = watched.encode_to_vec();
    let hash = &watched.token_hash;
    execute!(
        tx,
        ADD,
        [uid, hash, user, team, &document, SCHEMA_VERSION, now, revision]
    )?;
    for consumer in consumer_uids {
        execute!(tx, LIMIT, [uid, consumer])?;
    }
    tx.put(Object::GatewayToken, uid, &document);
    Ok(())
}

/// Reads one token.
pub(crate) async fn find(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Token>> {
    const FIND: &str =
        "SELECT user_uid, team_uid, document, schema_version, last_use_time FROM gateway_tokens WHERE uid = $1";
    let found = rows!(tx, FIND, [uid], row => {
        let user: Option<String> = row.try_get("user_uid")?;
        let team: Option<String> = row.try_get("team_uid")?;
        Ok(Token {
            owner: user.map_or_else(|| Owner::Team(team.unwrap_or_default()), Owner::User),
            watched: document(row)?,
            last_use_time: row.try_get("last_use_time")?,
        })
    })?;
    Ok(found.into_iter().next())
}

/// Revokes a token.
pub(crate) async fn revoke(tx: &mut Tx, uid: &str, watched: &mut WatchedGatewayToken) -> sqlx::Result<()> {
    let now = tx.now();
    if let Some(token) = &mut watched.gateway_token {
        token.revoke_time = Some(timestamp(now));
    }
    update(tx, uid, watched).await
}

async fn update(tx: &mut Tx, uid: &str, watched: &mut WatchedGatewayToken) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE gateway_tokens SET document = $1, schema_version = $2, registry_revision = $3, \
        revoke_time = CASE WHEN $4 THEN COALESCE(revoke_time, $5) END WHERE uid = $6";
    let (revision, now) = (tx.revision(), tx.now());
    let mut revoked = false;
    if let Some(token) = &mut watched.gateway_token {
        token.registry_revision = revision;
        revoked = token.revoke_time.is_some();
    }
    let document = watched.encode_to_vec();
    execute!(tx, UPDATE, [&document, SCHEMA_VERSION, revision, revoked, now, uid])?;
    if revoked {
        tx.remove(Object::GatewayToken, uid);
    } else {
        tx.put(Object::GatewayToken, uid, &document);
    }
    Ok(())
}

/// Takes a gateway or an agent from up to `limit` of the tokens that are limited to it; says whether there may be more. One that is
/// limited to nothing else ends: it would work everywhere.
pub(super) async fn forget_consumer(tx: &mut Tx, consumer_uid: &str, name: &str, limit: i64) -> sqlx::Result<bool> {
    const LIMITED: &str = "SELECT k.uid, k.document, k.schema_version FROM gateway_tokens k \
        JOIN gateway_token_consumers l ON l.token_uid = k.uid WHERE l.consumer_uid = $1 ORDER BY l.token_uid LIMIT $2";
    const FORGET: &str = "DELETE FROM gateway_token_consumers WHERE consumer_uid = $1 AND token_uid = $2";
    let limited = rows!(tx, LIMITED, [consumer_uid, limit], row => {
        Ok((row.try_get::<String, _>("uid")?, document::<WatchedGatewayToken, _>(row)?))
    })?;
    let more = i64::try_from(limited.len()).is_ok_and(|limited| limited >= limit);
    for (uid, mut watched) in limited {
        execute!(tx, FORGET, [consumer_uid, &uid])?;
        let Some(token) = &mut watched.gateway_token else {
            continue;
        };
        token.consumers.retain(|consumer| consumer != name);
        if token.consumers.is_empty() && token.revoke_time.is_none() {
            revoke(tx, &uid, &mut watched).await?;
        } else {
            update(tx, &uid, &mut watched).await?;
        }
    }
    Ok(more)
}

/// Notes when tokens were last used: their uids and times, in microseconds since 1970. A time before the one that is known is passed
/// over.
pub(crate) async fn note_uses(db: &Db, mut uses: Vec<(&str, i64)>) -> sqlx::Result<()> {
    const NOTE: &str =
        "UPDATE gateway_tokens SET last_use_time = $1 WHERE uid = $2 AND (last_use_time IS NULL OR last_use_time < $1)";
    let known = last_uses(&mut db.read().await?, &uses).await?;
    // Most are known already: that takes no lock.
    uses.retain(|(uid, time)| {
        known
            .get(*uid)
            .is_some_and(|known| known.is_none_or(|known| known < *time))
    });
    if uses.is_empty() {
        return Ok(());
    }
    // In one order, so that two reports at once do not wait for each other's rows.
    uses.sort_unstable();
    let mut tx = db.write_quietly().await?;
    for (uid, time) in uses {
        execute!(tx, NOTE, [time, uid])?;
    }
    tx.commit().await.map(drop)
}

/// When those of these tokens that exist were last used, by uid.
async fn last_uses(tx: &mut Tx, uses: &[(&str, i64)]) -> sqlx::Result<HashMap<String, Option<i64>>> {
    if uses.is_empty() {
        return Ok(HashMap::new());
    }
    on!(tx, c => {
        let mut select = QueryBuilder::new("SELECT uid, last_use_time FROM gateway_tokens WHERE uid IN ");
        push_list!(select, uses.iter().map(|(uid, _)| *uid));
        select.build().fetch_all(&mut *c).await?.iter().map(|row| Ok((row.try_get("uid")?, row.try_get("last_use_time")?)))
            .collect()
    })
}

/// The tokens that are the caller's to manage: their own, those of the teams whose installations they manage; all for an admin.
pub(crate) fn list(caller: &Caller) -> List {
    let arm = |condition| Arm::of("gateway_tokens o", condition);
    let arms = if caller.admin {
        vec![arm(Condition::new("TRUE", []))]
    } else {
        let managed: Vec<_> = caller
            .teams
            .iter()
            .filter(|team| team.members_manage_installations)
            .collect();
        let of_team = |uid: &str| arm(Condition::new("o.team_uid = ?", [Bind::from(uid)]));
        let own = arm(Condition::new("o.user_uid = ?", [Bind::from(caller.uid.as_str())]));
        if managed.len() <= SEVERAL {
            std::iter::once(own)
                .chain(managed.into_iter().map(|team| of_team(&team.uid)))
                .collect()
        } else {
            let teams = managed.into_iter().map(|team| Bind::from(team.uid.as_str())).collect();
            let of_teams = Arm {
                unordered: true,
                ..arm(Condition::any_of("o.team_uid IN ({})", teams))
            };
            vec![own, of_teams]
        }
    };
    List {
        table: "gateway_tokens",
        extra: "o.last_use_time",
        arms,
        filters: Vec::new(),
    }
}

/// A token of [`list`], as people get it.
pub(crate) fn listed(listed: &Listed) -> sqlx::Result<GatewayToken> {
    Ok(message(listed.message()?, listed.extra))
}
