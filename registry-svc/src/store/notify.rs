//! How replicas learn at once of what another one has committed.

use std::time::Duration;

use sqlx::{Postgres, Transaction, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Db, Pools, on};

const REVISIONS: &str = "chandlery_revisions";
const ACKS: &str = "chandlery_acks";
/// A notification may be lost; a look-up is not.
const POLL: Duration = Duration::from_secs(1);

pub(super) async fn announce_revision(transaction: &mut Transaction<'static, Postgres>) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(REVISIONS)
        .execute(&mut **transaction)
        .await
        .map(drop)
}

impl Db {
    /// Tells all replicas that a watcher has acknowledged something.
    pub(crate) async fn announce_ack(&self) -> sqlx::Result<()> {
        if let Pools::Postgres(pool) = &self.0.pools {
            sqlx::query("SELECT pg_notify($1, '')").bind(ACKS).execute(pool).await?;
        }
        Ok(())
    }

    async fn refresh(&self) -> sqlx::Result<()> {
        let mut tx = self.read().await?;
        let revision: i64 =
            on!(tx, c => sqlx::query_scalar("SELECT revision FROM head WHERE id = 1").fetch_one(&mut *c).await)?;
        self.advance(revision);
        Ok(())
    }
}

/// Keeps `db.latest()` true to what all replicas commit, and wakes `acked` when one of them hears an ack, until `stop`.
pub(crate) async fn follow(db: Db, acked: std::sync::Arc<Notify>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let followed = tokio::select! {
            () = stop.cancelled() => return,
            followed = follow_once(&db, &acked) => followed,
        };
        if let Err(error) = followed {
            tracing::warn!(error = %error, "the database did not answer; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn follow_once(db: &Db, acked: &Notify) -> sqlx::Result<()> {
    let Pools::Postgres(pool) = &db.0.pools else {
        db.refresh().await?;
        return Ok(());
    };
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([REVISIONS, ACKS]).await?;
    db.refresh().await?;
    loop {
        match tokio::time::timeout(POLL, listener.recv()).await {
            Ok(Ok(notification)) if notification.channel() == ACKS => acked.notify_waiters(),
            Ok(Err(error)) => return Err(error),
            _ => db.refresh().await?,
        }
    }
}
