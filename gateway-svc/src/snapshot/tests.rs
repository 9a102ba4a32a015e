//! Changes, one revision at a time.

use std::{sync::Arc, time::Duration};

use contracts::registry::{self as pb, AssignmentMode, Change, ObjectKind, Removal, change, watched_object::Object};
use pretty_assertions::assert_eq;
use registry_client::watch::Sink as _;
use service_kit::{Clock, Readiness, clock::ManualClock};
use tokio::sync::mpsc;

use super::{
    Feed, Snapshot, Store,
    testing::{Made, Registry, entry, gateway, person, plain_entry, plain_gateway, put, user_id},
};
use crate::domain::{CallError, ConsumerKind, ConsumerRef, Endpoint};

fn put_change(object: pb::WatchedObject) -> Change {
    Change {
        change: Some(change::Change::Put(object)),
    }
}

fn remove(kind: ObjectKind, key: &str) -> Change {
    Change {
        change: Some(change::Change::Remove(Removal {
            kind: kind.into(),
            key: key.to_owned(),
        })),
    }
}

fn gateway_ref(slug: &str) -> ConsumerRef {
    ConsumerRef::new(ConsumerKind::Gateway, slug)
}

fn names(snapshot: &Snapshot, gateway: &str) -> Vec<String> {
    let table = snapshot.table(&gateway_ref(gateway)).unwrap();
    table
        .routes()
        .iter()
        .map(|route| route.exposed_name.to_string())
        .collect()
}

fn labelled(slug: &str, value: &str) -> pb::WatchedObject {
    entry(pb::Entry {
        labels: [("area".to_owned(), value.to_owned())].into(),
        ..plain_entry(slug)
    })
}

fn automatic(slug: &str, value: &str) -> pb::WatchedObject {
    gateway(pb::Gateway {
        assignment_mode: AssignmentMode::Automatic.into(),
        labels: [("area".to_owned(), value.to_owned())].into(),
        ..plain_gateway(slug)
    })
}

/// Lesson 45: automatic assignment is in force with the revision that causes it, and only what it touches is built again.
#[test]
fn labels_move_tools_at_once_and_leave_other_tables_alone() {
    let first = Registry::default()
        .with(labelled("time", "core"))
        .tools("e-time", &["now"])
        .with(automatic("core", "core"))
        .with(automatic("web", "web"))
        .entry("mail", &["send"])
        .gateway("manual")
        .assign("manual", "mail", "send")
        .snapshot();
    assert_eq!(
        (names(&first, "core"), names(&first, "web")),
        (vec!["time__now".to_owned()], vec![])
    );
    let second = first.after(2, vec![put_change(labelled("time", "web"))]);
    assert_eq!(
        (names(&second, "core"), names(&second, "web")),
        (vec![], vec!["time__now".to_owned()])
    );
    let untouched = |snapshot: &Snapshot| Arc::clone(snapshot.table(&gateway_ref("manual")).unwrap());
    assert!(Arc::ptr_eq(&untouched(&first), &untouched(&second)));
    assert_eq!(
        names(&first, "core"),
        ["time__now"],
        "a snapshot in use stays what it was"
    );
    assert_eq!((first.revision(), second.revision()), (1, 2));
}

#[test]
fn tools_come_with_discovery_and_go_with_removal() {
    let snapshot = Registry::default()
        .with(labelled("time", "core"))
        .with(automatic("core", "core"))
        .snapshot();
    assert!(
        names(&snapshot, "core").is_empty(),
        "a never installed entry has no tools"
    );
    let discovered = Registry::default()
        .tools("e-time", &["now", "convert"])
        .objects
        .into_iter()
        .map(put_change)
        .collect();
    let snapshot = snapshot.after(2, discovered);
    assert_eq!(names(&snapshot, "core"), ["time__convert", "time__now"]);
    let deleted = pb::Entry {
        delete_time: Some(prost_types::Timestamp::default()),
        ..plain_entry("time")
    };
    assert!(names(&snapshot.after(3, vec![put_change(entry(deleted))]), "core").is_empty());
    assert!(names(&snapshot.after(3, vec![remove(ObjectKind::ToolSet, "e-time")]), "core").is_empty());
    assert!(names(&snapshot.after(3, vec![remove(ObjectKind::Entry, "e-time")]), "core").is_empty());
}

#[test]
fn assignments_gateways_and_tokens_come_and_go() {
    let snapshot = Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .assign("default", "time", "now")
        .snapshot();
    let without = snapshot.after(2, vec![remove(ObjectKind::ToolAssignment, "a-default-time-now")]);
    assert!(names(&without, "default").is_empty());
    let gone = snapshot.after(2, vec![remove(ObjectKind::Gateway, "g-default")]);
    assert!(gone.consumer(&gateway_ref("default")).is_none());

    // A slug used again is another gateway: it inherits nothing, and the old one's removal does not take it away.
    let reused = snapshot.after(
        2,
        vec![
            put_change(gateway(pb::Gateway {
                uid: "g-2".to_owned(),
                ..plain_gateway("default")
            })),
            remove(ObjectKind::Gateway, "g-default"),
        ],
    );
    assert!(names(&reused, "default").is_empty());

    let token = |hash: u8| {
        let subject = Some(pb::gateway_token::Subject::Team("teams/core".to_owned()));
        let gateway_token = Some(pb::GatewayToken {
            name: "gatewayTokens/t".to_owned(),
            subject,
            ..pb::GatewayToken::default()
        });
        put(
            "t",
            Object::GatewayToken(pb::WatchedGatewayToken {
                gateway_token,
                token_hash: vec![hash; 32],
                ..Default::default()
            }),
        )
    };
    let with = snapshot.after(2, vec![put_change(token(1))]);
    assert!(with.gateway_token(&[1; 32]).is_some());
    assert!(
        with.after(3, vec![remove(ObjectKind::GatewayToken, "t")])
            .gateway_token(&[1; 32])
            .is_none()
    );

    let shut_out = put(
        "d",
        Object::DeactivatedUser(pb::DeactivatedUser {
            user: user_id("alice").resource_name(),
        }),
    );
    let without_alice = snapshot.after(2, vec![put_change(shut_out)]);
    assert!(without_alice.is_deactivated(&user_id("alice")));
    assert!(
        !without_alice
            .after(3, vec![remove(ObjectKind::DeactivatedUser, "d")])
            .is_deactivated(&user_id("alice"))
    );
}

