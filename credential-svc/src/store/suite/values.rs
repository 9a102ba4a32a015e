//! The store by itself.

use std::collections::BTreeSet;

use futures::future::join_all;
use pretty_assertions::assert_eq;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::Bench;
use crate::domain::{
    authorization::{
        grant::{Grant, Lease, Tokens, Unrevoked},
        pending::Pending,
        plan::Server,
        registered::Registered,
        servers::{Authentication, Client},
    },
    destination::Agreed,
    owner::Owner,
    ports::{Store, StoreError, Version, Written},
    record::{Field, Record, Value},
    replay::{Answer, Answers, Request},
    summary::{StoredField, Summary},
};

fn owner(uid: &str) -> Owner {
    Owner::Installation(uid.to_owned())
}

fn record(generation: i64, values: &[(&str, &str)]) -> Record {
    let field = |&(key, value): &(&str, &str)| {
        let stored = StoredField {
            generation,
            update_time: 7,
        };
        let value = SecretString::from(value);
        (key.to_owned(), Field { stored, value })
    };
    Record {
        generation,
        bound_destination: "https://example.com".to_owned(),
        fields: values.iter().map(field).collect(),
        ..Record::default()
    }
}

/// With something in every part of it.
fn full(hostile: &str) -> Record {
    let mut record = record(3, &[("token", hostile), (hostile, "x")]);
    let stored = record.fields["token"].stored;
    record.bound_destination = hostile.to_owned();
    record.agreed = Some(Agreed {
        description: hostile.to_owned(),
        parts: Vec::new(),
    });
    record.answers = Answers::new(vec![Answer {
        request: Request::new(hostile.to_owned(), Uuid::from_u128(1), [hostile.as_bytes()]),
        time: 7,
        summary: Summary {
            name: hostile.to_owned(),
            generation: i64::MAX,
            fields: [(hostile.to_owned(), stored)].into(),
            missing: vec![hostile.to_owned()],
            bound_destination: hostile.to_owned(),
            present_destination: hostile.to_owned(),
            bound_description: hostile.to_owned(),
            present_description: hostile.to_owned(),
            changes: Vec::new(),
            connection: None,
        },
    }]);
    record.tokens = tokens(hostile);
    record.clients = vec![Registered {
        issuer: hostile.to_owned(),
        redirect_uri: hostile.to_owned(),
        client: Client {
            id: hostile.to_owned(),
            authentication: Authentication::Post(hostile.into()),
        },
        expire_time: Some(i64::MIN),
    }];
    record
}

fn tokens(hostile: &str) -> Tokens {
    let server = Server::Endpoints {
        issuer: hostile.to_owned(),
        authorization: hostile.to_owned(),
        token: String::new(),
        revocation: hostile.to_owned(),
    };
    Tokens {
        number: i64::MAX,
        grant: Some(Grant {
            server: server.clone(),
            client_id: hostile.to_owned(),
            authentication: Some(Authentication::Basic(hostile.into())),
            resource: hostile.to_owned(),
            scopes: vec![hostile.to_owned(), String::new()],
            declined: vec![hostile.to_owned()],
            basis: [0xff; 32],
            access: hostile.into(),
            expire_time: Some(i64::MAX),
            refresh: Some(hostile.into()),
            account: hostile.to_owned(),
            connect_time: 1,
            refresh_time: i64::MIN,
        }),
        lease: Some(Lease {
            holder: Uuid::from_u128(7),
            until: 3,
        }),
        failure: Some(hostile.to_owned()),
        refusal: Some(hostile.to_owned()),
        demanded: vec![hostile.to_owned()],
        pending: vec![Pending {
            state: [7; 32],
            verifier: hostile.into(),
            server: Server::Issuer(hostile.to_owned()),
            client_id: hostile.to_owned(),
            authentication: Some(Authentication::PrivateKey {
                key: hostile.into(),
                id: Some(hostile.to_owned()),
            }),
            resource: hostile.to_owned(),
            scopes: Vec::new(),
            redirect_uri: hostile.to_owned(),
            user: hostile.to_owned(),
            destination: hostile.to_owned(),
            expire_time: 0,
        }],
        unrevoked: vec![Unrevoked {
            server: Server::Issuer(hostile.to_owned()),
            client: Client {
                id: hostile.to_owned(),
                authentication: Authentication::None,
            },
            account: hostile.to_owned(),
            access: hostile.into(),
            refresh: Some(hostile.into()),
            since: i64::MIN,
        }],
    }
}

