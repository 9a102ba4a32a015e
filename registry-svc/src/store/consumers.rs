//! MCP gateways and agents. Both are handled as the former's message; the document of an agent is an Agent.

use contracts::registry::{Agent, Gateway};
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Object, Tx, assignments,
    document::{SCHEMA_VERSION, document},
    execute, gateway_tokens,
    list::{self, Arm, Bind, Condition, List, Listed, SEVERAL},
    on, rows,
};
use crate::domain::{
    Caller,
    consumer::{ConsumerKind, from_agent, into_agent},
    etag,
    time::micros,
    visibility,
};

/// As watchers name this kind.
pub(crate) fn object(kind: ConsumerKind) -> Object {
    match kind {
        ConsumerKind::Gateway => Object::Gateway,
        ConsumerKind::Agent => Object::Agent,
    }
}

/// The one with this slug.
pub(crate) async fn find(tx: &mut Tx, kind: ConsumerKind, slug: &str) -> sqlx::Result<Option<Gateway>> {
    const FIND: &str =
        "SELECT document, schema_version FROM consumers WHERE kind = $1 AND slug = $2 AND delete_time IS NULL";
    let found = match kind {
        ConsumerKind::Gateway => rows!(tx, FIND, [kind as i64, slug], row => document(row))?,
        ConsumerKind::Agent => rows!(tx, FIND, [kind as i64, slug], row => document(row).map(from_agent))?,
    };
    Ok(found.into_iter().next())
}

/// The one with this uid.
pub(crate) async fn by_uid(tx: &mut Tx, kind: ConsumerKind, uid: &str) -> sqlx::Result<Option<Gateway>> {
    const FIND: &str =
        "SELECT document, schema_version FROM consumers WHERE kind = $1 AND uid = $2 AND delete_time IS NULL";
    let found = match kind {
        ConsumerKind::Gateway => rows!(tx, FIND, [kind as i64, uid], row => document(row))?,
        ConsumerKind::Agent => rows!(tx, FIND, [kind as i64, uid], row => document(row).map(from_agent))?,
    };
    Ok(found.into_iter().next())
}

/// Writes one, new or there already; sets its etag and its revision. `team_uids` are those of its visibility.
pub(crate) async fn put(
    tx: &mut Tx,
    kind: ConsumerKind,
    consumer: &mut Gateway,
    team_uids: &[String],
) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO consumers (uid, kind, slug, document, schema_version, create_time, registry_revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (uid) DO UPDATE SET document = excluded.document, \
        schema_version = excluded.schema_version, registry_revision = excluded.registry_revision";
    let (revision, now) = (tx.revision(), tx.now());
    consumer.registry_revision = revision;
    consumer.etag = etag::of(&consumer.uid, revision);
    let document = match kind {
        ConsumerKind::Gateway => consumer.encode_to_vec(),
        ConsumerKind::Agent => into_agent(consumer.clone()).encode_to_vec(),
    };
    let (uid, kind_column) = (&consumer.uid, kind as i64);
    let slug = consumer
        .name
        .trim_start_matches(kind.collection())
        .trim_start_matches('/');
    execute!(
        tx,
        PUT,
        [uid, kind_column, slug, &document, SCHEMA_VERSION, now, revision]
    )?;
    hide(tx, uid).await?;
    let audiences = visibility::audiences(consumer.visibility.as_ref(), team_uids, &consumer.creator);
    let time = consumer.create_time.as_ref().map_or(now, micros);
    on!(tx, c => {
        let mut insert = QueryBuilder::new("INSERT INTO consumer_audiences (kind, audience, create_time, consumer_uid) ");
        insert.push_values(&audiences, |mut row, audience| {
            row.push_bind(kind_column).push_bind(audience).push_bind(time).push_bind(uid);
        });
        // An author may be named twice.
        insert.push(" ON CONFLICT (kind, audience, create_time, consumer_uid) DO NOTHING");
        insert.build().execute(&mut *c).await.map(drop)
    })?;
    tx.put(object(kind), uid, &document);
    Ok(())
}

async fn hide(tx: &mut Tx, uid: &str) -> sqlx::Result<()> {
    execute!(tx, "DELETE FROM consumer_audiences WHERE consumer_uid = $1", [uid])?;
    Ok(())
}

/// Gateway tokens that are changed with the deletion of what they are limited to; [`delete_leftovers`] changes what is left.
const TOKENS_AT_ONCE: i64 = 50;

