//! A database that one process uses alone.
//!
//! The claim is an advisory lock of PostgreSQL, held by a session for nothing else: PostgreSQL releases it when the process ends, however it
//! ends. Replicas of the registry that share a database make no claim.

use std::{future::pending, time::Duration};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

use super::connect::{OpenError, postgres_options};
use crate::config::Database;

/// The advisory lock, which PostgreSQL keeps apart for each database: "chandler" in ASCII.
const KEY: i64 = 0x6368_616e_646c_6572;
/// How often the session is tried.
const EVERY: Duration = Duration::from_secs(1);
/// After this time without an answer, a connection is broken, whatever TCP says.
const SILENT: Duration = Duration::from_secs(5);
/// How long the end of the session that holds the lock is awaited: that of a process that was killed a moment ago ends soon.
const PATIENCE: &str = "5s";
/// PostgreSQL ends the session of a machine that is gone after 20 seconds, and not after hours.
const SESSION: [(&str, &str); 4] = [
    ("statement_timeout", "0"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "2"),
];

/// A database that this process uses alone.
#[derive(Debug)]
pub struct Claim(Option<Session>);

#[derive(Debug)]
struct Session {
    /// With an application name that no other process has.
    options: PgConnectOptions,
    connection: PgConnection,
}

impl Claim {
    /// Claims the database. A file of SQLite is claimed by whoever owns its folder.
    ///
    /// # Errors
    /// [`OpenError::InUse`] where another process has claimed it.
    pub async fn make(database: &Database) -> Result<Self, OpenError> {
        match database {
            Database::Sqlite(_) => Ok(Self(None)),
            Database::Postgres(url) => Self::of(postgres_options(url)?, PATIENCE).await,
        }
    }

    async fn of(options: PgConnectOptions, patience: &str) -> Result<Self, OpenError> {
        let name = format!("chandlery claim {}", service_kit::random::uuid().simple());
        let options = options
            .application_name(&name)
            .options(SESSION)
            .options([("lock_timeout", patience)])
            // To wait for the lock is no slow statement.
            .disable_statement_logging();
        let connection = take(&options).await?;
        Ok(Self(Some(Session { options, connection })))
    }

    /// Keeps the claim, and returns why it is lost: another process has made it while PostgreSQL was unreachable.
    pub async fn keep(&mut self) -> OpenError {
        let Some(session) = &mut self.0 else {
            return pending().await;
        };
        loop {
            while session.answers().await {
                sleep(EVERY).await;
            }
            tracing::warn!("the session that claims the database for this process is lost; claiming it again");
            session.connection = loop {
                // An attempt waits for the lock, too.
                match timeout(SILENT * 3, take(&session.options)).await {
                    Ok(Ok(connection)) => break connection,
                    Ok(Err(lost @ OpenError::InUse(_))) => return lost,
                    Ok(Err(_)) | Err(_) => sleep(EVERY).await,
                }
            };
            tracing::info!("the database is claimed again");
        }
    }
}

impl Session {
    async fn answers(&mut self) -> bool {
        matches!(timeout(SILENT, self.connection.ping()).await, Ok(Ok(())))
    }
}

