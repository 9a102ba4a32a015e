//! How replicas learn at once of what another one has done. Nothing here is part of a transaction.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint,
    db::{Db, Pools},
};

/// Payload: replica, epoch, revision.
const REVISIONS: &str = "chandlery_revisions";
/// Payload: the replica on which watchers came, went or acknowledged.
pub(super) const WATCHERS: &str = "chandlery_watchers";
/// A notification may be lost; a look-up is not.
const POLL: Duration = Duration::from_secs(1);
/// After this time without an answer, a connection is broken, whatever TCP says.
const SILENT: Duration = Duration::from_secs(5);

/// Keeps [`Db::latest`] up to date with what all replicas commit, and notifies them of what this one commits, until `stop`.
pub(crate) async fn follow(db: Db, stop: CancellationToken) {
    let following = async {
        match db.pools() {
            Pools::Sqlite { checkpoint, .. } => {
                tokio::join!(poll(&db), checkpoint::keep(&db, checkpoint));
            }
            Pools::Postgres { signal, listen, .. } => {
                tokio::join!(keep_listening(&db, listen), announce(&db, signal));
            }
        }
    };
    stop.run_until_cancelled(following).await;
}

async fn poll(db: &Db) {
    loop {
        if let Err(error) = db.look().await {
            tracing::warn!(error = %error, "the database did not answer; trying again");
        }
        sleep(POLL).await;
    }
}

async fn keep_listening(db: &Db, pool: &PgPool) {
    loop {
        let ended = listen(db, pool).await;
        db.set_listening(false);
        if let Err(error) = ended {
            tracing::warn!(error = %error, "the database did not answer; trying again");
            sleep(POLL).await;
        }
    }
}

/// Listens until the connection is lost.
async fn listen(db: &Db, pool: &PgPool) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all([REVISIONS, WATCHERS]).await?;
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard? {
                Some(notification) if hear(db, &notification) => {}
                Some(_) => polls.reset_immediately(),
                None => return Ok(()),
            },
            _ = polls.tick() => {
                answers(&mut listener).await?;
                if !db.is_listening() {
                    // Notifications sent before are lost.
                    db.set_listening(true);
                    db.stir();
                }
                db.look().await?;
            }
        }
    }
}

async fn answers(listener: &mut PgListener) -> sqlx::Result<()> {
    let answer = timeout(SILENT, sqlx::query("SELECT 1").execute(listener)).await;
    answer.map_err(|_| sqlx::Error::PoolTimedOut)?.map(drop)
}

/// `false`: the database has to be read.
fn hear(db: &Db, notification: &PgNotification) -> bool {
    let mut words = notification.payload().split(' ');
    if words.next() == Some(db.replica()) {
        return true;
    }
    if notification.channel() == WATCHERS {
        db.stir();
        return true;
    }
    let (Some(epoch), Some(revision)) = (words.next(), words.next().and_then(|revision| revision.parse().ok())) else {
        return false;
    };
    db.committed_elsewhere(epoch, revision)
}

/// Notifies other replicas of what this one commits: the latest revision, however many there were since the last notification.
async fn announce(db: &Db, pool: &PgPool) {
    let latest = db.latest();
    loop {
        db.commits().await;
        let payload = {
            let latest = latest.borrow();
            format!("{} {} {}", db.replica(), latest.epoch, latest.revision)
        };
        if let Err(error) = notify(pool, REVISIONS, &payload).await {
            // They read the database every second.
            tracing::warn!(error = %error, "other replicas could not be notified of a revision; they find it within a second");
        }
    }
}

async fn notify(pool: &PgPool, channel: &str, payload: &str) -> sqlx::Result<()> {
    let notify = sqlx::query("SELECT pg_notify($1, $2)")
        .bind(channel)
        .bind(payload)
        .execute(pool);
    let told = timeout(SILENT, notify).await;
    told.map_err(|_| sqlx::Error::PoolTimedOut)?.map(drop)
}

#[cfg(test)]
mod tests {
    use contracts::registry::Entry;

    use super::*;
    use crate::store::{Object, testing::postgres};

    /// How long a test waits for what may also never come.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn postgres_pools(db: &Db) -> (&PgPool, &PgPool) {
        let Pools::Postgres { signal, listen, .. } = db.pools() else {
            panic!("this is a test of PostgreSQL")
        };
        (signal, listen)
    }

    #[tokio::test]
    async fn a_replica_tells_others_what_it_commits() {
        let Some(opened) = postgres().await else { return };
        let other = opened.again().await;
        let mut listener = PgListener::connect_with(postgres_pools(&other).1).await.unwrap();
        listener.listen(REVISIONS).await.unwrap();
        // Commits are announced where there is another replica.
        opened.db.set_accompanied(true);
        let stop = CancellationToken::new();
        tokio::spawn(follow(opened.db.clone(), stop.clone()));
        let committed = opened.put(Object::Entry, "e", &Entry::default()).await.revision;
        let expected = format!("{} {} {committed}", opened.db.replica(), opened.db.epoch());
        let notified = async { while listener.recv().await.unwrap().payload() != expected {} };
        timeout(PATIENCE, notified).await.expect("it is published");
        stop.cancel();
    }

    /// The revision is in no database: only a notification can bring it, and no look-up.
    #[tokio::test]
    async fn a_replica_hears_of_a_revision_without_looking() {
        let Some(opened) = postgres().await else { return };
        let db = &opened.db;
        let stop = CancellationToken::new();
        tokio::spawn(follow(db.clone(), stop.clone()));
        let listening = async {
            while !db.is_listening() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, listening).await.expect("it listens");
        let mut latest = db.latest();
        let revision = latest.borrow().revision + 1000;
        let payload = format!("another-replica {} {revision}", db.epoch());
        notify(postgres_pools(db).0, REVISIONS, &payload).await.unwrap();
        let heard = latest.wait_for(|latest| latest.revision == revision);
        timeout(PATIENCE, heard).await.expect("it hears of it").unwrap();
        stop.cancel();
    }
}