/// Takes one away for everybody; [`delete_leftovers`] deletes its assignments and its row. A gateway token that is limited to it
/// works there no more, nor anywhere else.
pub(crate) async fn delete(tx: &mut Tx, kind: ConsumerKind, consumer: &Gateway) -> sqlx::Result<()> {
    const DELETE: &str = "UPDATE consumers SET delete_time = $1, registry_revision = $2 WHERE uid = $3";
    let (revision, now) = (tx.revision(), tx.now());
    execute!(tx, DELETE, [now, revision, &consumer.uid])?;
    hide(tx, &consumer.uid).await?;
    gateway_tokens::forget_consumer(tx, &consumer.uid, &consumer.name, TOKENS_AT_ONCE).await?;
    tx.remove(object(kind), &consumer.uid);
    Ok(())
}

/// Whether [`delete_leftovers`] has something to do.
pub(crate) async fn has_leftovers(tx: &mut Tx) -> sqlx::Result<bool> {
    const DELETED: &str = "SELECT uid FROM consumers WHERE delete_time IS NOT NULL LIMIT 1";
    Ok(!rows!(tx, DELETED, [], _row => Ok(()))?.is_empty())
}

/// Whether gateway tokens are still limited to one of this name that is deleted. Until they are not, nothing may have its name: they
/// would work there.
pub(crate) async fn is_being_forgotten(tx: &mut Tx, kind: ConsumerKind, slug: &str) -> sqlx::Result<bool> {
    const LEFT: &str = "SELECT 1 FROM consumers WHERE kind = $1 AND slug = $2 AND delete_time IS NOT NULL \
        AND uid IN (SELECT consumer_uid FROM gateway_token_consumers WHERE consumer_uid = consumers.uid) LIMIT 1";
    Ok(!rows!(tx, LEFT, [kind as i64, slug], _row => Ok(()))?.is_empty())
}

/// Takes a gateway or an agent that is deleted from up to `limit` tokens, or deletes up to `limit` assignments of it, and its row with
/// the last of them; says whether there is more to do.
pub(crate) async fn delete_leftovers(tx: &mut Tx, limit: i64) -> sqlx::Result<bool> {
    const DELETED: &str = "SELECT uid, kind, slug FROM consumers WHERE delete_time IS NOT NULL ORDER BY uid LIMIT 2";
    let deleted: Vec<(String, i64, String)> = rows!(tx, DELETED, [], row => {
        Ok((row.try_get("uid")?, row.try_get("kind")?, row.try_get("slug")?))
    })?;
    let Some((uid, kind, slug)) = deleted.first() else {
        return Ok(false);
    };
    let kind = if *kind == ConsumerKind::Agent as i64 {
        ConsumerKind::Agent
    } else {
        ConsumerKind::Gateway
    };
    let name = format!("{}/{slug}", kind.collection());
    if gateway_tokens::forget_consumer(tx, uid, &name, limit).await? {
        return Ok(true);
    }
    if assignments::delete_of_consumer(tx, uid, limit).await? {
        return Ok(true);
    }
    execute!(tx, "DELETE FROM consumers WHERE uid = $1", [uid])?;
    Ok(deleted.len() > 1)
}

/// Those that the caller may see.
pub(crate) fn list(caller: &Caller, kind: ConsumerKind) -> List {
    const SEEN: &str = "(SELECT 1 FROM consumer_audiences a WHERE a.consumer_uid = d.consumer_uid AND a.audience || '' IN ({}) \
        LIMIT 1) IS NOT NULL";
    let kind = Bind::from(kind as i64);
    let arm = |audience| Arm {
        from: "consumer_audiences d",
        time: "d.create_time",
        uid: "d.consumer_uid",
        condition: Condition::new("d.kind = ? AND d.audience = ?", [kind.clone(), audience]),
        unordered: false,
    };
    let audiences = list::audiences(caller);
    let (arms, filters) = if audiences.len() <= SEVERAL {
        (audiences.into_iter().map(arm).collect(), Vec::new())
    } else {
        let all = vec![arm(Bind::from(visibility::ADMINS))];
        (all, vec![Condition::any_of(SEEN, audiences)])
    };
    List {
        table: "consumers",
        extra: "NULL",
        arms,
        filters,
    }
}

/// One of [`list`].
pub(crate) fn listed(kind: ConsumerKind, listed: &Listed) -> sqlx::Result<Gateway> {
    match kind {
        ConsumerKind::Gateway => listed.message(),
        ConsumerKind::Agent => listed.message::<Agent>().map(from_agent),
    }
}
