//! MCP gateways and agents: what is written, and in which order they are listed.

use prost::Message as _;
use sqlx::Row as _;

use super::{Object, Tx, load::rows, on};
use crate::domain::{
    consumer::{ConsumerKind, ConsumerSpec},
    etag,
};

fn object(kind: ConsumerKind) -> Object {
    match kind {
        ConsumerKind::Gateway => Object::Gateway,
        ConsumerKind::Agent => Object::Agent,
    }
}

/// Adds one.
pub(crate) async fn insert(
    tx: &mut Tx,
    kind: ConsumerKind,
    uid: &str,
    slug: &str,
    spec: &ConsumerSpec,
    creator: &str,
    now: i64,
) -> sqlx::Result<()> {
    const INSERT: &str = "INSERT INTO consumers (uid, kind, slug, document, creator, etag, create_time, update_time, revision) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
    let revision = tx.revision();
    let document = spec.message().encode_to_vec();
    on!(tx, c => sqlx::query(INSERT).bind(uid).bind(kind as i64).bind(slug).bind(document).bind(creator).bind(etag::of(uid, revision))
        .bind(now).bind(revision).execute(&mut *c).await.map(drop))?;
    tx.changed(object(kind), uid).await
}

/// Changes one.
pub(crate) async fn update(
    tx: &mut Tx,
    kind: ConsumerKind,
    uid: &str,
    spec: &ConsumerSpec,
    now: i64,
) -> sqlx::Result<()> {
    const UPDATE: &str = "UPDATE consumers SET document = $1, update_time = $2, etag = $3 WHERE uid = $4";
    let (document, etag) = (spec.message().encode_to_vec(), etag::of(uid, tx.revision()));
    on!(tx, c => sqlx::query(UPDATE).bind(document).bind(now).bind(etag).bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(object(kind), uid).await
}

/// Says anew which teams see it.
pub(crate) async fn set_teams(tx: &mut Tx, uid: &str, team_uids: &[String]) -> sqlx::Result<()> {
    on!(tx, c => sqlx::query("DELETE FROM consumer_teams WHERE consumer_uid = $1").bind(uid).execute(&mut *c).await.map(drop))?;
    for team in team_uids {
        const INSERT: &str = "INSERT INTO consumer_teams (consumer_uid, team_uid) VALUES ($1, $2)";
        on!(tx, c => sqlx::query(INSERT).bind(uid).bind(team).execute(&mut *c).await.map(drop))?;
    }
    Ok(())
}

/// Takes one away, with its assignments. A gateway token that is limited to it works there no more, nor anywhere else.
pub(crate) async fn delete(tx: &mut Tx, kind: ConsumerKind, uid: &str, now: i64) -> sqlx::Result<()> {
    const ASSIGNMENTS: &str = "DELETE FROM tool_assignments WHERE consumer_uid = $1 RETURNING uid";
    const TOKENS: &str = "DELETE FROM gateway_token_consumers WHERE consumer_uid = $1 RETURNING token_uid";
    for assignment in rows!(tx, ASSIGNMENTS, [uid], row => row.try_get::<String, _>("uid"))? {
        tx.changed(Object::ToolAssignment, &assignment).await?;
    }
    for token in rows!(tx, TOKENS, [uid], row => row.try_get::<String, _>("token_uid"))? {
        // A token that names nothing any more would work everywhere.
        const REVOKE: &str = "UPDATE gateway_tokens SET revoke_time = $1 WHERE uid = $2 AND revoke_time IS NULL \
            AND NOT EXISTS (SELECT 1 FROM gateway_token_consumers k WHERE k.token_uid = $2)";
        on!(tx, c => sqlx::query(REVOKE).bind(now).bind(&token).execute(&mut *c).await.map(drop))?;
        tx.changed(Object::GatewayToken, &token).await?;
    }
    set_teams(tx, uid, &[]).await?;
    on!(tx, c => sqlx::query("DELETE FROM consumers WHERE uid = $1").bind(uid).execute(&mut *c).await.map(drop))?;
    tx.changed(object(kind), uid).await
}

/// The uids of up to `limit` of one kind behind `after`, oldest first.
pub(crate) async fn uids_after(
    tx: &mut Tx,
    kind: ConsumerKind,
    after: (i64, &str),
    limit: i64,
) -> sqlx::Result<Vec<(i64, String)>> {
    const SELECT: &str = "SELECT create_time, uid FROM consumers WHERE kind = $1 AND (create_time, uid) > ($2, $3) \
                          ORDER BY create_time, uid LIMIT $4";
    rows!(tx, SELECT, [kind as i64, after.0, after.1, limit], row => {
        Ok((row.try_get("create_time")?, row.try_get("uid")?))
    })
}
