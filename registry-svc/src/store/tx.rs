//! A transaction on either engine, and the record of what it changed.

use std::collections::BTreeMap;

use prost::bytes::Bytes;
use sqlx::{Postgres, QueryBuilder, Sqlite, Transaction};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Db, Object,
    changes::Logged,
    db::Pools,
    flush::{Committed, Lasting},
    on,
};
use crate::domain::Actor;

/// Changes written by one statement; each has seven values.
const AT_ONCE: usize = 500;

pub(crate) enum Engine {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A transaction. Dropped without [`Tx::commit`], nothing of it happens.
pub(crate) struct Tx {
    db: Db,
    engine: Engine,
    writing: Option<Writing>,
    /// The epoch it gives to a database in which committed revisions are missing: one that was restored.
    renewed: Option<String>,
    /// What the answer waits for if this transaction changes nothing.
    stands: Commit,
    /// Keeps other transactions of this process from taking a revision.
    turn: Option<OwnedSemaphorePermit>,
    /// Whether the commit returns before it is on the disk.
    ahead: bool,
}

/// A transaction whose changes watchers see.
struct Writing {
    revision: i64,
    actor: Actor,
    now: i64,
    /// Encoded `WatchedObject`s by what they are of; `None`: it is gone.
    changes: BTreeMap<(Object, String), Option<Vec<u8>>>,
}

/// What a transaction did, or what its answer speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The revision at which all of it is in force.
    pub(crate) revision: i64,
    /// Bit n: an object of `ObjectKind` n changed.
    pub(crate) kinds: i64,
}

impl Tx {
    pub(super) fn new(db: Db, engine: Engine) -> Self {
        Self {
            db,
            engine,
            writing: None,
            renewed: None,
            stands: Commit::default(),
            turn: None,
            ahead: false,
        }
    }

    /// As [`Tx::new`], of a transaction that was begun by [`super::flush::BEGIN`].
    pub(super) fn ahead(db: Db, transaction: Transaction<'static, Postgres>) -> Self {
        Self {
            ahead: true,
            ..Self::new(db, Engine::Postgres(transaction))
        }
    }

    /// The database that it is of.
    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(super) async fn take_revision(
        &mut self,
        actor: Actor,
        now: impl FnOnce() -> i64,
        turn: OwnedSemaphorePermit,
    ) -> sqlx::Result<()> {
        const NEXT: &str = "UPDATE head SET revision = revision + 1 WHERE id = 1 RETURNING revision";
        let revision: i64 = on!(self, c => sqlx::query_scalar(NEXT).fetch_one(&mut *c).await)?;
        // Whatever is known to be committed was committed before this transaction had its turn.
        if self.db.latest().borrow().revision >= revision {
            const RENEW: &str = "UPDATE head SET database_epoch = $1 WHERE id = 1";
            let epoch = service_kit::random::uuid().to_string();
            on!(self, c => sqlx::query(RENEW).bind(&epoch).execute(&mut *c).await.map(drop))?;
            self.renewed = Some(epoch);
        }
        self.writing = Some(Writing {
            revision,
            actor,
            now: self.db.not_before(now()),
            changes: BTreeMap::new(),
        });
        self.turn = Some(turn);
        Ok(())
    }

    fn writing(&mut self) -> &mut Writing {
        self.writing
            .as_mut()
            .expect("only transactions begun by Db::write change what is watched")
    }

    /// The revision of a transaction begun by [`Db::write`].
    pub(crate) fn revision(&mut self) -> i64 {
        self.writing().revision
    }

    /// When it began, in microseconds since 1970.
    pub(crate) fn now(&mut self) -> i64 {
        self.writing().now
    }

    /// Notes that this object was added or changed: watchers get this document. Its row is written by the caller.
    pub(crate) fn put(&mut self, object: Object, key: &str, document: &[u8]) {
        let watched = object.watched(key, document);
        self.writing().changes.insert((object, key.to_owned()), Some(watched));
    }

    /// Notes that this object is gone for watchers.
    pub(crate) fn remove(&mut self, object: Object, key: &str) {
        self.writing().changes.insert((object, key.to_owned()), None);
    }

    /// Whether something changed that is watched.
    pub(crate) fn has_changes(&mut self) -> bool {
        !self.writing().changes.is_empty()
    }

    /// Says what the answer is about where nothing changes: the caller waits for the object's own last revision.
    pub(crate) fn stands_at(&mut self, object: Object, revision: i64) {
        self.stands.revision = self.stands.revision.max(revision);
        self.stands.kinds |= object.bit();
    }

    /// Makes it last. Without changes of what is watched, no revision is used up.
    pub(crate) async fn commit(mut self) -> sqlx::Result<Commit> {
        let mut commit = self.stands;
        let mut changes = None;
        if let Some(writing) = self.writing.take() {
            if writing.changes.is_empty() {
                const GIVE_BACK: &str = "UPDATE head SET revision = revision - 1 WHERE id = 1";
                on!(self, c => sqlx::query(GIVE_BACK).execute(&mut *c).await.map(drop))?;
            } else {
                let made = self.record(writing).await?;
                commit = made.0;
                changes = Some(made.1);
            }
        }
        let flush = match self.db.pools() {
            Pools::Postgres { flush, .. } if self.ahead => Some((flush, flush.session())),
            _ => None,
        };
        match self.engine {
            Engine::Sqlite(transaction) => transaction.commit().await?,
            Engine::Postgres(transaction) => transaction.commit().await?,
        }
        let (done, lasts) = oneshot::channel();
        let db = self.db.clone();
        let committed = Committed {
            lasting: Lasting {
                revision: commit.revision,
                changes,
                renewed: self.renewed,
            },
            session: flush.map_or(0, |(_, session)| session),
            publish: Box::new(move |lasting| db.committed(lasting)),
            done,
        };
        // Before another has its turn: they are published in order.
        match flush {
            Some((flush, _)) => flush.send(committed)?,
            None => committed.announce(),
        }
        drop(self.turn);
        lasts.await.map_err(|_| sqlx::Error::PoolClosed)??;
        Ok(commit)
    }

    /// Writes the change log; also gives back what it wrote.
    async fn record(&mut self, writing: Writing) -> sqlx::Result<(Commit, Vec<Logged>)> {
        const RECORD: &str =
            "INSERT INTO changes (revision, position, kind, object_key, object, bytes, actor, create_time) ";
        let Writing {
            revision,
            actor,
            now,
            changes,
        } = writing;
        let actor = actor.to_string();
        let mut kinds = 0;
        let changes: Vec<_> = (0_i64..)
            .zip(changes)
            .map(|(position, ((object, key), watched))| {
                kinds |= object.bit();
                Logged::new(revision, position, object.kind() as i64, key, watched.map(Bytes::from))
            })
            .collect();
        for some in changes.chunks(AT_ONCE) {
            on!(self, c => {
                let mut insert = QueryBuilder::new(RECORD);
                insert.push_values(some, |mut row, change| {
                    let bytes = change.object.as_ref().map_or(0, Bytes::len);
                    row.push_bind(revision).push_bind(change.position()).push_bind(change.kind).push_bind(&change.key)
                        .push_bind(change.object.as_deref()).push_bind(i64::try_from(bytes).unwrap_or(i64::MAX))
                        .push_bind(&actor).push_bind(now);
                });
                insert.build().execute(&mut *c).await.map(drop)
            })?;
        }
        Ok((Commit { revision, kinds }, changes))
    }
}
