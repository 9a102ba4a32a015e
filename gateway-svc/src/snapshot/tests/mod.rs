//! Changes, one revision at a time.

mod installations;
mod shared;
mod tables;

use std::{collections::HashSet, sync::Arc, time::Duration};

use contracts::registry::{self as pb, Change, ObjectKind, Removal, change, watched_object::Object};
use pretty_assertions::assert_eq;
use registry_client::watch::Sink as _;
use service_kit::{Clock, Readiness, clock::ManualClock};
use tokio::sync::mpsc;

use super::{
    Feed, Snapshot, Store,
    testing::{
        Made, Registry, fill, gateway, person, plain_gateway, put, put_change, removal as remove, team_member, user_id,
    },
    writer::Writer,
};
use crate::domain::{CallError, ConsumerKind, ConsumerRef};

fn gateway_ref(slug: &str) -> ConsumerRef {
    ConsumerRef::new(ConsumerKind::Gateway, slug)
}

/// The snapshot after one more revision, and whose installations are to be looked at.
fn after(writer: &mut Writer, changes: impl IntoIterator<Item = Change>) -> (Snapshot, HashSet<Arc<str>>) {
    writer.apply(changes.into_iter().collect());
    writer.snapshot(2)
}

#[test]
fn tokens_and_deactivated_users_come_and_go() {
    let mut writer = Writer::default();
    let mut after = |change| after(&mut writer, [change]).0;
    let token = |hash: u8| {
        let subject = Some(pb::gateway_token::Subject::Team("teams/core".to_owned()));
        let gateway_token = Some(pb::GatewayToken {
            name: "gatewayTokens/t".to_owned(),
            subject,
            creator: "users/maker".to_owned(),
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
    let first = after(put_change(token(1)));
    let known = first.gateway_token(&[1; 32]).unwrap();
    assert_eq!(known.caller.process_share(), "users/maker");
    let rotated = after(put_change(token(2)));
    assert!(rotated.gateway_token(&[1; 32]).is_none() && rotated.gateway_token(&[2; 32]).is_some());
    let revoked = after(remove(ObjectKind::GatewayToken, "t"));
    assert!(revoked.gateway_token(&[2; 32]).is_none());

    let shut_out = put(
        "d",
        Object::DeactivatedUser(pb::DeactivatedUser {
            user: user_id("alice").resource_name(),
        }),
    );
    assert!(after(put_change(shut_out)).is_deactivated(&user_id("alice")));
    assert!(!after(remove(ObjectKind::DeactivatedUser, "d")).is_deactivated(&user_id("alice")));
}

#[test]
fn members_belong_to_their_team_whichever_comes_first_and_go_with_it() {
    let teams = |snapshot: &Snapshot| -> Vec<String> {
        snapshot
            .teams_of(&person("alice"))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let mut writer = Writer::default();
    let (early, _) = after(&mut writer, [put_change(team_member("core", "alice"))]);
    assert_eq!(teams(&early), Vec::<String>::new());
    let team = || Registry::default().team("core", &[]).objects.remove(0);
    let (belongs, _) = after(&mut writer, [put_change(team())]);
    assert_eq!(teams(&belongs), ["core"]);
    let key = format!("t-core/{}", user_id("alice"));
    let (left, _) = after(&mut writer, [remove(ObjectKind::TeamMember, &key)]);
    assert_eq!((teams(&left), teams(&belongs)), (vec![], vec!["core".to_owned()]));

    after(&mut writer, [put_change(team_member("core", "alice"))]);
    let (gone, _) = after(&mut writer, [remove(ObjectKind::Team, "t-core")]);
    assert_eq!(teams(&gone), Vec::<String>::new());
    let (again, _) = after(&mut writer, [put_change(team())]);
    assert_eq!(teams(&again), Vec::<String>::new(), "its members have gone with it");
}

#[test]
fn what_makes_no_sense_or_is_not_known_spoils_nothing() {
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
    let replica = put("z", Object::GatewayReplica(pb::GatewayReplica::default()));
    let mut writer = Registry::default()
        .with(nameless)
        .with(short_hash)
        .with(replica)
        .with(pb::WatchedObject::default())
        .gateway("default")
        .writer();
    let unknown_kind = Change {
        change: Some(change::Change::Remove(Removal {
            kind: 999,
            key: "g-default".to_owned(),
        })),
    };
    let (snapshot, _) = after(&mut writer, [unknown_kind, Change::default()]);
    assert!(snapshot.consumer(&gateway_ref("default")).is_some());
}

#[test]
fn a_visibility_that_is_not_understood_lets_nobody_in() {
    let visible = |visibility| {
        let registry = Registry::default().with(gateway(pb::Gateway {
            visibility,
            ..plain_gateway("default")
        }));
        let snapshot = registry.snapshot();
        snapshot
            .consumer(&gateway_ref("default"))
            .unwrap()
            .audience
            .organization
    };
    assert!(visible(None));
    assert!(!visible(Some(pb::Visibility { audience: None })));
}

#[tokio::test]
async fn a_snapshot_is_in_force_once_it_is_whole() {
    let store = Store::new(Duration::from_secs(300), Clock::System);
    let (changed, mut changes) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Arc::clone(&store), changed);
    let first = Registry::default()
        .entry("time", &["now"])
        .gateway("old")
        .install(Made::new("i", "time", "alice"));
    fill(&mut feed, 7, first.objects).await;
    feed.connected(true);
    assert_eq!(changes.recv().await.as_deref(), Some("i"));
    let shows = |gateway: &str| store.load().unwrap().consumer(&gateway_ref(gateway)).is_some();
    assert!(shows("old"));

    // One that never ends leaves nothing behind.
    feed.snapshot_begin();
    feed.snapshot_objects(Registry::default().gateway("lost").objects).await;
    feed.snapshot_begin();
    let parts = Registry::default()
        .entry("time", &["now"])
        .gateway("new")
        .assign("new", "time", "now");
    for object in parts.objects {
        feed.snapshot_objects(vec![object]).await;
        assert!(shows("old") && !shows("new"));
        assert_eq!(store.load().unwrap().revision(), 7);
    }
    feed.snapshot_end(9).await;
    assert!(shows("new") && !shows("old") && !shows("lost"));
    let snapshot = store.load().unwrap();
    assert_eq!(snapshot.revision(), 9);
    assert!(snapshot.installation("i").is_none());
    assert_eq!(tables::names(&snapshot, "new"), ["time__now"]);
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
    fill(&mut feed, 7, registry.objects).await;
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
        "unreachable since the first failure"
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
