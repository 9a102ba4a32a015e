//! What workloads report of an installation.

use contracts::registry::{Condition, ConditionType, InstallationState};

use super::{Object, Tx, load, on};

/// What a report is checked against.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) entry_uid: String,
    pub(crate) user_uid: Option<String>,
    pub(crate) running_entry_revision: i64,
    pub(crate) generation: i64,
    pub(crate) credential_generation: i64,
    pub(crate) runtime_endpoint: String,
}

/// Reads it; `None` if there is no such installation (any more).
pub(crate) async fn of(tx: &mut Tx, uid: &str) -> sqlx::Result<Option<Reported>> {
    const READ: &str = "SELECT entry_uid, user_uid, running_entry_revision, generation, credential_generation, runtime_endpoint \
        FROM installations WHERE uid = $1";
    let found: Option<(String, Option<String>, i64, i64, i64, String)> =
        on!(tx, c => sqlx::query_as(READ).bind(uid).fetch_optional(&mut *c).await)?;
    Ok(found.map(
        |(entry_uid, user_uid, running_entry_revision, generation, credential_generation, runtime_endpoint)| Reported {
            entry_uid,
            user_uid,
            running_entry_revision,
            generation,
            credential_generation,
            runtime_endpoint,
        },
    ))
}

/// The generation that a condition was last reported for, with its status, reason and message.
pub(crate) async fn condition(
    tx: &mut Tx,
    uid: &str,
    aspect: ConditionType,
) -> sqlx::Result<Option<(i64, i64, String, String)>> {
    const READ: &str = "SELECT observed_generation, status, reason, message FROM conditions \
        WHERE installation_uid = $1 AND condition_type = $2";
    on!(tx, c => sqlx::query_as(READ).bind(uid).bind(aspect as i64).fetch_optional(&mut *c).await)
}

/// Writes a condition; its time moves only when its status does.
pub(crate) async fn put_condition(tx: &mut Tx, uid: &str, condition: &Condition, now: i64) -> sqlx::Result<()> {
    const PUT: &str = "INSERT INTO conditions \
        (installation_uid, condition_type, status, reason, message, observed_generation, transition_time) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (installation_uid, condition_type) DO UPDATE SET \
        transition_time = CASE WHEN conditions.status = excluded.status THEN conditions.transition_time \
            ELSE excluded.transition_time END, \
        status = excluded.status, reason = excluded.reason, message = excluded.message, \
        observed_generation = excluded.observed_generation";
    on!(tx, c => sqlx::query(PUT).bind(uid).bind(i64::from(condition.r#type)).bind(i64::from(condition.status))
        .bind(&condition.reason).bind(&condition.message).bind(condition.observed_generation).bind(now)
        .execute(&mut *c).await.map(drop))
}

/// Notes a newer effective credential: it is a change of what should be.
pub(crate) async fn put_credential_generation(tx: &mut Tx, uid: &str, credential_generation: i64) -> sqlx::Result<()> {
    const PUT: &str = "UPDATE installations SET credential_generation = $1, generation = generation + 1 WHERE uid = $2";
    on!(tx, c => sqlx::query(PUT).bind(credential_generation).bind(uid).execute(&mut *c).await.map(drop))
}

/// Notes where the server listens.
pub(crate) async fn put_endpoint(tx: &mut Tx, uid: &str, endpoint: &str) -> sqlx::Result<()> {
    const PUT: &str = "UPDATE installations SET runtime_endpoint = $1 WHERE uid = $2";
    on!(tx, c => sqlx::query(PUT).bind(endpoint).bind(uid).execute(&mut *c).await.map(drop))
}

/// Ends a report that changed something: the first time an installation is ready is kept, and it expires no more.
pub(crate) async fn finish(tx: &mut Tx, uid: &str, now: i64) -> sqlx::Result<()> {
    const FIRST_READY: &str = "UPDATE installations SET first_ready_time = $1, expire_time = NULL WHERE uid = $2";
    let installation = load::installation(tx, uid)
        .await?
        .and_then(|watched| watched.installation);
    if installation.is_some_and(|installation| {
        installation.first_ready_time.is_none() && installation.state() == InstallationState::Ready
    }) {
        on!(tx, c => sqlx::query(FIRST_READY).bind(now).bind(uid).execute(&mut *c).await.map(drop))?;
    }
    tx.changed(Object::Installation, uid).await
}
