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
    assert!(matches!(starting.shared, Some(Shared::Reported(None))));
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

/// There may be very many of the others.
#[test]
fn a_restart_wakes_those_alone_that_wait_for_their_first_discovery() {
    let undiscovered = |uid, owner| Made {
        tools: ConditionStatus::Unknown,
        ..made(uid, owner, 1, "x")
    };
    let without_credential = Made {
        credential: (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
        ..undiscovered("c", "carol")
    };
    let mut writer = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice", 1, "x"))
        .install(undiscovered("b", "bob"))
        .install(without_credential)
        .install(undiscovered("d", "dave"))
        .writer();
    writer.snapshot(1);
    let woken = |writer: &mut Writer, endpoint| {
        let (_, uids) = after(writer, [put_change(shared_runtime("time", 1, endpoint))]);
        let mut uids: Vec<String> = uids.iter().map(ToString::to_string).collect();
        uids.sort_unstable();
        uids
    };
    assert_eq!(woken(&mut writer, THERE), ["b", "d"]);
    after(&mut writer, [put_change(made("b", "bob", 1, "x").object())]);
    after(&mut writer, [remove(ObjectKind::Installation, "d")]);
    assert_eq!(woken(&mut writer, "unix:/run/2.sock"), Vec::<String>::new());
}