async fn write(store: &impl Store, uid: &str, expected: Version, record: Record) -> Written {
    let written = store.write(&owner(uid), expected, Value::Record(record)).await;
    written.unwrap()
}

/// Version and record.
async fn read(store: &impl Store, uid: &str) -> Option<(Version, Record)> {
    match store.read(&owner(uid)).await.unwrap()? {
        (version, Value::Record(record)) => Some((version, record)),
        (_, Value::Erased { .. }) => panic!("{uid} is erased"),
    }
}

/// A value in every detail, secrets included.
fn shown(record: &Record) -> String {
    let mut secrets: Vec<&SecretString> = record.fields.values().map(|field| &field.value).collect();
    let of_client = |authentication: &Authentication| match authentication {
        Authentication::None => String::new(),
        Authentication::Basic(secret) | Authentication::Post(secret) => secret.expose_secret().to_owned(),
        Authentication::PrivateKey { key, .. } => key.expose_secret().to_owned(),
    };
    let clients: Vec<String> = (record.clients.iter().map(|one| &one.client.authentication))
        .chain(
            record
                .tokens
                .pending
                .iter()
                .filter_map(|one| one.authentication.as_ref()),
        )
        .chain(record.tokens.grant.iter().filter_map(|one| one.authentication.as_ref()))
        .map(of_client)
        .collect();
    secrets.extend(record.tokens.pending.iter().map(|one| &one.verifier));
    secrets.extend(record.tokens.grant.iter().map(|one| &one.access));
    secrets.extend(record.tokens.grant.iter().filter_map(|one| one.refresh.as_ref()));
    secrets.extend(record.tokens.unrevoked.iter().map(|one| &one.access));
    secrets.extend(record.tokens.unrevoked.iter().filter_map(|one| one.refresh.as_ref()));
    let secrets: Vec<_> = secrets
        .into_iter()
        .map(|secret| secret.expose_secret().to_owned())
        .collect();
    format!("{record:?} {secrets:?} {clients:?}")
}

pub(in crate::store) async fn a_write_takes_the_version_it_was_decided_on<B: Bench>() {
    let bench = B::new().await;
    let (store, other) = (bench.connect().await, bench.connect().await);
    assert!(store.read(&owner("a")).await.unwrap().is_none());
    let early = write(&store, "a", Version(1), record(9, &[])).await;
    assert_eq!(early, Written::Conflict);
    assert!(
        store.read(&owner("a")).await.unwrap().is_none(),
        "nothing half-made stays"
    );

    assert_eq!(
        write(&store, "a", Version::NONE, record(1, &[("token", "one")])).await,
        Written::Done
    );
    for late in [Version::NONE, Version(2)] {
        let lost = write(&other, "a", late, record(2, &[("token", "two")])).await;
        assert_eq!(lost, Written::Conflict);
    }
    let (version, kept) = read(&other, "a").await.unwrap();
    assert_eq!(
        (kept.generation, kept.fields["token"].value.expose_secret()),
        (1, "one")
    );
    assert_eq!(
        write(&other, "a", version, record(2, &[("token", "two")])).await,
        Written::Done
    );
    let (next, kept) = read(&store, "a").await.unwrap();
    assert_eq!((next, kept.generation), (version.next(), 2));
    assert_eq!(write(&store, "a", version, record(3, &[])).await, Written::Conflict);
    assert!(store.read(&owner("b")).await.unwrap().is_none(), "of another owner");
}

