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

const HOME: &str = "https://example.com";
const EVIL: &str = "https://evil.example";

fn agreed(description: &str) -> Agreed {
    Agreed {
        description: description.to_owned(),
        parts: Vec::new(),
    }
}

fn change(expected_generation: i64, values: &[(&str, &str)]) -> Change {
    Change {
        expected_generation,
        time: 7,
        bound_destination: HOME.to_owned(),
        agreed: Some(agreed("home")),
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
        bound_description: String::new(),
        present_description: String::new(),
        changes: Vec::new(),
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
    make_second_version(&store).await;
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

/// Makes the file what a program of the second version would have left: values sealed for their place alone.
async fn make_second_version(store: &LocalStore) {
    const ALL: &str = "SELECT s.owner, s.field, s.generation, s.nonce, s.sealed, r.bound_destination
        FROM secrets s JOIN records r ON r.owner = s.owner";
    for row in sqlx::query(ALL).fetch_all(&store.write).await.unwrap() {
        let (owner, field, destination): (String, String, String) = (row.get(0), row.get(1), row.get(5));
        let place = Place {
            owner: &owner,
            field: &field,
            generation: row.get(2),
            destination: Some(&destination),
        };
        let sealed = Sealed {
            nonce: row.get(3),
            text: row.get(4),
        };
        let value = store.seal.open(place, sealed).unwrap();
        let sealed = store.seal.seal(
            Place {
                destination: None,
                ..place
            },
            &value,
        );
        sqlx::query("UPDATE secrets SET nonce = $3, sealed = $4 WHERE owner = $1 AND field = $2")
            .bind(&owner)
            .bind(&field)
            .bind(sealed.nonce)
            .bind(sealed.text)
            .execute(&store.write)
            .await
            .unwrap();
    }
    sqlx::raw_sql(
        "ALTER TABLE records DROP COLUMN agreed; ALTER TABLE records DROP COLUMN agreed_nonce; PRAGMA user_version = 2",
    )
    .execute(&store.write)
    .await
    .unwrap();
}

#[tokio::test]
async fn binds_the_values_of_a_file_of_the_second_version() {
    let (store, directory) = open().await;
    let many: Vec<String> = (0..300).map(|n| format!("owner-{n}")).collect();
    for uid in &many {
        let values = [("other", "x"), ("token", uid.as_str())];
        store.write(&owner(uid), change(0, &values)).await.unwrap();
    }
    store
        .write(&owner("broken"), change(0, &[("token", "x")]))
        .await
        .unwrap();
    make_second_version(&store).await;
    sqlx::raw_sql("UPDATE secrets SET sealed = X'00' WHERE owner = 'installation:broken'")
        .execute(&store.write)
        .await
        .unwrap();
    drop(store);
    let store = LocalStore::open(directory.path()).await.unwrap();
    for uid in &many {
        let opened = store.open(&owner(uid)).await.unwrap().unwrap();
        assert_eq!((opened.agreed, opened.record.bound_destination.as_str()), (None, HOME));
        assert_eq!(opened.values["token"].expose_secret(), uid);
    }
    assert!(
        store.open(&owner("broken")).await.is_err(),
        "one that was broken stays so"
    );
    // It is bound from now on.
    sqlx::query("UPDATE records SET bound_destination = $1")
        .bind(EVIL)
        .execute(&store.write)
        .await
        .unwrap();
    assert!(store.open(&owner("owner-7")).await.is_err());
}

/// The file is in other hands: nothing in it makes a value go elsewhere.
#[tokio::test]
async fn notices_a_destination_that_was_edited() {
    let (store, directory) = open().await;
    let with_fields = [("token", "one"), ("other", "x")];
    store.write(&owner("a"), change(0, &with_fields)).await.unwrap();
    store.write(&owner("b"), change(0, &[("token", "two")])).await.unwrap();
    let mut elsewhere = change(1, &[("token", "two")]);
    elsewhere.bound_destination = EVIL.to_owned();
    store.write(&owner("b"), elsewhere).await.unwrap();
    for edit in [
        "UPDATE records SET bound_destination = 'https://evil.example' WHERE owner = 'installation:a'",
        // Together with what belongs to it, of somebody who agreed to it.
        "UPDATE records SET (bound_destination, agreed, agreed_nonce) =
             (SELECT bound_destination, agreed, agreed_nonce FROM records WHERE owner = 'installation:b')
         WHERE owner = 'installation:a'",
        // With nothing to compare with.
        "UPDATE records SET bound_destination = 'https://evil.example', agreed = NULL, agreed_nonce = NULL
         WHERE owner = 'installation:a'",
        "UPDATE records SET bound_destination = '' WHERE owner = 'installation:a'",
    ] {
        let (edited, copy) = crashed(&directory).await;
        sqlx::raw_sql(edit).execute(&edited.write).await.unwrap();
        let corrupt = |error: StoreError| assert!(matches!(error, StoreError::Corrupt(_)), "{edit}: {error}");
        corrupt(edited.open(&owner("a")).await.unwrap_err());
        // Nor does somebody's next change make it true: neither a confirmation nor a rotation of one of them.
        let mut confirmation = change(1, &[]);
        confirmation.bound_destination = "https://third.example".to_owned();
        corrupt(edited.write(&owner("a"), confirmation).await.unwrap_err());
        let mut rotation = change(1, &[("token", "new")]);
        rotation.bound_destination = EVIL.to_owned();
        // Where it is as it was edited, what was not rotated stays closed.
        let _refused = edited.write(&owner("a"), rotation).await;
        corrupt(edited.open(&owner("a")).await.unwrap_err());
        drop((edited, copy));
    }
    // What was agreed to cannot be exchanged either.
    let swap = "UPDATE records SET (agreed, agreed_nonce) =
        (SELECT agreed, agreed_nonce FROM records WHERE owner = 'installation:b') WHERE owner = 'installation:a'";
    sqlx::raw_sql(swap).execute(&store.write).await.unwrap();
    assert!(store.open(&owner("a")).await.is_err());
}

#[tokio::test]
async fn a_confirmation_binds_what_is_there() {
    let (store, _directory) = open().await;
    store
        .write(&owner("a"), change(0, &[("token", "one"), ("other", "x")]))
        .await
        .unwrap();
    let opened = store.open(&owner("a")).await.unwrap().unwrap();
    assert_eq!(opened.agreed, Some(agreed("home")));
    let mut confirmation = change(1, &[]);
    confirmation.bound_destination = "https://next.example".to_owned();
    confirmation.agreed = Some(agreed("next"));
    store.write(&owner("a"), confirmation).await.unwrap();
    let opened = store.open(&owner("a")).await.unwrap().unwrap();
    assert_eq!(opened.agreed, Some(agreed("next")));
    assert_eq!(opened.values["token"].expose_secret(), "one");
    let generations: Vec<i64> = opened.record.fields.values().map(|field| field.generation).collect();
    assert_eq!(
        (opened.record.generation, generations),
        (2, vec![1, 1]),
        "nothing was put"
    );
    let forget = Change {
        forget: BTreeSet::from(["token".to_owned(), "other".to_owned()]),
        bound_destination: String::new(),
        agreed: None,
        ..change(2, &[])
    };
    store.write(&owner("a"), forget).await.unwrap();
    let opened = store.open(&owner("a")).await.unwrap().unwrap();
    assert_eq!((opened.agreed, opened.values.len()), (None, 0));
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
    let current = Seal::new(&Key::new(*ring.keys().next().unwrap()));
    (ring.keys().len(), rotate::check(&current) == known)
}

#[tokio::test]
async fn a_new_key_seals_everything_anew() {
    let (store, directory) = open().await;
    // More than are sealed anew at once.
    for n in 0..300 {
        let uid = format!("{n:03}");
        store
            .write(&owner(&uid), change(0, &[("token", &uid), ("other", "x")]))
            .await
            .unwrap();
    }
    let sealed = |store: &LocalStore| {
        let rows = sqlx::query("SELECT sealed FROM secrets ORDER BY owner, field");
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
        assert_eq!(value(&store, &uid, "token").await.unwrap(), uid);
        assert_eq!(value(&store, &uid, "other").await.unwrap(), "x");
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

/// Killed before and after each step: whatever is there opens, and ends with one key.
#[tokio::test]
async fn an_exchange_of_keys_that_was_cut_off_is_completed() {
    let (store, directory) = open().await;
    store.write(&owner("a"), change(0, &[("token", "one")])).await.unwrap();
    store.close().await;
    let file = directory.path().join(KEY_FILE);
    let ring = Ring::existing(&file).unwrap().unwrap();

    // The new key is in the file, and nothing is sealed with it.
    let both = ring.rotated().unwrap();
    both.save(&file).unwrap();
    assert_eq!(keys(directory.path()).await, (2, false));
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one");
    store.close().await;
    assert_eq!(keys(directory.path()).await, (1, true));

    // All is sealed with the new key, and the old one still in the file.
    both.save(&file).unwrap();
    assert_eq!(keys(directory.path()).await, (2, true));
    let store = LocalStore::open(directory.path()).await.unwrap();
    assert_eq!(value(&store, "a", "token").await.unwrap(), "one");
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

/// Whoever adds a column with something sealed in it must seal it anew in `rotate`.
#[tokio::test]
async fn every_sealed_column_is_sealed_anew() {
    let (store, _directory) = open().await;
    let columns: Vec<String> = sqlx::query(
        "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND c.type = 'BLOB' ORDER BY 1",
    )
    .map(|row: SqliteRow| row.get(0))
    .fetch_all(&store.write)
    .await
    .unwrap();
    // Digests of requests are not sealed: a retry of before is refused as another request.
    assert_eq!(
        columns,
        [
            "key_check.digest",
            "records.agreed",
            "records.agreed_nonce",
            "requests.digest",
            "secrets.nonce",
            "secrets.sealed"
        ]
    );
}
