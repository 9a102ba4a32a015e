//! Begins transactions, each on the connections that are for its kind.

use std::time::Duration;

use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;

use super::{
    Tx,
    db::{Db, Pools},
    flush,
    tx::Engine,
};
use crate::domain::Actor;

/// How long a transaction waits for its turn before its call fails and may be retried.
const TURN: Duration = Duration::from_secs(5);

impl Db {
    /// A consistent view of one moment, for reading only.
    pub(crate) async fn read(&self) -> sqlx::Result<Tx> {
        let engine = match self.pools() {
            Pools::Sqlite { read, .. } => sqlite_view(read).await?,
            Pools::Postgres { read, .. } => postgres_view(read).await?,
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// As [`Db::read`], for what lasts: it takes no connection from those who read shortly, and no statement of it is ended for the
    /// time it takes.
    pub(crate) async fn snapshot(&self) -> sqlx::Result<Tx> {
        let engine = match self.pools() {
            Pools::Sqlite { snapshot, .. } => sqlite_view(snapshot).await?,
            Pools::Postgres { snapshot, .. } => postgres_view(snapshot).await?,
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// A transaction whose changes watchers see, made by `actor`. It takes the next revision first, so that such transactions run one
    /// after another: what it has read stays true until it commits. `now` (microseconds since 1970) is asked when it has its turn: what
    /// is created later comes behind in lists.
    pub(crate) async fn write(&self, actor: Actor, now: impl FnOnce() -> i64) -> sqlx::Result<Tx> {
        let mut tx = match self.pools() {
            Pools::Postgres { write, .. } if !self.is_accompanied() => {
                Tx::ahead(self.clone(), write.begin_with(flush::BEGIN).await?)
            }
            _ => self.write_quietly().await?,
        };
        // They run one after another anyway. Those that wait here, in the order in which they came, cost the database nothing.
        let turn = timeout(TURN, self.turn().acquire_owned()).await;
        let turn = turn
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        tx.take_revision(actor, now, turn).await?;
        Ok(tx)
    }

    /// A transaction that changes only what is not watched. On PostgreSQL, it delays no other.
    pub(crate) async fn write_quietly(&self) -> sqlx::Result<Tx> {
        let engine = match self.pools() {
            // A deferred transaction that reads and then writes fails at once while another one writes.
            Pools::Sqlite { write, .. } => Engine::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres { write, .. } => Engine::Postgres(write.begin().await?),
        };
        Ok(Tx::new(self.clone(), engine))
    }

    /// A short transaction that changes only what no other waits for. It has a connection even where all others wait for each other.
    pub(crate) async fn write_aside(&self) -> sqlx::Result<Tx> {
        let engine = match self.pools() {
            Pools::Sqlite { .. } => return self.write_quietly().await,
            Pools::Postgres { signal, .. } => Engine::Postgres(signal.begin().await?),
        };
        Ok(Tx::new(self.clone(), engine))
    }
}

async fn sqlite_view(pool: &SqlitePool) -> sqlx::Result<Engine> {
    pool.begin().await.map(Engine::Sqlite)
}

async fn postgres_view(pool: &PgPool) -> sqlx::Result<Engine> {
    const VIEW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    pool.begin_with(VIEW).await.map(Engine::Postgres)
}