pub(in crate::store) async fn of_many_writers_one_wins_each_version<B: Bench>() {
    const EACH: i64 = 10;
    let bench = B::new().await;
    let stores = [bench.connect().await, bench.connect().await, bench.connect().await];
    let writers = stores
        .iter()
        .cycle()
        .take(6)
        .enumerate()
        .map(|(writer, store)| async move {
            let mut won = Vec::new();
            while (won.len() as i64) < EACH {
                let before = read(store, "a").await;
                let (version, known) = before.unwrap_or((Version::NONE, Record::default()));
                let key = format!("{writer}-{}", won.len());
                let mut next = known;
                next.generation += 1;
                next.fields.extend(record(next.generation, &[(&key, "x")]).fields);
                if write(store, "a", version, next).await == Written::Done {
                    won.push(version.next());
                }
            }
            won
        });
    let won: Vec<Version> = join_all(writers).await.concat();
    let distinct: BTreeSet<Version> = won.iter().copied().collect();
    assert_eq!((won.len(), distinct.len()), (60, 60), "no version was won twice");
    let (_, last) = read(&stores[0], "a").await.unwrap();
    assert_eq!((last.generation, last.fields.len()), (60, 60), "nothing is lost");
}

pub(in crate::store) async fn every_write_outlives_a_crash<B: Bench>() {
    let bench = B::new().await;
    let store = bench.connect().await;
    let after = async || {
        let found = bench.copy().await;
        let store = found.connect().await;
        (store, found)
    };
    let kept = full("one");
    assert_eq!(write(&store, "a", Version::NONE, kept.clone()).await, Written::Done);
    assert_eq!(shown(&read(&after().await.0, "a").await.unwrap().1), shown(&kept));
    assert_eq!(
        write(&store, "a", Version(1), record(4, &[("token", "two")])).await,
        Written::Done
    );
    let (_, record) = read(&after().await.0, "a").await.unwrap();
    assert!(record.fields.keys().eq(["token"]));
    let erased = store.write(&owner("a"), Version(2), Value::erased(5)).await.unwrap();
    assert_eq!(erased, Written::Done);
    let again = after().await.0.read(&owner("a")).await.unwrap();
    assert!(matches!(again, Some((_, Value::Erased { time: 5, .. }))), "{again:?}");
    store.delete(&owner("a")).await.unwrap();
    assert!(after().await.0.read(&owner("a")).await.unwrap().is_none());
}

pub(in crate::store) async fn large_and_hostile_values_come_back_as_they_were<B: Bench>() {
    let bench = B::new().await;
    let store = bench.connect().await;
    let hostile = [
        "\0",
        "\u{1f}\r\n\t",
        "\"}]}\\",
        "</script><!--",
        "\u{feff}\u{202e}\u{2028}\u{10ffff}",
        "{\"$ref\":0}",
        "' OR 1=1 --",
        "ÿ",
        "",
    ];
    for (number, text) in hostile.into_iter().enumerate() {
        let (uid, kept) = (format!("hostile-{number}"), full(text));
        assert_eq!(write(&store, &uid, Version::NONE, kept.clone()).await, Written::Done);
        assert_eq!(shown(&read(&store, &uid).await.unwrap().1), shown(&kept), "{text:?}");
    }
    for generation in [0, -1, i64::MIN, i64::MAX, (1 << 53) + 1] {
        let uid = format!("number{generation}");
        assert_eq!(
            write(&store, &uid, Version::NONE, record(generation, &[])).await,
            Written::Done
        );
        assert_eq!(read(&store, &uid).await.unwrap().1.generation, generation);
    }
    // As much as one owner can put, and more than any store takes: kept whole, or refused, and then what was there stays.
    for (uid, fields, length) in [("one", 1, 64 << 10), ("most", 64, 64 << 10), ("more", 288, 64 << 10)] {
        let text = "\u{1}".repeat(length);
        let keys: Vec<String> = (0..fields).map(|field| format!("field-{field}")).collect();
        let values: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), text.as_str())).collect();
        assert_eq!(
            write(&store, uid, Version::NONE, record(1, &[("token", "small")])).await,
            Written::Done
        );
        let large = Value::Record(record(2, &values));
        let kept = match store.write(&owner(uid), Version(1), large).await {
            Ok(written) => {
                assert_eq!(written, Written::Done);
                values
            }
            Err(StoreError::TooLarge { size, limit }) => {
                assert!(size > limit && uid != "one", "{uid}: {size} {limit}");
                vec![("token", "small")]
            }
            Err(error) => panic!("{uid}: {error}"),
        };
        let (_, read) = read(&store, uid).await.unwrap();
        let same = |&(key, value): &(&str, &str)| read.fields[key].value.expose_secret() == value;
        assert!(read.fields.len() == kept.len() && kept.iter().all(same), "{uid}");
    }
}

