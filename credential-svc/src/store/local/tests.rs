//! What is specific to this store: its files, its keys, and the databases of earlier versions.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use pretty_assertions::assert_eq;
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::keys::{KeyFileError, Ring};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        record::{Field, Record},
        summary::StoredField,
    },
    store::suite::{Bench, store_suite},
};

struct Folder(TempDir);

impl Bench for Folder {
    type Store = LocalStore;

    async fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn connect(&self) -> LocalStore {
        LocalStore::open(self.0.path()).await.unwrap()
    }

    /// The files as they are, without closing anything.
    async fn copy(&self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.0.path()).unwrap() {
            let path = file.unwrap().path();
            // The index of the journal lives in memory and is rebuilt.
            if !path.to_string_lossy().ends_with("-shm") {
                fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Self(copy)
    }

    async fn cut_off(store: &mut LocalStore) {
        store.read.close().await;
        store.write.close().await;
    }

    async fn damage(&self, owner: &Owner) {
        let store = self.connect().await;
        sqlx::query("UPDATE owners SET sealed = X'00' WHERE owner = $1")
            .bind(owner.to_string())
            .execute(&store.write)
            .await
            .unwrap();
    }
}

store_suite!(Folder);

fn owner(uid: &str) -> Owner {
    Owner::Installation(uid.to_owned())
}

async fn open() -> (LocalStore, TempDir) {
    let Folder(directory) = Folder::new().await;
    (LocalStore::open(directory.path()).await.unwrap(), directory)
}

async fn put(store: &LocalStore, uid: &str, expected: Version, values: &[(&str, &str)]) {
    let generation = expected.next().0;
    let field = |&(key, value): &(&str, &str)| {
        let stored = StoredField {
            generation,
            update_time: 7,
        };
        let value = SecretString::from(value);
        (key.to_owned(), Field { stored, value })
    };
    let record = Record {
        generation,
        fields: values.iter().map(field).collect(),
        ..Record::default()
    };
    let written = store.write(&owner(uid), expected, Value::Record(record)).await;
    assert_eq!(written.unwrap(), Written::Done);
}

async fn record(store: &LocalStore, owner: &Owner) -> Record {
    match store.read(owner).await.unwrap() {
        Some((_, Value::Record(record))) => record,
        other => panic!("{owner}: {other:?}"),
    }
}

/// The value of an owner, as it is sealed.
async fn sealed(store: &LocalStore, uid: &str) -> Vec<u8> {
    let row = sqlx::query("SELECT sealed FROM owners WHERE owner = $1").bind(owner(uid).to_string());
    row.fetch_one(&store.write).await.unwrap().get(0)
}

/// Whether any file of the store has these bytes in it.
fn holds(directory: &TempDir, bytes: &[u8]) -> bool {
    let files = fs::read_dir(directory.path()).unwrap();
    let files: Vec<Vec<u8>> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let found = |file: &Vec<u8>| file.windows(bytes.len()).any(|window| window == bytes);
    files.iter().any(found)
}

/// Keys and values.
fn values(record: &Record) -> Vec<(&str, &str)> {
    let fields = record.fields.iter();
    fields
        .map(|(key, field)| (key.as_str(), field.value.expose_secret()))
        .collect()
}

async fn value(store: &LocalStore, uid: &str, key: &str) -> String {
    record(store, &owner(uid)).await.fields[key]
        .value
        .expose_secret()
        .to_owned()
}

const FORMER: [&str; 3] = [
    include_str!("former/1.sql"),
    include_str!("former/2.sql"),
    include_str!("former/3.sql"),
];

/// A folder with the database of an earlier version, changed by `edit`.
async fn former(sql: &'static str, edit: &'static str) -> TempDir {
    let Folder(directory) = Folder::new().await;
    let key = directory.path().join(KEY_FILE);
    fs::write(&key, "42".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = directory.path().join("credentials.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    sqlx::raw_sql(edit).execute(&pool).await.unwrap();
    pool.close().await;
    directory
}

/// Databases with the schemas 1 to 3. Each has an installation with two values and two answers, an entry, and installations whose values
/// were deleted, which were erased, which outgrew a backup, and with a value that does not open.
#[tokio::test]
async fn opens_databases_of_earlier_versions() {
    for (version, sql) in (1..).zip(FORMER) {
        // More than one page of owners.
        let more = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 599)
             INSERT INTO records (owner, generation, bound_destination, erased)
             SELECT 'installation:many-' || n, 3, '', FALSE FROM numbers";
        let directory = former(sql, more).await;
        let file = directory.path().join("credentials.db");
        let store = LocalStore::open(directory.path()).await.unwrap();
        assert_eq!(schema::version(&store.write).await.unwrap(), schema::VERSION);
        let a = record(&store, &owner("a")).await;
        assert_eq!(values(&a), [("other", "x"), ("token", "two")]);
        assert_eq!((a.generation, a.bound_destination.as_str()), (2, "https://example.com"));
        let stored = a.fields["token"].stored;
        assert_eq!((stored.generation, stored.update_time), (2, 1_700_000_100_000_000));
        let agreed = a.agreed.map(|agreed| agreed.description);
        assert_eq!(
            agreed.as_deref(),
            (version == 3).then_some("home"),
            "kept since the third"
        );
        let answers: Vec<(Uuid, i64)> = a
            .answers
            .iter()
            .map(|answer| (answer.request.id, answer.summary.generation))
            .collect();
        assert_eq!(answers, [(Uuid::from_u128(1), 1), (Uuid::from_u128(2), 2)]);
        let entry = record(&store, &Owner::Entry("e".to_owned())).await;
        assert_eq!(values(&entry), [("shared", "ours\nand yours")]);
        for (uid, generation) in [("empty", 2), ("outgrown", 6)] {
            let kept = record(&store, &owner(uid)).await;
            assert_eq!(
                (kept.generation, kept.bound_destination.as_str(), kept.fields.len()),
                (generation, "", 0)
            );
        }
        assert_eq!(store.list(None, 1000).await.unwrap().len(), 606);
        let gone = store.read(&owner("gone")).await.unwrap();
        assert!(matches!(gone, Some((_, Value::Erased { .. }))), "{gone:?}");
        let broken = record(&store, &owner("broken")).await;
        assert_eq!(
            (values(&broken).as_slice(), broken.bound_destination.as_str()),
            ([("other", "y")].as_slice(), "incomplete:https://example.com"),
            "what opens is kept, and not vended before its owner says so"
        );

        // It opens again as it is now, also after a rotation, and nothing of before is left in the file.
        store.close().await;
        rotate_keys(directory.path(), Some(&Ring::from([0x42; 32]).ids()[0]))
            .await
            .unwrap();
        let store = LocalStore::open(directory.path()).await.unwrap();
        assert_eq!(value(&store, "a", "token").await, "two");
        store.close().await;
        let file = fs::read(&file).unwrap();
        let sealed = data_encoding::HEXUPPER
            .decode(b"2572D68DCCFD24915D759E3A471665CDCA00EB")
            .unwrap();
        assert!(!file.windows(sealed.len()).any(|window| window == sealed));
    }
}

/// Another program edited the database of an earlier version: its secrets do not open for another destination.
#[tokio::test]
async fn does_not_bind_secrets_of_an_earlier_version_to_an_edited_destination() {
    let evil = "UPDATE records SET bound_destination = 'https://evil.example' WHERE owner = 'installation:a'";
    let directory = former(FORMER[2], evil).await;
    let store = LocalStore::open(directory.path()).await.unwrap();
    let a = record(&store, &owner("a")).await;
    assert!(
        a.fields.is_empty() && a.bound_destination.is_empty() && a.agreed.is_none(),
        "{a:?}"
    );
}

/// While the store is open, and without what it does when it is closed.
#[tokio::test]
async fn what_was_replaced_is_in_no_file() {
    let (store, directory) = open().await;
    for uid in ["a", "b", "c"] {
        put(&store, uid, Version::NONE, &[("token", uid)]).await;
    }
    let (replaced, erased, deleted) = (
        sealed(&store, "a").await,
        sealed(&store, "b").await,
        sealed(&store, "c").await,
    );
    assert!(holds(&directory, &replaced) && holds(&directory, &erased) && holds(&directory, &deleted));
    put(&store, "a", Version(1), &[("token", "two"), ("other", "x")]).await;
    assert!(!holds(&directory, &replaced));
    let written = store.write(&owner("b"), Version(1), Value::erased(7)).await;
    assert_eq!(written.unwrap(), Written::Done);
    assert!(!holds(&directory, &erased));
    store.delete(&owner("c")).await.unwrap();
    assert!(!holds(&directory, &deleted));
    assert_eq!(value(&store, "a", "token").await, "two");
}

/// Another program edited the database: a value opens for its owner and version only.
#[tokio::test]
async fn notices_values_that_were_swapped_or_relabelled() {
    let (store, _directory) = open().await;
    for uid in ["a", "b", "c"] {
        put(&store, uid, Version::NONE, &[("token", uid)]).await;
    }
    for tampering in [
        "UPDATE owners SET sealed = (SELECT sealed FROM owners WHERE owner = 'installation:b') WHERE owner = 'installation:a'",
        "UPDATE owners SET version = 2 WHERE owner = 'installation:b'",
        "UPDATE owners SET owner = 'entry:c' WHERE owner = 'installation:c'",
    ] {
        sqlx::raw_sql(tampering).execute(&store.write).await.unwrap();
    }
    for owner in [owner("a"), owner("b"), Owner::Entry("c".to_owned())] {
        let error = store.read(&owner).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
}

#[tokio::test]
async fn refuses_data_without_its_key() {
    let (store, directory) = open().await;
    put(&store, "a", Version::NONE, &[("token", "one")]).await;
    drop(store);
    let key = directory.path().join("credential.key");
    let original = fs::read(&key).unwrap();
    let open = async || LocalStore::open(directory.path()).await.unwrap_err();

    fs::write(&key, "07".repeat(32)).unwrap();
    assert!(matches!(open().await, OpenError::KeyWrong { .. }));
    fs::write(&key, "short").unwrap();
    assert!(matches!(open().await, OpenError::Key(KeyFileError::Damaged { .. })));
    fs::write(&key, &original).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open().await;
    assert!(
        matches!(error, OpenError::Key(KeyFileError::Exposed { .. })) && error.to_string().contains("chmod 600"),
        "{error}"
    );
    fs::remove_file(&key).unwrap();
    let error = open().await;
    assert!(
        matches!(error, OpenError::KeyMissing { .. }) && error.to_string().contains("backup"),
        "{error}"
    );
    assert!(!key.exists(), "no other key is made");

    fs::write(&key, &original).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(value(&store, "a", "token").await, "one");
}

#[tokio::test]
async fn refuses_data_of_a_newer_program_and_folders_of_everybody() {
    let (store, directory) = open().await;
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&store.write)
        .await
        .unwrap();
    drop(store);
    let error = LocalStore::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = LocalStore::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unsafe { .. }), "{error}");
}