/// Takes the lock in a new session.
async fn take(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    // PostgreSQL may not have noticed yet that a former session of this process is lost.
    const END_FORMER: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()";
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query(END_FORMER).execute(&mut connection).await?;
    let taken = sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(KEY)
        .execute(&mut connection)
        .await;
    match taken {
        Ok(_) => Ok(connection),
        // lock_not_available
        Err(error) if error.as_database_error().and_then(|told| told.code()).as_deref() == Some("55P03") => {
            Err(OpenError::InUse(holder(&mut connection).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Who holds the lock.
async fn holder(connection: &mut PgConnection) -> sqlx::Result<String> {
    // The address is of no session over a Unix socket, and is not shown of another user's.
    const HOLDER: &str = "SELECT concat('process ', pid, ' of PostgreSQL', ', connected from ' || host(client_addr)) \
        FROM pg_locks JOIN pg_stat_activity USING (pid) \
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
        AND classid::bigint = $1 >> 32 AND objid::bigint = $1 & 4294967295";
    let holder: Option<String> = sqlx::query_scalar(HOLDER).bind(KEY).fetch_optional(connection).await?;
    Ok(holder.unwrap_or_else(|| "its session has just ended".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Opened, postgres, sqlite};

    fn options(opened: &Opened) -> PgConnectOptions {
        let Database::Postgres(url) = &opened.database else {
            unreachable!("it is PostgreSQL")
        };
        postgres_options(url).unwrap()
    }

    /// A claim that is made at once or not at all.
    async fn claim(opened: &Opened) -> Result<Claim, OpenError> {
        Claim::of(options(opened), "50ms").await
    }

    /// Waits for the session that holds the lock, or that waits for it, and is not this one.
    async fn session(connection: &mut PgConnection, holds: bool, not: i32) -> i32 {
        const FIND: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted = $1 AND pid <> $2 \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        loop {
            let found = sqlx::query_scalar(FIND).bind(holds).bind(not);
            if let Some(pid) = found.fetch_optional(&mut *connection).await.unwrap() {
                return pid;
            }
        }
    }

    /// Ends a session, as a failure of PostgreSQL or of the network does.
    async fn cut(connection: &mut PgConnection, session: i32) {
        let cut = sqlx::query("SELECT pg_terminate_backend($1)").bind(session);
        cut.execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn one_process_claims_a_database() {
        let file = sqlite().await;
        Claim::make(&file.database).await.unwrap();
        let (Some(opened), Some(other)) = (postgres().await, postgres().await) else {
            return;
        };
        let first = claim(&opened).await.unwrap();
        let mut connection = PgConnection::connect_with(&options(&opened)).await.unwrap();
        let holder = session(&mut connection, true, 0).await;
        let refused = claim(&opened).await.unwrap_err().to_string();
        assert!(
            refused.starts_with("another chandlery uses the registry's database"),
            "{refused}"
        );
        assert!(
            refused.contains(&format!("process {holder} of PostgreSQL")),
            "{refused}"
        );
        claim(&other).await.unwrap();
        // As a process does that is killed.
        drop(first);
        Claim::make(&opened.database).await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_session_is_replaced_unless_another_process_is_faster() {
        let Some(opened) = postgres().await else { return };
        let mut connection = PgConnection::connect_with(&options(&opened)).await.unwrap();
        let mut first = claim(&opened).await.unwrap();
        let lost = tokio::spawn(async move { first.keep().await });
        let before = session(&mut connection, true, 0).await;
        cut(&mut connection, before).await;
        let holder = session(&mut connection, true, before).await;
        claim(&opened).await.unwrap_err();

        let mut other = PgConnection::connect_with(&options(&opened)).await.unwrap();
        let other = tokio::spawn(async move {
            sqlx::query("SELECT pg_advisory_lock($1)")
                .bind(KEY)
                .execute(&mut other)
                .await
                .unwrap();
            other
        });
        session(&mut connection, false, 0).await;
        cut(&mut connection, holder).await;
        let lost = lost.await.unwrap();
        assert!(matches!(lost, OpenError::InUse(_)), "{lost}");
        other.await.unwrap();
    }

    #[tokio::test]
    async fn a_former_session_that_postgresql_has_not_noticed_to_be_lost_is_ended() {
        let Some(opened) = postgres().await else { return };
        let mut first = claim(&opened).await.unwrap();
        let mut connection = PgConnection::connect_with(&options(&opened)).await.unwrap();
        let before = session(&mut connection, true, 0).await;
        let Claim(Some(held)) = &mut first else {
            unreachable!("it is PostgreSQL")
        };
        let _open = std::mem::replace(&mut held.connection, take(&held.options).await.unwrap());
        session(&mut connection, true, before).await;
    }
}