pub(in crate::store) async fn owners_are_listed_page_by_page<B: Bench>() {
    let bench = B::new().await;
    let store = bench.connect().await;
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    let mut owners: Vec<Owner> = ["a", "b", "b-1", "b1", "c", "Z", "0f"].map(owner).into();
    owners.extend(["a", "d"].map(|uid| Owner::Entry(uid.to_owned())));
    for owner in &owners {
        let value = match owner.uid() {
            // Tombstones are listed, too.
            "c" => Value::erased(1),
            _ => Value::Record(record(1, &[])),
        };
        assert_eq!(store.write(owner, Version::NONE, value).await.unwrap(), Written::Done);
    }
    let in_order = store.list(None, 100).await.unwrap();
    let sorted = |mut owners: Vec<Owner>| {
        owners.sort();
        owners
    };
    assert_eq!(sorted(in_order.clone()), sorted(owners));
    for limit in [1, 2, 3, in_order.len(), 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            found.extend(page.iter().cloned());
            if page.len() < limit {
                break;
            }
            after = page.into_iter().next_back();
        }
        assert_eq!(found, in_order, "{limit}");
    }
    // One that goes in the middle of a walk takes none of the others along.
    store.delete(&in_order[3]).await.unwrap();
    assert_eq!(store.list(Some(&in_order[3]), 2).await.unwrap(), in_order[4..6]);
}

pub(in crate::store) async fn what_is_deleted_is_gone_and_can_be_created_again<B: Bench>() {
    let bench = B::new().await;
    let store = bench.connect().await;
    store.delete(&owner("a")).await.unwrap();
    assert_eq!(
        write(&store, "a", Version::NONE, record(1, &[("token", "one")])).await,
        Written::Done
    );
    assert_eq!(
        write(&store, "a", Version(1), record(2, &[("token", "two")])).await,
        Written::Done
    );
    assert_eq!(write(&store, "b", Version::NONE, record(1, &[])).await, Written::Done);
    store.delete(&owner("a")).await.unwrap();
    store.delete(&owner("a")).await.unwrap();
    assert!(bench.connect().await.read(&owner("a")).await.unwrap().is_none());
    assert_eq!(store.list(None, 10).await.unwrap(), [owner("b")]);
    for stale in [Version(1), Version(2)] {
        assert_eq!(write(&store, "a", stale, record(3, &[])).await, Written::Conflict);
    }
    assert_eq!(
        write(&store, "a", Version::NONE, record(1, &[("other", "x")])).await,
        Written::Done
    );
    let (version, again) = read(&store, "a").await.unwrap();
    assert!(version > Version::NONE && again.fields.keys().eq(["other"]));
}

pub(in crate::store) async fn a_damaged_value_is_corrupt_and_can_be_deleted<B: Bench>() {
    let bench = B::new().await;
    let store = bench.connect().await;
    assert_eq!(
        write(&store, "a", Version::NONE, record(1, &[("token", "canary")])).await,
        Written::Done
    );
    bench.damage(&owner("a")).await;
    let error = store.read(&owner("a")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(_)), "{error}");
    assert!(!error.to_string().contains("canary"));
    assert_eq!(
        store.list(None, 10).await.unwrap(),
        [owner("a")],
        "it does not stop a walk"
    );
    store.delete(&owner("a")).await.unwrap();
    assert_eq!(write(&store, "a", Version::NONE, record(1, &[])).await, Written::Done);
}

pub(in crate::store) async fn an_unreachable_store_is_unavailable<B: Bench>() {
    let bench = B::new().await;
    let mut store = bench.connect().await;
    assert_eq!(write(&store, "a", Version::NONE, record(1, &[])).await, Written::Done);
    store.check().await.unwrap();
    B::cut_off(&mut store).await;
    let a = owner("a");
    let answers = [
        store.read(&a).await.map(drop),
        store.write(&a, Version(1), Value::erased(1)).await.map(drop),
        store.delete(&a).await,
        store.list(None, 1).await.map(drop),
        store.check().await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    let (version, _) = read(&bench.connect().await, "a").await.unwrap();
    assert_eq!(version, Version(1), "others reach it, and nothing was changed");
}