#[tokio::test]
async fn lets_nobody_else_read_its_files() {
    let (store, directory) = open().await;
    put(&store, "a", Version::NONE, &[("token", "one")]).await;
    let mut names = BTreeSet::new();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            file.path()
        );
        names.insert(file.file_name().into_string().unwrap());
    }
    assert!(
        names.contains("credential.key") && names.contains("credentials.db"),
        "{names:?}"
    );
    assert!(!names.contains("credential.key.new"), "{names:?}");
}

/// The keys in the file, and with which of them its check says that all is sealed.
async fn keys(directory: &Path) -> (usize, bool) {
    let ring = Ring::existing(&directory.join(KEY_FILE)).unwrap().unwrap();
    let options = SqliteConnectOptions::new().filename(directory.join("credentials.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let known: Vec<u8> = sqlx::query("SELECT digest FROM key_check")
        .fetch_one(&pool)
        .await
        .unwrap()
        .get(0);
    let current = Seal::new(ring.keys().next().unwrap());
    (ring.keys().len(), current.check() == known)
}

#[tokio::test]
async fn a_new_key_reseals_everything() {
    let (store, directory) = open().await;
    // More than one page of rows.
    for n in 0..300 {
        let uid = format!("{n:03}");
        put(&store, &uid, Version::NONE, &[("token", &uid), ("other", "x")]).await;
    }
    let sealed = |store: &LocalStore| {
        let rows = sqlx::query("SELECT sealed FROM owners ORDER BY owner");
        let (rows, pool) = (rows, store.write.clone());
        async move {
            rows.map(|row: SqliteRow| row.get::<Vec<u8>, _>(0))
                .fetch_all(&pool)
                .await
                .unwrap()
        }
    };
    let before = sealed(&store).await;
    store.close().await;
    let ring = || Ring::existing(&directory.path().join(KEY_FILE)).unwrap().unwrap();
    let old = ring().ids().remove(0);
    rotate_keys(directory.path(), Some(&old)).await.unwrap();
    assert_eq!(keys(directory.path()).await, (1, true));
    assert_ne!(ring().ids(), [old.as_str()]);
    // The second run for the same old key changes nothing.
    let new = ring().ids();
    rotate_keys(directory.path(), Some(&old)).await.unwrap();
    assert_eq!(ring().ids(), new);

    let store = LocalStore::open(directory.path()).await.unwrap();
    for n in 0..300 {
        let uid = format!("{n:03}");
        assert_eq!(value(&store, &uid, "token").await, uid);
        assert_eq!(value(&store, &uid, "other").await, "x");
    }
    let after = sealed(&store).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    store.close().await;
    let file = fs::read(directory.path().join("credentials.db")).unwrap();
    for old in &before {
        assert!(
            !file.windows(old.len()).any(|window| window == old),
            "it is left in the file"
        );
    }
}

/// Where secrets are in another system, nothing of this store is made.
#[tokio::test]
async fn a_folder_without_a_store_stays_without_one() {
    let Folder(directory) = Folder::new().await;
    assert!(!secrets_in(directory.path()).await.unwrap());
    rotate_keys(directory.path(), None).await.unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn says_whether_there_are_secrets() {
    let (store, directory) = open().await;
    assert!(!secrets_in(directory.path()).await.unwrap());
    put(&store, "a", Version::NONE, &[("token", "one")]).await;
    store.close().await;
    assert!(secrets_in(directory.path()).await.unwrap());
}

/// Killed before and after each step: whatever is there opens, and ends with one key.
#[tokio::test]
async fn an_interrupted_rotation_of_keys_is_completed() {
    let (store, directory) = open().await;
    put(&store, "a", Version::NONE, &[("token", "one")]).await;
    store.close().await;
    let file = directory.path().join(KEY_FILE);
    let ring = Ring::existing(&file).unwrap().unwrap();

    // The new key is in the file, and nothing is sealed with it.
    let both = ring.rotated().unwrap();
    both.save(&file).unwrap();
    assert_eq!(keys(directory.path()).await, (2, false));
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(value(&store, "a", "token").await, "one");
    store.close().await;
    assert_eq!(keys(directory.path()).await, (1, true));

    // All is sealed with the new key, and the old one still in the file.
    both.save(&file).unwrap();
    assert_eq!(keys(directory.path()).await, (2, true));
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(value(&store, "a", "token").await, "one");
    store.close().await;
    assert_eq!(Ring::existing(&file).unwrap().unwrap().ids(), both.current().ids());

    // Keys of another store are refused, and stay as they are.
    Ring::from([7; 32]).rotated().unwrap().save(&file).unwrap();
    let refused = LocalStore::open(directory.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::KeyWrong { .. }), "{refused}");
    let ids = Ring::existing(&file).unwrap().unwrap().ids();
    let refused = rotate_keys(directory.path(), Some(&ids[0])).await.unwrap_err();
    assert!(matches!(refused, OpenError::KeyWrong { .. }), "{refused}");
    assert_eq!(Ring::existing(&file).unwrap().unwrap().ids(), ids);
}

/// Killed after all values were resealed, while the files still contained what the old key opens.
#[tokio::test]
async fn an_interrupted_rotation_leaves_nothing_that_the_old_key_opens() {
    let (store, directory) = open().await;
    put(&store, "a", Version::NONE, &[("token", "one")]).await;
    let old = sealed(&store, "a").await;
    let file = directory.path().join(KEY_FILE);
    let both = Ring::existing(&file).unwrap().unwrap().rotated().unwrap();
    both.save(&file).unwrap();
    let seals: Vec<Seal> = both.keys().map(Seal::new).collect();
    rotate::reseal(&store.write, &seals[1], &seals[0]).await.unwrap();
    let found = Folder(directory).copy().await;
    assert!(holds(&found.0, &old));
    let store = found.connect().await;
    assert_eq!(value(&store, "a", "token").await, "one");
    assert!(!holds(&found.0, &old), "also while it is open");
}

/// A new sealed column must be resealed in `rotate`.
#[tokio::test]
async fn every_sealed_column_is_resealed() {
    let (store, _directory) = open().await;
    let columns: Vec<String> = sqlx::query(
        "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND c.type = 'BLOB' ORDER BY 1",
    )
    .map(|row: SqliteRow| row.get(0))
    .fetch_all(&store.write)
    .await
    .unwrap();
    assert_eq!(columns, ["key_check.digest", "owners.sealed"]);
}
