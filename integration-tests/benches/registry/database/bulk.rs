//! Inserts hundreds of thousands of rows, as fast as each engine can.

use std::fmt::Write as _;

use integration_tests::Result;
use registry_svc::Database;
use secrecy::ExposeSecret as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

/// SQLite accepts at most 32,766 values per statement.
const VALUES: usize = 32_000;
/// More rows per statement are no faster.
const ROWS: usize = 400;
/// The number of bytes that PostgreSQL is sent at once.
const COPIED: usize = 1 << 20;

/// A value in a row.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Makes a row of values, in the order of its columns.
macro_rules! row {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::database::bulk::Value::from($value)),*]
    };
}
pub(crate) use row;

/// A connection that inserts many rows in one transaction.
pub(crate) enum Bulk {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Bulk {
    /// Begins a transaction on a database that has its schema.
    pub(crate) async fn begin(database: &Database) -> Result<Self> {
        let mut bulk = match database {
            Database::Sqlite(path) => {
                // The data can be regenerated after a crash, so it needs no protection.
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .foreign_keys(false)
                    .synchronous(SqliteSynchronous::Off)
                    .pragma("cache_size", "-200000");
                Self::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
            Database::Postgres(url) => Self::Postgres(PgConnection::connect(url.expose_secret()).await?),
        };
        bulk.run("BEGIN").await?;
        Ok(bulk)
    }

    /// Inserts rows into a table, and returns how many.
    pub(crate) async fn add(
        &mut self,
        table: &str,
        columns: &str,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> Result<usize> {
        let mut rows = rows.into_iter().peekable();
        let mut added = 0;
        match self {
            Self::Sqlite(connection) => {
                let width = columns.split(',').count();
                while rows.peek().is_some() {
                    let some: Vec<_> = rows.by_ref().take((VALUES / width).min(ROWS)).collect();
                    added += some.len();
                    let tuple = format!("({})", vec!["?"; width].join(","));
                    let tuples = vec![tuple; some.len()].join(",");
                    let sql = format!("INSERT INTO {table} ({columns}) VALUES {tuples}");
                    let mut insert = sqlx::query(AssertSqlSafe(sql));
                    for value in some.into_iter().flatten() {
                        insert = match value {
                            Value::Null => insert.bind(None::<i64>),
                            Value::Bool(value) => insert.bind(value),
                            Value::Int(value) => insert.bind(value),
                            Value::Text(value) => insert.bind(value),
                            Value::Bytes(value) => insert.bind(value),
                        };
                    }
                    insert.execute(&mut *connection).await?;
                }
            }
            Self::Postgres(connection) => {
                let mut copy = connection
                    .copy_in_raw(&format!("COPY {table} ({columns}) FROM STDIN"))
                    .await?;
                let mut text = String::with_capacity(COPIED + (COPIED >> 3));
                for row in rows {
                    added += 1;
                    write_copied(&mut text, &row);
                    if text.len() >= COPIED {
                        copy.send(text.as_bytes()).await?;
                        text.clear();
                    }
                }
                copy.send(text.as_bytes()).await?;
                copy.finish().await?;
            }
        }
        Ok(added)
    }

    /// Runs a statement.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => connection.execute(sql).await.map(drop)?,
            Self::Postgres(connection) => connection.execute(sql).await.map(drop)?,
        }
        Ok(())
    }

    /// Commits, and updates the engine's statistics, which otherwise happens over time.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.run("COMMIT").await?;
        match self {
            Self::Sqlite(_) => {
                self.run("ANALYZE").await?;
                self.run("PRAGMA wal_checkpoint(TRUNCATE)").await?;
            }
            Self::Postgres(_) => {
                self.run("VACUUM (ANALYZE)").await?;
                self.run("CHECKPOINT").await?;
            }
        }
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}

/// Writes a line in PostgreSQL's text format of `COPY`.
fn write_copied(line: &mut String, row: &[Value]) {
    for (index, value) in row.iter().enumerate() {
        if index > 0 {
            line.push('\t');
        }
        match value {
            Value::Null => line.push_str("\\N"),
            Value::Bool(value) => line.push(if *value { 't' } else { 'f' }),
            Value::Int(value) => {
                let _ = write!(line, "{value}");
            }
            Value::Text(text) => {
                for letter in text.chars() {
                    match letter {
                        '\\' => line.push_str("\\\\"),
                        '\t' => line.push_str("\\t"),
                        '\n' => line.push_str("\\n"),
                        '\r' => line.push_str("\\r"),
                        letter => line.push(letter),
                    }
                }
            }
            Value::Bytes(bytes) => {
                line.push_str("\\\\x");
                line.push_str(&hex::encode(bytes));
            }
        }
    }
    line.push('\n');
}
