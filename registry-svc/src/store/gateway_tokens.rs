//! Gateway tokens, by the hash of their text.

use sqlx::Row as _;

use super::{Object, Tx, load::rows, on};

/// A token to be kept.
#[derive(Debug)]
pub(crate) struct NewToken<'a> {
    pub(crate) uid: &'a str,
    pub(crate) hash: &'a [u8],
    pub(crate) display_name: &'a str,
    pub(crate) user_uid: Option<&'a str>,
    pub(crate) team_uid: Option<&'a str>,
    pub(crate) consumer_uids: &'a [String],
    pub(crate) creator: &'a str,
    pub(crate) create_time: i64,
    pub(crate) expire_time: Option<i64>,
}

/// Keeps a token.
pub(crate) async fn insert(tx: &mut Tx, new: &NewToken<'_>) -> sqlx::Result<()> {
    const ADD: &str = "INSERT INTO gateway_tokens \
        (uid, token_hash, display_name, user_uid, team_uid, limited, creator, create_time, expire_time, revision) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    const LIMIT: &str = "INSERT INTO gateway_token_consumers (token_uid, consumer_uid) VALUES ($1, $2) \
        ON CONFLICT (token_uid, consumer_uid) DO NOTHING";
    let revision = tx.revision();
    on!(tx, c => sqlx::query(ADD).bind(new.uid).bind(new.hash).bind(new.display_name).bind(new.user_uid).bind(new.team_uid)
        .bind(!new.consumer_uids.is_empty()).bind(new.creator).bind(new.create_time).bind(new.expire_time).bind(revision)
        .execute(&mut *c).await.map(drop))?;
    for consumer in new.consumer_uids {
        on!(tx, c => sqlx::query(LIMIT).bind(new.uid).bind(consumer).execute(&mut *c).await.map(drop))?;
    }
    tx.changed(Object::GatewayToken, new.uid).await
}

/// Ends a token, unless it has ended.
pub(crate) async fn revoke(tx: &mut Tx, uid: &str, now: i64) -> sqlx::Result<()> {
    const REVOKE: &str = "UPDATE gateway_tokens SET revoke_time = $1 WHERE uid = $2 AND revoke_time IS NULL";
    let revoked = on!(tx, c => sqlx::query(REVOKE).bind(now).bind(uid).execute(&mut *c).await
        .map(|done| done.rows_affected()))?;
    if revoked > 0 {
        tx.changed(Object::GatewayToken, uid).await?;
    }
    Ok(())
}

/// Where a token stands in lists, and whose it is.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) create_time: i64,
    pub(crate) uid: String,
    pub(crate) user_uid: Option<String>,
    pub(crate) team_uid: Option<String>,
}

/// Up to `limit` tokens behind `after`, oldest first.
pub(crate) async fn after(tx: &mut Tx, after: (i64, &str), limit: i64) -> sqlx::Result<Vec<Listed>> {
    const SELECT: &str = "SELECT create_time, uid, user_uid, team_uid FROM gateway_tokens \
        WHERE (create_time, uid) > ($1, $2) ORDER BY create_time, uid LIMIT $3";
    rows!(tx, SELECT, [after.0, after.1, limit], row => Ok(Listed {
        create_time: row.try_get(0)?,
        uid: row.try_get(1)?,
        user_uid: row.try_get(2)?,
        team_uid: row.try_get(3)?,
    }))
}

/// Whose a token is.
pub(crate) async fn find(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Listed>> {
    const SELECT: &str = "SELECT create_time, uid, user_uid, team_uid FROM gateway_tokens WHERE uid = $1";
    let found = rows!(tx, SELECT, [uid], row => Ok(Listed {
        create_time: row.try_get(0)?,
        uid: row.try_get(1)?,
        user_uid: row.try_get(2)?,
        team_uid: row.try_get(3)?,
    }))?;
    Ok(found.into_iter().next())
}
