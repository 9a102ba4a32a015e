//! Waits until a change is in force everywhere: until every connected watcher of it has acknowledged.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use service_kit::{Clock, Workload};
use sqlx::Row as _;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::store::{Commit, Db, changes, load::rows, on};

/// A mutation answers after this time, whoever lags.
const PATIENCE: Duration = Duration::from_secs(2);
/// An ack by way of another replica is looked for again after this time, in case its notification was lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A replica says so often that its watchers are connected.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(4);
/// A replica that has not said so for this long is dead.
const DEAD: Duration = Duration::from_secs(15);

/// How far a change has come.
#[derive(Debug)]
pub(crate) struct Propagated {
    /// The revision at which it is in force.
    pub(crate) revision: i64,
    /// Names of the workloads that have not acknowledged it in time.
    pub(crate) lagging: Vec<String>,
}

/// Knows the connected watchers and what they have acknowledged; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Propagation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Clock,
    replica: String,
    local: Mutex<HashMap<String, Local>>,
    acked: Arc<Notify>,
}

#[derive(Debug)]
struct Local {
    workload: Workload,
    kinds: i64,
    acked: i64,
}

/// A connected watcher; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: String,
    inner: Arc<Inner>,
}

impl Propagation {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        let replica = Uuid::new_v4().to_string();
        Self(Arc::new(Inner {
            db,
            clock,
            replica,
            local: Mutex::default(),
            acked: Arc::default(),
        }))
    }

    /// To be woken when another replica hears an ack.
    pub(crate) fn acked(&self) -> Arc<Notify> {
        Arc::clone(&self.0.acked)
    }

    /// Counts a watcher from now on. What is committed from now on waits for it.
    pub(crate) async fn connect(&self, workload: Workload, kinds: i64) -> sqlx::Result<Watcher> {
        const ADD: &str =
            "INSERT INTO watchers (id, replica, workload, kinds, acked, heartbeat) VALUES ($1, $2, $3, $4, 0, $5)";
        let id = Uuid::new_v4().to_string();
        let inner = Arc::clone(&self.0);
        inner.local().insert(
            id.clone(),
            Local {
                workload,
                kinds,
                acked: 0,
            },
        );
        let watcher = Watcher {
            id: id.clone(),
            inner: Arc::clone(&inner),
        };
        if inner.db.is_shared() {
            let now = inner.clock.now_micros();
            let mut tx = inner.db.write_quietly().await?;
            on!(tx, c => sqlx::query(ADD).bind(&id).bind(&inner.replica).bind(workload.name()).bind(kinds).bind(now)
                .execute(&mut *c).await.map(drop))?;
            tx.commit().await?;
        }
        Ok(watcher)
    }

    /// Waits for the watchers of what was committed: those of the workloads `awaited`, or all of them.
    pub(crate) async fn wait(&self, commit: Commit, awaited: Option<&[Workload]>) -> Propagated {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let notified = self.0.acked.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let lagging = self.lagging(commit, awaited).await;
            if lagging.is_empty() || Instant::now() >= deadline {
                if !lagging.is_empty() {
                    tracing::warn!(registry.revision = commit.revision, watch.lagging = ?lagging, "some watchers lag");
                }
                return Propagated {
                    revision: commit.revision,
                    lagging: lagging.into_iter().collect(),
                };
            }
            let again = if self.0.db.is_shared() {
                deadline.min(Instant::now() + LOOK_AGAIN)
            } else {
                deadline
            };
            tokio::select! {
                () = &mut notified => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    async fn lagging(&self, commit: Commit, awaited: Option<&[Workload]>) -> BTreeSet<String> {
        if commit.kinds == 0 || awaited.is_some_and(<[_]>::is_empty) {
            return BTreeSet::new();
        }
        let mut lagging: BTreeSet<String> = self
            .0
            .local()
            .values()
            .filter(|watcher| watcher.kinds & commit.kinds != 0 && watcher.acked < commit.revision)
            .filter(|watcher| awaited.is_none_or(|awaited| awaited.contains(&watcher.workload)))
            .map(|watcher| watcher.workload.name().to_owned())
            .collect();
        if self.0.db.is_shared() {
            match self.lagging_elsewhere(commit).await {
                Ok(elsewhere) => lagging.extend(elsewhere.into_iter().filter(|workload| {
                    awaited.is_none_or(|awaited| awaited.iter().any(|awaited| awaited.name() == workload))
                })),
                Err(error) => tracing::warn!(error = %error, "watchers of other replicas could not be looked up"),
            }
        }
        lagging
    }

    async fn lagging_elsewhere(&self, commit: Commit) -> sqlx::Result<Vec<String>> {
        const LAGGING: &str = "SELECT DISTINCT workload FROM watchers \
            WHERE replica <> $1 AND acked < $2 AND (kinds & $3) <> 0 AND heartbeat > $4";
        let alive = self.0.clock.now_micros() - i64::try_from(DEAD.as_micros()).unwrap_or(i64::MAX);
        let mut tx = self.0.db.read().await?;
        let replica = &self.0.replica;
        rows!(tx, LAGGING, [replica, commit.revision, commit.kinds, alive], row => row.try_get(0))
    }

    /// Says that this replica's watchers are still connected, and clears away those of dead ones. Fails if the database does
    /// not answer.
    pub(crate) async fn heartbeat(&self) -> sqlx::Result<()> {
        const BEAT: &str = "UPDATE watchers SET heartbeat = $1 WHERE replica = $2";
        const BURY: &str = "DELETE FROM watchers WHERE heartbeat < $1";
        if !self.0.db.is_shared() {
            let mut tx = self.0.db.read().await?;
            return changes::head(&mut tx).await.map(drop);
        }
        let now = self.0.clock.now_micros();
        let dead = now - 4 * i64::try_from(DEAD.as_micros()).unwrap_or(i64::MAX / 4);
        let mut tx = self.0.db.write_quietly().await?;
        on!(tx, c => sqlx::query(BEAT).bind(now).bind(&self.0.replica).execute(&mut *c).await.map(drop))?;
        on!(tx, c => sqlx::query(BURY).bind(dead).execute(&mut *c).await.map(drop))?;
        tx.commit().await.map(drop)
    }
}

impl Inner {
    fn local(&self) -> std::sync::MutexGuard<'_, HashMap<String, Local>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Everything up to this revision is in force there.
    pub(crate) async fn ack(&self, revision: i64) -> sqlx::Result<()> {
        const ACK: &str = "UPDATE watchers SET acked = $1 WHERE id = $2";
        if let Some(watcher) = self.inner.local().get_mut(&self.id) {
            watcher.acked = watcher.acked.max(revision);
        }
        self.inner.acked.notify_waiters();
        if self.inner.db.is_shared() {
            let mut tx = self.inner.db.write_quietly().await?;
            on!(tx, c => sqlx::query(ACK).bind(revision).bind(&self.id).execute(&mut *c).await.map(drop))?;
            tx.commit().await?;
            self.inner.db.announce_ack().await?;
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inner.local().remove(&self.id);
        self.inner.acked.notify_waiters();
        if self.inner.db.is_shared()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (id, inner) = (self.id.clone(), Arc::clone(&self.inner));
            runtime.spawn(async move {
                let removed = async {
                    let mut tx = inner.db.write_quietly().await?;
                    on!(tx, c => sqlx::query("DELETE FROM watchers WHERE id = $1").bind(&id).execute(&mut *c).await.map(drop))?;
                    tx.commit().await.map(drop)
                };
                if let Err(error) = removed.await {
                    tracing::warn!(error = %error, "a watcher that left could not be removed; its heartbeat ends");
                }
            });
        }
    }
}
