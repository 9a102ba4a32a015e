//! The database: SQLite or PostgreSQL, behind one set of SQL.
//!
//! What is watched is a row with its document, the encoded message that watchers get, and the columns it is found by
//! (`document.rs`); what only the registry reads (users, members of teams, first answers) is rows of columns.

pub(crate) mod assignments;
mod begin;
pub(crate) mod changes;
mod checkpoint;
mod claim;
pub(crate) mod cleanup;
mod compaction;
mod connect;
pub(crate) mod consumers;
mod db;
pub(crate) mod document;
pub(crate) mod entries;
pub(crate) mod entry_list;
mod error;
pub(crate) mod features;
mod flush;
pub(crate) mod gateway_replicas;
pub(crate) mod gateway_tokens;
mod identity;
pub(crate) mod installations;
pub(crate) mod list;
pub(crate) mod log;
mod migrate;
mod notify;
pub(crate) mod object;
#[cfg(test)]
mod plans;
mod recent;
pub(crate) mod requests;
pub(crate) mod revisions;
pub(crate) mod runtime_lease;
pub(crate) mod runtimes;
pub(crate) mod search;
pub(crate) mod snapshot;
pub(crate) mod teams;
#[cfg(test)]
pub(crate) mod testing;
mod tx;
pub(crate) mod users;
pub(crate) mod watchers;

pub use claim::Claim;
pub(crate) use compaction::Compaction;
pub use connect::OpenError;
pub(crate) use connect::{SNAPSHOTS, open};
pub(crate) use db::Db;
pub use document::SCHEMA_VERSION;
pub(crate) use error::{Error, Result, timed_out};
pub(crate) use identity::{Head, head};
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

/// Runs a single statement outside of transactions, in its own view: `on_reader!(db, pool => sqlx::query(SQL).fetch_all(pool).await)`.
macro_rules! on_reader {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db.pools() {
            $crate::store::db::Pools::Sqlite { read: $pool, .. } => $body,
            $crate::store::db::Pools::Postgres { read: $pool, .. } => $body,
        }
    };
}
pub(crate) use on_reader;

/// Reads rows on either engine: `rows!(tx, SQL, [bind, …], row => Ok(row.try_get("column")?))`.
macro_rules! rows {
    ($tx:expr, $sql:expr, [$($bind:expr),* $(,)?], $row:ident => $body:expr) => {
        $crate::store::on!($tx, c => sqlx::query($sql)$(.bind($bind))*.fetch_all(&mut *c).await?
            .iter().map(|$row| $body).collect::<sqlx::Result<Vec<_>>>())
    };
}
pub(crate) use rows;

/// Reads the rows of a query as long as they have room, and one more: `fitting!(tx, room, query, row => value, value => bytes)`.
macro_rules! fitting {
    ($tx:expr, $room:expr, $query:expr, $row:ident => $body:expr, $value:ident => $bytes:expr) => {{
        use futures::TryStreamExt as _;
        $crate::store::on!($tx, c => {
            let mut rows = $query.fetch(&mut *c);
            let mut room = $room;
            let mut values = Vec::new();
            while let Some(row) = rows.try_next().await? {
                let $row = &row;
                let value: sqlx::Result<_> = async { $body }.await;
                let value = value?;
                let $value = &value;
                let fits = room.take($bytes);
                values.push(value);
                if !fits {
                    break;
                }
            }
            Ok(values)
        })
    }};
}
pub(crate) use fitting;

/// Writes `(value, …)` of a list of values, each bound.
macro_rules! push_list {
    ($query:expr, $values:expr) => {{
        let mut list = $query.push("(").separated(", ");
        for value in $values {
            list.push_bind(value);
        }
        list.push_unseparated(")");
    }};
}
pub(crate) use push_list;

/// Runs a statement that answers with no rows: `execute!(tx, SQL, [bind, …])`; how many rows it changed.
macro_rules! execute {
    ($tx:expr, $sql:expr, [$($bind:expr),* $(,)?]) => {
        $crate::store::on!($tx, c => sqlx::query($sql)$(.bind($bind))*.execute(&mut *c).await
            .map(|done| done.rows_affected()))
    };
}
pub(crate) use execute;