#[test]
fn an_object_that_makes_no_sense_spoils_no_other() {
    let nameless = put(
        "x",
        Object::Gateway(pb::Gateway {
            name: "nonsense".to_owned(),
            ..pb::Gateway::default()
        }),
    );
    let short_hash = put(
        "y",
        Object::GatewayToken(pb::WatchedGatewayToken {
            token_hash: vec![1],
            ..Default::default()
        }),
    );
    let snapshot = Registry::default()
        .with(nameless)
        .with(short_hash)
        .with(pb::WatchedObject::default())
        .gateway("default")
        .snapshot();
    assert!(snapshot.consumer(&gateway_ref("default")).is_some());
}

#[test]
fn headers_of_an_installation_come_from_the_entry_and_its_values() {
    let field = |key: &str, kind: pb::InstallFieldType| pb::InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        target: Some(pb::install_field::Target::Header(pb::HeaderTarget {
            name: format!("x-{key}"),
        })),
        ..pb::InstallField::default()
    };
    let header = |name: &str, source| pb::AdditionalHeader {
        name: name.to_owned(),
        source: Some(source),
    };
    let running = pb::Entry {
        credential_model: Some(pb::entry::CredentialModel::NoCredential(pb::NoCredential {})),
        install_fields: vec![
            pb::InstallField {
                default_value: "eu".to_owned(),
                ..field("region", pb::InstallFieldType::String)
            },
            pb::InstallField {
                source: pb::InstallFieldSource::Stored.into(),
                stored_value: "acme".to_owned(),
                target: None,
                ..field("tenant", pb::InstallFieldType::String)
            },
            field("optional", pb::InstallFieldType::String),
        ],
        additional_headers: vec![
            header("x-version", pb::additional_header::Source::Value("2".to_owned())),
            header("x-tenant", pb::additional_header::Source::Field("tenant".to_owned())),
        ],
        ..plain_entry("time")
    };
    let parse = |running: pb::Entry| {
        let registry = Registry::default().install(Made {
            running: Some(running),
            ..Made::new("i", "time", "alice")
        });
        Arc::clone(registry.snapshot().installation("i").unwrap())
    };
    let installation = parse(running.clone());
    let headers: Vec<_> = installation
        .fixed_headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(headers, [("x-version", "2"), ("x-tenant", "acme"), ("x-region", "eu")]);
    assert!(!installation.vends_headers, "nothing secret goes into a header");
    assert_eq!(
        installation.endpoint,
        Some(Endpoint::Remote("https://mcp.example.com/mcp".parse().unwrap()))
    );

    let mut secret = running.clone();
    secret.install_fields.push(field("key", pb::InstallFieldType::Secret));
    let installation = parse(secret);
    assert!(installation.vends_headers);
    assert!(!installation.fixed_headers.iter().any(|(name, _)| name == "x-key"));
}

#[tokio::test]
async fn an_old_snapshot_serves_until_it_is_stale() {
    let clock = ManualClock::at(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let store = Store::new(Duration::from_secs(300), Clock::Manual(clock.clone()));
    let (changed, mut changes) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Arc::clone(&store), changed);
    let revisions = store.revisions();
    assert!(
        matches!(store.load(), Err(CallError::RegistryUnavailable)),
        "nothing is known yet"
    );

    let registry = Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .install(Made::new("i", "time", "alice"));
    feed.snapshot(7, registry.objects).await;
    feed.connected(true);
    assert_eq!((store.load().unwrap().revision(), *revisions.borrow()), (7, 7));
    assert_eq!(changes.recv().await.as_deref(), Some("i"));
    assert_eq!(*store.readiness().borrow(), Readiness::Ready);

    feed.connected(false);
    clock.advance(Duration::from_secs(200));
    feed.connected(false);
    assert!(store.load().is_ok());
    assert!(matches!(*store.readiness().borrow(), Readiness::Degraded(_)));
    clock.advance(Duration::from_secs(101));
    assert!(
        matches!(store.load(), Err(CallError::RegistryUnavailable)),
        "out of reach since the first failure"
    );
    feed.connected(false);
    assert!(matches!(*store.readiness().borrow(), Readiness::NotReady(_)));

    feed.changes(8, vec![put_change(Made::new("j", "time", "bob").object())])
        .await;
    feed.connected(true);
    assert_eq!(store.load().unwrap().revision(), 8);
    assert_eq!(changes.recv().await.as_deref(), Some("j"));
    assert!(
        store
            .load()
            .unwrap()
            .personal("e-time", person("bob").user().map(|user| &user.id).unwrap())
            .is_some()
    );
}
