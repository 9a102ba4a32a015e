//! The lease of the orchestrator that runs the servers. It is not a watched object; orchestrators request it.

use contracts::registry::RuntimeLease;
use sqlx::Row as _;

use super::{Tx, execute, rows, tx::Engine};

/// The lease as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) lease: RuntimeLease,
    /// Microseconds until it ends, negative if it has ended; by the clock of [`now`].
    pub(crate) remaining: i64,
}

/// The database's time in microseconds since 1970, where replicas share it: the clocks of machines are not compared. An SQLite
/// database has one process, whose time this is.
async fn now(tx: &mut Tx, clock: i64) -> sqlx::Result<i64> {
    const CLOCK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
    match tx.engine() {
        Engine::Sqlite(_) => Ok(clock),
        Engine::Postgres(_) => {
            let found: Vec<i64> = rows!(tx, CLOCK, [], row => row.try_get(0))?;
            Ok(found.first().copied().unwrap_or(clock))
        }
    }
}

/// The lease; `None` if no orchestrator ever held it. `clock`: this process's time in microseconds since 1970.
pub(crate) async fn get(tx: &mut Tx, clock: i64) -> sqlx::Result<Option<Kept>> {
    const GET: &str = "SELECT holder, epoch, lease_end FROM runtime_lease WHERE id = 1";
    let now = now(tx, clock).await?;
    let found = rows!(tx, GET, [], row => {
        let lease = RuntimeLease {
            holder: row.try_get(0)?,
            epoch: row.try_get(1)?,
        };
        let lease_end: i64 = row.try_get(2)?;
        Ok::<_, sqlx::Error>(Kept { lease, remaining: lease_end.saturating_sub(now) })
    })?;
    Ok(found.into_iter().next())
}

/// Gives the lease for `micros` microseconds, zero to end it, if it is still the one of `before`: two that ask at a time do not both get it.
/// Whether it was given.
pub(crate) async fn put(
    tx: &mut Tx,
    before: Option<&RuntimeLease>,
    lease: &RuntimeLease,
    micros: i64,
    clock: i64,
) -> sqlx::Result<bool> {
    const FIRST: &str =
        "INSERT INTO runtime_lease (id, holder, epoch, lease_end) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING";
    const NEXT: &str =
        "UPDATE runtime_lease SET holder = $1, epoch = $2, lease_end = $3 WHERE id = 1 AND holder = $4 AND epoch = $5";
    let lease_end = now(tx, clock).await?.saturating_add(micros);
    let changed = match before {
        None => execute!(tx, FIRST, [&lease.holder, lease.epoch, lease_end])?,
        Some(before) => execute!(
            tx,
            NEXT,
            [&lease.holder, lease.epoch, lease_end, &before.holder, before.epoch]
        )?,
    };
    Ok(changed > 0)
}
