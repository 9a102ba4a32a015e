//! The database: SQLite or PostgreSQL, behind one set of SQL.

pub(crate) mod assignments;
pub(crate) mod changes;
pub(crate) mod cleanup;
mod connect;
pub(crate) mod consumers;
pub(crate) mod entries;
pub(crate) mod gateway_tokens;
pub(crate) mod installations;
pub(crate) mod load;
mod migrate;
mod notify;
pub(crate) mod object;
pub(crate) mod reported;
pub(crate) mod requests;
pub(crate) mod teams;
pub(crate) mod tools;
mod tx;
pub(crate) mod users;

use std::{fmt, sync::Arc};

use sqlx::{PgPool, SqlitePool};
use tokio::sync::watch;

pub(crate) use connect::{OpenError, open};
pub(crate) use notify::follow;
pub(crate) use object::Object;
pub(crate) use tx::{Commit, Engine, Tx};

/// Runs the same body on either engine's transaction: `on!(tx, c => sqlx::query(SQL).bind(x).execute(&mut *c).await)`.
///
/// `c` is the connection; lend it with `&mut *c`. The SQL is a constant that both engines understand.
macro_rules! on {
    ($tx:expr, $c:ident => $body:expr) => {
        match $tx.engine() {
            $crate::store::Engine::Sqlite(transaction) => {
                let $c = &mut **transaction;
                $body
            }
            $crate::store::Engine::Postgres(transaction) => {
                let $c = &mut **transaction;
                $body
            }
        }
    };
}
pub(crate) use on;

/// An open database; clones share it.
#[derive(Clone)]
pub(crate) struct Db(Arc<Inner>);

struct Inner {
    pools: Pools,
    epoch: String,
    latest: watch::Sender<i64>,
}

pub(crate) enum Pools {
    /// One connection writes; the others read beside it (WAL).
    Sqlite { write: SqlitePool, read: SqlitePool },
    /// Everything.
    Postgres(PgPool),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// A consistent view of one moment, for reading only.
    pub(crate) async fn read(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            Pools::Sqlite { read, .. } => tx::Engine::Sqlite(read.begin().await?),
            Pools::Postgres(pool) => tx::Engine::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?,
            ),
        };
        Ok(Tx::new(self.clone(), engine, None))
    }

    /// A transaction whose changes watchers see. It takes the next revision first, so that such transactions run one after
    /// another: what it has read stays true until it commits.
    pub(crate) async fn write(&self) -> sqlx::Result<Tx> {
        let mut tx = self.write_quietly().await?;
        tx.take_revision().await?;
        Ok(tx)
    }

    /// A transaction that changes only what nobody watches. It holds up no other on PostgreSQL.
    pub(crate) async fn write_quietly(&self) -> sqlx::Result<Tx> {
        let engine = match &self.0.pools {
            // A deferred transaction that reads and then writes fails at once while another one writes.
            Pools::Sqlite { write, .. } => tx::Engine::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => tx::Engine::Postgres(pool.begin().await?),
        };
        Ok(Tx::new(self.clone(), engine, None))
    }

    /// Tells revisions of this database from those of another.
    pub(crate) fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// The latest revision known here; follows commits of all replicas.
    pub(crate) fn latest(&self) -> watch::Receiver<i64> {
        self.0.latest.subscribe()
    }

    /// Whether other processes may share this database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0.pools, Pools::Postgres(_))
    }

    fn advance(&self, revision: i64) {
        self.0.latest.send_if_modified(|latest| {
            let newer = revision > *latest;
            *latest = revision.max(*latest);
            newer
        });
    }
}
