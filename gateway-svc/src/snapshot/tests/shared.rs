//! A server that all installations of an entry share.

use std::sync::LazyLock;

use contracts::registry::ConditionStatus;
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    domain::{ConditionState, Endpoint, Shared},
    snapshot::testing::{revision, runtime, shared_revision, shared_runtime},
};

const THERE: &str = "unix:/run/1.sock";
static HERE: LazyLock<Endpoint> = LazyLock::new(|| Endpoint::Hosted(THERE.into()));

fn made(uid: &'static str, owner: &'static str, number: i64, argument: &str) -> Made {
    Made {
        running: Some(shared_revision("time", number, argument)),
        ..Made::new(uid, "time", owner)
    }
}

fn running(writer: &mut Writer, uid: &str) -> crate::domain::Running {
    let (snapshot, _) = writer.snapshot(1);
    snapshot.running(snapshot.installation(uid).unwrap()).unwrap()
}

fn put_all(writer: &mut Writer, objects: impl IntoIterator<Item = pb::WatchedObject>) {
    for object in objects {
        writer.put(object);
    }
}

#[test]
fn all_use_it_whatever_was_reported_of_one_alone() {
    let mut writer = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice", 1, "x"))
        .install(made("b", "bob", 1, "x"))
        .with(runtime("a", "unix:/run/own.sock"))
        .writer();
    let starting = running(&mut writer, "a");
    assert!(matches!(starting.shared, Some(Shared::Serves { ready: None, .. })));
    assert_eq!(
        (starting.endpoint.as_ref(), starting.server()),
        (None, ConditionState::Unknown)
    );
    writer.put(shared_runtime("time", 1, THERE));
    for uid in ["a", "b"] {
        let running = running(&mut writer, uid);
        assert_eq!(
            (running.endpoint.as_ref(), running.server()),
            (Some(&*HERE), ConditionState::True)
        );
        assert!(running.usable());
    }
}

/// What was entered for one destination goes to no other, whichever of the two is ahead.
#[test]
fn serves_those_alone_whose_secrets_may_go_there() {
    let mut writer = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice", 1, "x"))
        .writer();
    put_all(
        &mut writer,
        [
            revision(shared_revision("time", 2, "x")),
            shared_runtime("time", 2, THERE),
        ],
    );
    assert_eq!(
        running(&mut writer, "a").endpoint.as_ref(),
        Some(&*HERE),
        "the same is run"
    );
    assert!(!running(&mut writer, "a").is_outdated());
    put_all(
        &mut writer,
        [
            revision(shared_revision("time", 3, "y")),
            shared_runtime("time", 3, THERE),
        ],
    );
    let moving = running(&mut writer, "a");
    assert!(moving.endpoint.is_none() && matches!(moving.shared, Some(Shared::RunsAnother)));
    assert_eq!(moving.server(), ConditionState::Unknown, "it is about to move");
    let mut held = made("a", "alice", 1, "x").object();
    if let Some(Object::Installation(installation)) = &mut held.object {
        installation.reinstall_required = Some(pb::ReinstallRequired::default());
    }
    writer.put(held);
    let held = running(&mut writer, "a");
    assert!(held.stopped() && held.server_message().contains("has been updated"));
    put_all(&mut writer, [made("a", "alice", 3, "y").object()]);
    assert_eq!(running(&mut writer, "a").endpoint.as_ref(), Some(&*HERE));
    // The orchestrator has not come as far.
    put_all(
        &mut writer,
        [
            made("a", "alice", 4, "z").revision(),
            made("a", "alice", 4, "z").object(),
        ],
    );
    assert!(running(&mut writer, "a").endpoint.is_none());
    writer.put(shared_runtime("time", 9, THERE));
    assert!(
        running(&mut writer, "a").endpoint.is_none(),
        "what it runs is not known"
    );
}

