//! On the real engine.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::domain::record::Summary;

fn owner(uid: &str) -> Owner {
    Owner::Installation(uid.to_owned())
}

fn change(expected_generation: i64, values: &[(&str, &str)]) -> Change {
    Change {
        expected_generation,
        time: 7,
        bound_destination: "https://example.com".to_owned(),
        put: values
            .iter()
            .map(|&(key, value)| (key.to_owned(), SecretString::from(value)))
            .collect(),
        forget: BTreeSet::new(),
        answer: None,
    }
}

fn answer(id: u128, generation: i64) -> (RequestKey, Answered) {
    let summary = Summary {
        name: "installations/a/credential".to_owned(),
        generation,
        fields: BTreeMap::from([(
            "token".to_owned(),
            StoredField {
                generation,
                update_time: 7,
            },
        )]),
        missing: Vec::new(),
        bound_destination: String::new(),
        present_destination: String::new(),
    };
    (
        RequestKey {
            user: "u".to_owned(),
            id: Uuid::from_u128(id),
        },
        Answered {
            digest: [9; 32],
            summary,
        },
    )
}

async fn value(store: &LocalStore, uid: &str, key: &str) -> Option<String> {
    let opened = store.open(&owner(uid)).await.unwrap()?;
    opened.values.get(key).map(|value| value.expose_secret().to_owned())
}

async fn open() -> (LocalStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (LocalStore::open(directory.path()).await.unwrap(), directory)
}

/// What a crash at this moment would leave: the files as they are, without closing anything.
async fn crashed(directory: &TempDir) -> (LocalStore, TempDir) {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let path = file.unwrap().path();
        // The index of the journal lives in memory and is rebuilt.
        if !path.to_string_lossy().ends_with("-shm") {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    (LocalStore::open(copy.path()).await.unwrap(), copy)
}

#[tokio::test]
async fn keeps_every_step_through_a_crash() {
    let (store, directory) = open().await;
    let (again, _copy) = crashed(&directory).await;
    assert_eq!(again.describe(&owner("a")).await.unwrap(), None);

    let mut first = change(0, &[("token", "one"), ("other", "x")]);
    first.answer = Some(answer(1, 1));
    assert_eq!(store.write(&owner("a"), first).await.unwrap(), Written::Done);
    let (again, _copy) = crashed(&directory).await;
    assert_eq!(value(&again, "a", "token").await.unwrap(), "one");
    let (request, answered) = answer(1, 1);
    assert_eq!(again.answered(&request).await.unwrap(), Some(answered));

    let mut second = change(1, &[("token", "two")]);
    second.forget = BTreeSet::from(["other".to_owned()]);
    store.write(&owner("a"), second).await.unwrap();
    let (again, _copy) = crashed(&directory).await;
    let record = again.describe(&owner("a")).await.unwrap().unwrap();
    let fields: Vec<_> = record
        .fields
        .iter()
        .map(|(key, stored)| (key.as_str(), stored.generation))
        .collect();
    assert_eq!((record.generation, fields), (2, vec![("token", 2)]));
    assert_eq!(value(&again, "a", "token").await.unwrap(), "two");

    store.outgrow(&owner("a"), 5).await.unwrap();
    let (again, _copy) = crashed(&directory).await;
    assert_eq!(again.describe(&owner("a")).await.unwrap().unwrap().generation, 6);
    assert_eq!(value(&again, "a", "token").await.unwrap(), "two");

    store.erase(&owner("a")).await.unwrap();
    let (again, _copy) = crashed(&directory).await;
    assert_eq!(again.describe(&owner("a")).await.unwrap(), None);
    assert_eq!(again.answered(&request).await.unwrap(), None);
    assert_eq!(
        again.write(&owner("a"), change(0, &[("token", "x")])).await.unwrap(),
        Written::Erased
    );
}

#[tokio::test]
async fn changes_only_what_the_change_was_decided_on() {
    let (store, _directory) = open().await;
    let write = async |expected, value| {
        store
            .write(&owner("a"), change(expected, &[("token", value)]))
            .await
            .unwrap()
    };
    assert_eq!(write(3, "early").await, Written::Conflict);
    assert_eq!(
        store.describe(&owner("a")).await.unwrap(),
        None,
        "nothing half-made stays"
    );
    assert_eq!(write(0, "one").await, Written::Done);
    assert_eq!(write(0, "late").await, Written::Conflict);
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one");

    let mut with_id = change(1, &[("token", "two")]);
    with_id.answer = Some(answer(1, 2));
    assert_eq!(store.write(&owner("a"), with_id).await.unwrap(), Written::Done);
    let mut same_id = change(2, &[("token", "three")]);
    same_id.answer = Some(answer(1, 3));
    assert_eq!(store.write(&owner("a"), same_id).await.unwrap(), Written::Conflict);
    assert_eq!(value(&store, "a", "token").await.unwrap(), "two");
}

#[tokio::test]
async fn outgrows_what_a_lost_store_had_told() {
    let (store, _directory) = open().await;
    let outgrown = async |uid: &str, told| {
        store.outgrow(&owner(uid), told).await.unwrap();
        store
            .describe(&owner(uid))
            .await
            .unwrap()
            .map(|record| record.generation)
    };
    assert_eq!(outgrown("a", 5).await, Some(6), "nothing was known");
    assert_eq!(outgrown("a", 6).await, Some(6), "no less is known");
    assert_eq!(outgrown("a", 3).await, Some(6));
    assert_eq!(
        store.write(&owner("a"), change(6, &[("token", "one")])).await.unwrap(),
        Written::Done
    );
    assert_eq!(outgrown("a", 9).await, Some(10));
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one", "the values stay");
    store.erase(&owner("a")).await.unwrap();
    assert_eq!(outgrown("a", 20).await, None, "what was erased stays so");
}

#[tokio::test]
async fn describes_many_as_it_describes_one() {
    let (store, _directory) = open().await;
    store
        .write(&owner("a"), change(0, &[("token", "one"), ("other", "x")]))
        .await
        .unwrap();
    store.write(&owner("b"), change(0, &[("token", "two")])).await.unwrap();
    store.outgrow(&owner("empty"), 2).await.unwrap();
    store.write(&owner("gone"), change(0, &[("token", "x")])).await.unwrap();
    store.erase(&owner("gone")).await.unwrap();
    let asked = ["a", "empty", "gone", "unknown"].map(owner);
    let many = store.describe_many(&asked).await.unwrap();
    assert_eq!(many.len(), 2, "{many:?}");
    for uid in ["a", "empty"] {
        let one = store.describe(&owner(uid)).await.unwrap();
        assert_eq!(many.get(&owner(uid)), one.as_ref());
    }
}

#[tokio::test]
async fn opens_a_file_of_the_first_version() {
    let (store, directory) = open().await;
    store.write(&owner("a"), change(0, &[("token", "one")])).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE effective (installation TEXT PRIMARY KEY, generation BIGINT NOT NULL, fingerprint BLOB NOT NULL);
         PRAGMA user_version = 1",
    )
    .execute(&store.write)
    .await
    .unwrap();
    drop(store);
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(schema::version(&store.write).await.unwrap(), schema::VERSION);
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one");
}

