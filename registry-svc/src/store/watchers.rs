//! The watchers that replicas know of each other. An SQLite database has one process, which knows its own.
//!
//! A row counts until its lease ends, by the database's clock: the clocks of machines are not compared. The replica that a watcher is
//! connected to prolongs it; one that paused brings its watchers back.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::{
    db::{Db, Pools},
    notify::WATCHERS,
};

/// The database's time in microseconds since 1970.
const CLOCK: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
/// What a replica itself is kept as: it watches nothing, but others know that it is there.
const REPLICA: &str = "registry-svc";

/// A watcher that is connected here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) workload: &'static str,
    pub(crate) instance: String,
    /// Bit n stands for `ObjectKind` n.
    pub(crate) kinds: i64,
    pub(crate) acked: i64,
}

/// A watcher that another replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) workload: String,
    pub(crate) instance: String,
    pub(crate) kinds: i64,
    pub(crate) acked: i64,
    /// How long it counts unless it is prolonged.
    pub(crate) lease: Duration,
}

/// What other replicas have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Whether there are other replicas.
    pub(crate) replicas: bool,
    pub(crate) watchers: Vec<There>,
}

fn pool(db: &Db) -> Option<&PgPool> {
    match db.pools() {
        Pools::Postgres { signal, .. } => Some(signal),
        Pools::Sqlite { .. } => None,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A watcher has connected here. It takes the place of one with its name, also on another replica, and all replicas are notified.
pub(crate) async fn enter(db: &Db, watcher: &Here, lease: Duration) -> sqlx::Result<()> {
    let Some(pool) = pool(db) else { return Ok(()) };
    let enter = format!(
        "WITH entered AS (INSERT INTO watchers (workload, instance, replica, kinds, acked, database_epoch, lease_end) \
         VALUES ($1, $2, $3, $4, $5, $6, {CLOCK} + $7) ON CONFLICT (workload, instance) DO UPDATE SET \
         replica = EXCLUDED.replica, kinds = EXCLUDED.kinds, acked = EXCLUDED.acked, \
         database_epoch = EXCLUDED.database_epoch, lease_end = EXCLUDED.lease_end \
         RETURNING 1) SELECT pg_notify($8, $3) FROM entered"
    );
    sqlx::query(AssertSqlSafe(enter))
        .bind(watcher.workload)
        .bind(&watcher.instance)
        .bind(db.replica())
        .bind(watcher.kinds)
        .bind(watcher.acked)
        .bind(&*db.epoch())
        .bind(micros(lease))
        .bind(WATCHERS)
        .execute(pool)
        .await
        .map(drop)
}

/// This replica begins. Others are notified at once: until they know it, they do not notify it of what they commit.
pub(crate) async fn begin(db: &Db, lease: Duration) -> sqlx::Result<()> {
    enter(db, &this_replica(db), lease).await
}

fn this_replica(db: &Db) -> Here {
    Here {
        workload: REPLICA,
        instance: db.replica().to_owned(),
        kinds: 0,
        acked: 0,
    }
}

/// Prolongs this replica and all watchers that are connected here, or brings them back. They have acknowledged revisions of the database
/// of this `epoch`. One whose name has meanwhile come to another replica is left to that one.
pub(crate) async fn beat(db: &Db, epoch: &str, watchers: &[Here], lease: Duration) -> sqlx::Result<()> {
    let Some(pool) = pool(db) else { return Ok(()) };
    let beat = format!(
        "INSERT INTO watchers (workload, instance, replica, kinds, acked, database_epoch, lease_end) \
         SELECT workload, instance, $1, kinds, acked, $7, {CLOCK} + $2 \
         FROM UNNEST($3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[]) AS here (workload, instance, kinds, acked) \
         ON CONFLICT (workload, instance) DO UPDATE SET replica = EXCLUDED.replica, kinds = EXCLUDED.kinds, \
         acked = CASE WHEN watchers.replica = EXCLUDED.replica AND watchers.database_epoch = EXCLUDED.database_epoch \
         THEN GREATEST(watchers.acked, EXCLUDED.acked) ELSE EXCLUDED.acked END, \
         database_epoch = EXCLUDED.database_epoch, lease_end = EXCLUDED.lease_end \
         WHERE watchers.replica = EXCLUDED.replica OR watchers.lease_end < {CLOCK}"
    );
    let replica = this_replica(db);
    let columns = Columns::of(watchers.iter().chain([&replica]));
    sqlx::query(AssertSqlSafe(beat))
        .bind(db.replica())
        .bind(micros(lease))
        .bind(columns.workloads)
        .bind(columns.instances)
        .bind(columns.kinds)
        .bind(columns.acked)
        .bind(epoch)
        .execute(pool)
        .await
        .map(drop)
}

/// Writes what watchers have acknowledged of the database of this `epoch`, all of them at once, and notifies other replicas.
pub(crate) async fn acked(db: &Db, epoch: &str, watchers: &[Here]) -> sqlx::Result<()> {
    const ACKED: &str = "WITH written AS (UPDATE watchers SET acked = here.acked, database_epoch = $6 \
        FROM UNNEST($2::TEXT[], $3::TEXT[], $4::BIGINT[]) AS here (workload, instance, acked) \
        WHERE watchers.workload = here.workload AND watchers.instance = here.instance AND watchers.replica = $1 \
        RETURNING 1) SELECT pg_notify($5, $1) FROM written LIMIT 1";
    let Some(pool) = pool(db) else { return Ok(()) };
    let columns = Columns::of(watchers);
    sqlx::query(ACKED)
        .bind(db.replica())
        .bind(columns.workloads)
        .bind(columns.instances)
        .bind(columns.acked)
        .bind(WATCHERS)
        .bind(epoch)
        .execute(pool)
        .await
        .map(drop)
}

/// A watcher has said goodbye to this replica.
pub(crate) async fn leave(db: &Db, workload: &str, instance: &str) -> sqlx::Result<()> {
    const LEAVE: &str = "WITH gone AS (DELETE FROM watchers WHERE workload = $1 AND instance = $2 AND replica = $3 \
        RETURNING 1) SELECT pg_notify($4, $3) FROM gone";
    let Some(pool) = pool(db) else { return Ok(()) };
    sqlx::query(LEAVE)
        .bind(workload)
        .bind(instance)
        .bind(db.replica())
        .bind(WATCHERS)
        .execute(pool)
        .await
        .map(drop)
}

/// This replica stops. Its watchers count until their leases end or they are connected to another.
pub(crate) async fn stop(db: &Db) -> sqlx::Result<()> {
    leave(db, REPLICA, db.replica()).await
}

/// The watchers that other replicas know, and whose leases have not ended.
pub(crate) async fn elsewhere(db: &Db) -> sqlx::Result<Elsewhere> {
    let Some(pool) = pool(db) else {
        return Ok(Elsewhere::default());
    };
    let others = format!(
        "SELECT workload, instance, kinds, lease_end - now AS lease, \
         CASE WHEN w.database_epoch = h.database_epoch THEN acked ELSE 0 END AS acked \
         FROM watchers w, head h, (SELECT {CLOCK} AS now) AS clock WHERE h.id = 1 AND replica <> $1 AND lease_end > now"
    );
    let rows = sqlx::query(AssertSqlSafe(others))
        .bind(db.replica())
        .fetch_all(pool)
        .await?;
    let mut elsewhere = Elsewhere::default();
    for row in rows {
        let workload: String = row.try_get("workload")?;
        elsewhere.replicas = true;
        if workload == REPLICA {
            continue;
        }
        let lease: i64 = row.try_get("lease")?;
        elsewhere.watchers.push(There {
            workload,
            instance: row.try_get("instance")?,
            kinds: row.try_get("kinds")?,
            acked: row.try_get("acked")?,
            lease: Duration::from_micros(u64::try_from(lease).unwrap_or(0)),
        });
    }
    Ok(elsewhere)
}

/// Forgets the watchers whose leases have ended.
pub(crate) async fn bury(db: &Db) -> sqlx::Result<()> {
    let Some(pool) = pool(db) else { return Ok(()) };
    let bury = format!("DELETE FROM watchers WHERE lease_end < {CLOCK}");
    sqlx::query(AssertSqlSafe(bury)).execute(pool).await.map(drop)
}

/// Watchers in columns, as PostgreSQL takes many rows in one statement. In the order of their names: statements that lock the same
/// rows lock them in the same order.
struct Columns<'a> {
    workloads: Vec<&'a str>,
    instances: Vec<&'a str>,
    kinds: Vec<i64>,
    acked: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(watchers: impl IntoIterator<Item = &'a Here>) -> Self {
        let ordered: BTreeMap<_, _> = watchers
            .into_iter()
            .map(|watcher| ((watcher.workload, watcher.instance.as_str()), watcher))
            .collect();
        Self {
            workloads: ordered.values().map(|watcher| watcher.workload).collect(),
            instances: ordered.values().map(|watcher| watcher.instance.as_str()).collect(),
            kinds: ordered.values().map(|watcher| watcher.kinds).collect(),
            acked: ordered.values().map(|watcher| watcher.acked).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::postgres;

    const LEASE: Duration = Duration::from_secs(30);

    fn here(instance: &str, acked: i64) -> Here {
        Here {
            workload: "gateway-svc",
            instance: instance.to_owned(),
            kinds: 2,
            acked,
        }
    }

    async fn seen(db: &Db) -> Vec<(String, i64)> {
        let mut watchers = elsewhere(db).await.unwrap().watchers;
        watchers.sort_by(|a, b| a.instance.cmp(&b.instance));
        assert!(
            watchers
                .iter()
                .all(|there| there.lease <= LEASE && there.lease > LEASE / 2)
        );
        watchers
            .into_iter()
            .map(|there| (there.instance, there.acked))
            .collect()
    }

    fn named(names: &[(&str, i64)]) -> Vec<(String, i64)> {
        names.iter().map(|&(name, acked)| (name.to_owned(), acked)).collect()
    }

    #[tokio::test]
    async fn replicas_know_of_each_others_watchers() {
        let Some(opened) = postgres().await else { return };
        let (one, other) = (&opened.db, &opened.again().await);
        assert!(!elsewhere(other).await.unwrap().replicas);
        beat(one, &one.epoch(), &[], LEASE).await.unwrap();
        let found = elsewhere(other).await.unwrap();
        assert!(found.replicas && found.watchers.is_empty());
        enter(one, &here("a", 0), LEASE).await.unwrap();
        enter(one, &here("b", 0), LEASE).await.unwrap();
        acked(one, &one.epoch(), &[here("b", 7), here("a", 5), here("unknown", 9)])
            .await
            .unwrap();
        assert_eq!(seen(other).await, named(&[("a", 5), ("b", 7)]));
        assert!(seen(one).await.is_empty());
        // A heartbeat that was made before an ack does not undo it.
        beat(one, &one.epoch(), &[here("a", 4), here("b", 8)], LEASE)
            .await
            .unwrap();
        assert_eq!(seen(other).await, named(&[("a", 5), ("b", 8)]));
        // The name comes to another replica, and stays there whatever the first one says.
        enter(other, &here("a", 0), LEASE).await.unwrap();
        beat(one, &one.epoch(), &[here("a", 9), here("b", 9)], LEASE)
            .await
            .unwrap();
        acked(one, &one.epoch(), &[here("a", 9)]).await.unwrap();
        leave(one, "gateway-svc", "a").await.unwrap();
        assert_eq!(
            (seen(one).await, seen(other).await),
            (named(&[("a", 0)]), named(&[("b", 9)]))
        );
        leave(one, "gateway-svc", "b").await.unwrap();
        assert!(seen(other).await.is_empty());
        stop(one).await.unwrap();
        assert!(!elsewhere(other).await.unwrap().replicas);
    }

    #[tokio::test]
    async fn what_was_acknowledged_of_another_database_is_not_in_force() {
        let Some(opened) = postgres().await else { return };
        let (one, other) = (&opened.db, &opened.again().await);
        enter(one, &here("a", 900), LEASE).await.unwrap();
        assert_eq!(seen(other).await, named(&[("a", 900)]));
        let Pools::Postgres { write, .. } = other.pools() else {
            unreachable!("it is PostgreSQL")
        };
        sqlx::query("UPDATE head SET database_epoch = 'restored'")
            .execute(write)
            .await
            .unwrap();
        // The replica that it is connected to does not know yet.
        acked(one, &one.epoch(), &[here("a", 901)]).await.unwrap();
        beat(one, &one.epoch(), &[here("a", 901)], LEASE).await.unwrap();
        assert_eq!(seen(other).await, named(&[("a", 0)]));
        one.look().await.unwrap();
        beat(one, &one.epoch(), &[here("a", 3)], LEASE).await.unwrap();
        assert_eq!(
            seen(other).await,
            named(&[("a", 3)]),
            "and no more than it says of this one"
        );
    }

    #[tokio::test]
    async fn a_lease_ends_by_the_clock_of_the_database_and_a_beat_brings_it_back() {
        let Some(opened) = postgres().await else { return };
        let (one, other) = (&opened.db, &opened.again().await);
        enter(one, &here("a", 0), Duration::ZERO).await.unwrap();
        assert!(seen(other).await.is_empty());
        beat(one, &one.epoch(), &[here("a", 3)], LEASE).await.unwrap();
        assert_eq!(seen(other).await, named(&[("a", 3)]));
        enter(one, &here("a", 0), Duration::ZERO).await.unwrap();
        bury(other).await.unwrap();
        beat(one, &one.epoch(), &[here("a", 4)], LEASE).await.unwrap();
        assert_eq!(seen(other).await, named(&[("a", 4)]));
        // One whose lease has ended at another replica is taken over.
        enter(other, &here("a", 9), Duration::ZERO).await.unwrap();
        beat(one, &one.epoch(), &[here("a", 5)], LEASE).await.unwrap();
        assert_eq!(seen(other).await, named(&[("a", 5)]));
    }
}
