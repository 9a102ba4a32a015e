//! What the registry owes to its database, on both engines.

mod support;

use std::path::PathBuf;

use contracts::registry::*;
use registry_svc::{Config, Database, Deps};
use secrecy::ExposeSecret as _;
use service_kit::{Clock, Workload};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use support::{watcher::Watcher, *};

on_both_engines!(
    keeps_everything_over_a_restart,
    refuses_data_of_a_newer_program,
    refuses_data_from_before_the_first_release,
    gives_every_write_a_revision_of_its_own
);

async fn keeps_everything_over_a_restart(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    let entry = admin.entry(&entry.name).await.unwrap();
    let again = stack.succeed().await;
    let admin = again.admin();
    assert_eq!(admin.entry(&entry.name).await.unwrap(), entry);
    let request = ListEntryToolsRequest {
        parent: entry.name.clone(),
        ..Default::default()
    };
    assert_eq!(
        admin
            .entries()
            .list_entry_tools(request)
            .await
            .unwrap()
            .into_inner()
            .tools
            .len(),
        1
    );
}

async fn refuses_data_of_a_newer_program(stack: Stack) {
    const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'of tomorrow', TRUE, $1, 0)";
    let checksum = vec![0_u8; 48];
    match &stack.database {
        Database::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
                .await
                .unwrap();
            sqlx::query(NEWER)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
            sqlx::query(NEWER)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }
    let refused = build(&stack, stack.database.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

async fn build(stack: &Stack, database: Database) -> Result<service_kit::App, registry_svc::BuildError> {
    registry_svc::build(
        Config::new(database, [7; 32]),
        Deps {
            verifier: stack.issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        },
    )
    .await
}

async fn gives_every_write_a_revision_of_its_own(stack: Stack) {
    let writers = (0..16).map(|index| {
        let admin = stack.admin();
        tokio::spawn(async move {
            admin
                .created(&format!("entry-{index}"), remote())
                .await
                .registry_revision
        })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.push(writer.await.unwrap());
    }
    revisions.sort_unstable();
    let expected: Vec<i64> = (revisions[0]..revisions[0] + 16).collect();
    assert_eq!(revisions, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_start_at_once_migrate_once() {
    let stack = Stack::start(On::Sqlite).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let path: PathBuf = data.path().join("new.db");
    let starts = (0..6).map(|_| build(&stack, Database::Sqlite(path.clone())));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
}

/// It says who has what, and holds the hashes of tokens.
#[tokio::test]
async fn nobody_else_reads_the_file_of_a_registry() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    // As an earlier program has left it.
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let stack = Stack::start(On::Sqlite).await.unwrap();
    let _open = build(&stack, Database::Sqlite(path)).await.unwrap();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    assert!(names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let stack = Stack::start(On::Sqlite).await.unwrap();
    let refused = build(&stack, Database::Sqlite("/nowhere/at/all.db".into()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("registry's database"), "{refused}");
}

/// A watcher that knows what was written after a backup must not resume after it is restored: the same revisions have other contents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_makes_watchers_start_anew() {
    let stack = Stack::start(On::Sqlite).await.unwrap();
    stack.admin().created("kept", remote()).await;
    let Database::Sqlite(path) = stack.database.clone() else {
        unreachable!("it was started on SQLite")
    };
    let backup = path.with_extension("backup");
    let copy = format!("VACUUM INTO '{}'", backup.display());
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    sqlx::query(AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    stack.admin().created("lost", remote()).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry]).await;
    let (epoch, revision, objects) = watcher.snapshot().await;
    assert_eq!(objects.len(), 2);
    let instance = watcher.instance.clone();
    drop(watcher);

    let data = tempfile::tempdir().unwrap();
    let restored = data.path().join("registry.db");
    std::fs::copy(&backup, &restored).unwrap();
    let stack = stack
        .succeed_with(|config| config.database = Database::Sqlite(restored))
        .await;
    let other = stack.admin().created("other", remote()).await;
    assert_eq!(other.registry_revision, revision, "the number is used a second time");
    let kinds = [ObjectKind::Entry];
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &kinds, &instance, (&epoch, revision)).await;
    watcher.compacted().await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &kinds).await;
    let (another, _, objects) = watcher.snapshot().await;
    assert_ne!(another, epoch);
    let names: Vec<_> = objects
        .into_iter()
        .filter_map(|object| match object.object {
            Some(watched_object::Object::Entry(entry)) => Some(entry.name),
            _ => None,
        })
        .collect();
    assert_eq!(names.len(), 2);
    assert!(!names.contains(&"entries/lost".to_owned()), "{names:?}");
}

async fn refuses_data_from_before_the_first_release(stack: Stack) {
    // Its first migration was another.
    const BEFORE: &str = "UPDATE _sqlx_migrations SET checksum = $1 WHERE version = 1";
    let checksum = vec![0_u8; 48];
    match &stack.database {
        Database::Sqlite(path) => {
            let url = format!("sqlite:{}", path.display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            sqlx::query(BEFORE)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
            sqlx::query(BEFORE)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }
    let refused = build(&stack, stack.database.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("empty data folder"), "{refused}");
}
