//! A transaction on either engine, and the record of what it changed.

use std::collections::BTreeSet;

use contracts::registry::WatchedObject;
use prost::Message as _;
use sqlx::{Postgres, Sqlite, Transaction};

use super::{Db, Object, load, notify, on};

pub(crate) enum Engine {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A transaction. Dropped without [`Tx::commit`], nothing of it happens.
pub(crate) struct Tx {
    db: Db,
    engine: Engine,
    revision: Option<i64>,
    changed: BTreeSet<(Object, String)>,
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The revision at which all of it is in force.
    pub(crate) revision: i64,
    /// Bit n: an object of `ObjectKind` n changed.
    pub(crate) kinds: i64,
}

impl Tx {
    pub(super) fn new(db: Db, engine: Engine, revision: Option<i64>) -> Self {
        Self {
            db,
            engine,
            revision,
            changed: BTreeSet::new(),
        }
    }

    pub(crate) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(super) async fn take_revision(&mut self) -> sqlx::Result<()> {
        const NEXT: &str = "UPDATE head SET revision = revision + 1 WHERE id = 1 RETURNING revision";
        let revision: i64 = on!(self, c => sqlx::query_scalar(NEXT).fetch_one(&mut *c).await)?;
        self.revision = Some(revision);
        Ok(())
    }

    /// The revision of a transaction begun by [`Db::write`].
    pub(crate) fn revision(&self) -> i64 {
        self.revision
            .expect("only transactions begun by Db::write change what is watched")
    }

    /// Notes that this object was added, changed or taken away, and marks its row with the revision. To be called after the row
    /// was written. What watchers get is what the object is when the transaction commits.
    pub(crate) async fn changed(&mut self, object: Object, uid: &str) -> sqlx::Result<()> {
        if let Some(mark) = object.mark() {
            let revision = self.revision();
            on!(self, c => sqlx::query(mark).bind(revision).bind(uid).execute(&mut *c).await.map(drop))?;
        }
        self.changed.insert((object, uid.to_owned()));
        Ok(())
    }

    /// Makes it last. Without changes of what is watched, no revision is used up.
    pub(crate) async fn commit(mut self) -> sqlx::Result<Commit> {
        let mut commit = Commit {
            revision: self.revision.unwrap_or_default(),
            kinds: 0,
        };
        if self.revision.is_some() {
            if self.changed.is_empty() {
                const GIVE_BACK: &str = "UPDATE head SET revision = revision - 1 WHERE id = 1";
                on!(self, c => sqlx::query(GIVE_BACK).execute(&mut *c).await.map(drop))?;
                commit.revision -= 1;
            } else {
                commit.kinds = self.record_changes().await?;
            }
        }
        let announce = commit.kinds != 0;
        match self.engine {
            Engine::Sqlite(transaction) => transaction.commit().await?,
            Engine::Postgres(mut transaction) => {
                if announce {
                    notify::announce_revision(&mut transaction).await?;
                }
                transaction.commit().await?;
            }
        }
        if announce {
            self.db.advance(commit.revision);
        }
        Ok(commit)
    }

    async fn record_changes(&mut self) -> sqlx::Result<i64> {
        const RECORD: &str =
            "INSERT INTO changes (revision, position, kind, object_key, object) VALUES ($1, $2, $3, $4, $5)";
        let revision = self.revision();
        let mut kinds = 0;
        for (position, (object, uid)) in (0_i64..).zip(std::mem::take(&mut self.changed)) {
            let now: Option<WatchedObject> = load::watched(self, object, &uid).await?;
            let encoded = now.map(|now| now.encode_to_vec());
            let kind = object.kind() as i64;
            kinds |= 1 << kind;
            on!(self, c => sqlx::query(RECORD).bind(revision).bind(position).bind(kind).bind(&uid).bind(encoded)
                .execute(&mut *c).await.map(drop))?;
        }
        Ok(kinds)
    }
}
