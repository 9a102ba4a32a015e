//! Databases for tests of the store: one of SQLite, and one of PostgreSQL where `CHANDLERY_TEST_POSTGRES_URL` names a server on which
//! databases may be made.

use prost::Message;
use service_kit::not_run;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use super::{Commit, Db, Object, open};
use crate::{config::Database, domain::Actor};

/// An open database of a test.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) database: Database,
    _folder: TempDir,
}

/// Runs a test on each engine.
pub(crate) async fn on_each_engine(test: impl AsyncFn(Opened)) {
    test(sqlite().await).await;
    if let Some(postgres) = postgres().await {
        test(postgres).await;
    }
}

/// A database of SQLite.
pub(crate) async fn sqlite() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(folder.path().join("registry.db"));
    Opened::new(database, folder).await
}

/// A database of PostgreSQL, where there is a server.
pub(crate) async fn postgres() -> Option<Opened> {
    let server = not_run::postgres()?;
    let name = format!("store_{}", service_kit::random::uuid().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::query(AssertSqlSafe(create))
        .execute(&mut connection)
        .await
        .unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    let database = Database::Postgres(String::from(url).into());
    Some(Opened::new(database, tempfile::tempdir().unwrap()).await)
}

impl Opened {
    async fn new(database: Database, folder: TempDir) -> Self {
        Self {
            db: open(&database).await.unwrap(),
            database,
            _folder: folder,
        }
    }

    /// Another handle: the next start of the program, or a replica.
    pub(crate) async fn again(&self) -> Db {
        open(&self.database).await.unwrap()
    }

    /// Commits a revision that puts these objects, at `now`.
    pub(crate) async fn put_at(&self, now: i64, objects: &[(Object, &str, Vec<u8>)]) -> Commit {
        let mut tx = self.db.write(Actor::Registry, || now).await.unwrap();
        for (object, key, document) in objects {
            tx.put(*object, key, document);
        }
        tx.commit().await.unwrap()
    }

    /// As [`Opened::put_at`], one object.
    pub(crate) async fn put(&self, object: Object, key: &str, message: &impl Message) -> Commit {
        self.put_at(1, &[(object, key, message.encode_to_vec())]).await
    }
}