/// Another version of the program may have other tools.
#[test]
fn one_that_is_ahead_of_the_server_may_call_it_but_does_not_ask_for_its_tools() {
    let mut writer = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice", 2, "x"))
        .with(revision(shared_revision("time", 1, "x")))
        .with(shared_runtime("time", 1, THERE))
        .writer();
    let ahead = running(&mut writer, "a");
    assert!(ahead.usable() && ahead.is_outdated());
    writer.put(shared_runtime("time", 2, "unix:/run/2.sock"));
    assert!(!running(&mut writer, "a").is_outdated());
}

/// Their uids, sorted.
fn sorted(uids: &HashSet<Arc<str>>) -> Vec<&str> {
    let mut uids: Vec<&str> = uids.iter().map(|uid| &**uid).collect();
    uids.sort_unstable();
    uids
}

/// There may be very many.
#[test]
fn a_restart_wakes_those_that_wait_for_their_first_discovery_and_few_others() {
    let undiscovered = |uid, owner| Made {
        tools: ConditionStatus::Unknown,
        ..made(uid, owner, 1, "x")
    };
    let credential = (ConditionStatus::False, "CREDENTIAL_REQUIRED");
    let mut registry = Registry::default()
        .entry("time", &[])
        .install(undiscovered("b", "bob"))
        .install(Made {
            credential,
            ..undiscovered("c", "carol")
        })
        .install(undiscovered("d", "dave"))
        .install(Made {
            credential,
            ..made("e", "eve", 1, "x")
        });
    for known in ["k1", "k2", "k3", "k4", "k5"] {
        registry = registry.install(made(known, known, 1, "x"));
    }
    let mut writer = registry.writer();
    writer.snapshot(1);
    let woken = |writer: &mut Writer, endpoint| after(writer, [put_change(shared_runtime("time", 1, endpoint))]).1;
    assert!(woken(&mut writer, "").is_empty(), "it cannot be asked");
    let (awaiting, known): (Vec<_>, Vec<_>) = woken(&mut writer, THERE)
        .into_iter()
        .partition(|uid| !uid.starts_with('k'));
    assert_eq!(sorted(&awaiting.into_iter().collect()), ["b", "d"]);
    assert_eq!(known.len(), 3);
    after(&mut writer, [put_change(made("b", "bob", 1, "x").object())]);
    after(&mut writer, [remove(ObjectKind::Installation, "d")]);
    assert_eq!(woken(&mut writer, "unix:/run/2.sock").len(), 3);
}

/// As after an update of the package.
#[test]
fn all_are_woken_once_after_a_restart_where_one_has_other_tools() {
    let with_tools = |uid: &'static str, tools: &str| {
        let mut object = made(uid, uid, 1, "x").object();
        if let Some(Object::Installation(installation)) = &mut object.object {
            installation.discovered = vec![pb::DiscoveredSet {
                kind: pb::FeatureKind::Tool.into(),
                set_hash: tools.to_owned(),
                ..pb::DiscoveredSet::default()
            }];
        }
        put_change(object)
    };
    let mut writer = Registry::default()
        .entry("time", &[])
        .install(made("a", "a", 1, "x"))
        .install(made("b", "b", 1, "x"))
        .install(made("c", "c", 1, "x"))
        .with(shared_runtime("time", 1, THERE))
        .writer();
    writer.snapshot(1);
    let mut woken = |change| sorted(&after(&mut writer, [change]).1).join(" ");
    assert_eq!(woken(with_tools("a", "one")), "a", "its first are no others");
    assert_eq!(woken(with_tools("a", "one")), "a");
    for uid in ["b", "c"] {
        woken(with_tools(uid, "one"));
    }
    for endpoint in [THERE, "unix:/run/2.sock"] {
        woken(put_change(shared_runtime("time", 1, endpoint)));
        assert_eq!(woken(with_tools("a", &format!("of {endpoint}"))), "a b c");
        assert_eq!(woken(with_tools("b", &format!("of {endpoint}"))), "b");
    }
}