#[tokio::test]
async fn notices_values_that_were_swapped_or_rolled_back() {
    let (store, _directory) = open().await;
    store
        .write(&owner("a"), change(0, &[("token", "alices"), ("other", "x")]))
        .await
        .unwrap();
    store.write(&owner("b"), change(0, &[("token", "bobs")])).await.unwrap();
    for tampering in [
        "UPDATE secrets SET (nonce, sealed) = (SELECT nonce, sealed FROM secrets WHERE owner = 'installation:b')
         WHERE owner = 'installation:a' AND field = 'token'",
        "UPDATE secrets SET (nonce, sealed) =
             (SELECT nonce, sealed FROM secrets WHERE owner = 'installation:b' AND field = 'token'), generation = 2
         WHERE owner = 'installation:b'",
    ] {
        sqlx::raw_sql(tampering).execute(&store.write).await.unwrap();
    }
    for uid in ["a", "b"] {
        let error = store.open(&owner(uid)).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
}

#[tokio::test]
async fn refuses_data_without_its_key() {
    let (store, directory) = open().await;
    store.write(&owner("a"), change(0, &[("token", "one")])).await.unwrap();
    drop(store);
    let key = directory.path().join("credential.key");
    let original = fs::read(&key).unwrap();
    let open = async || LocalStore::open(directory.path()).await.unwrap_err();

    fs::write(&key, hex::encode([7; 32])).unwrap();
    assert!(matches!(open().await, OpenError::KeyWrong { .. }));
    fs::write(&key, "short").unwrap();
    assert!(matches!(open().await, OpenError::KeyMalformed { .. }));
    fs::write(&key, &original).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open().await;
    assert!(
        matches!(error, OpenError::Unsafe { .. }) && error.to_string().contains("chmod 600"),
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
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one");
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
    store.write(&owner("a"), change(0, &[("token", "one")])).await.unwrap();
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
