//! What credential-svc reports to the registry, how often, and what workloads get afterwards.

mod support;

use std::{fs, path::Path};

use contracts::registry::ConditionStatus;
use pretty_assertions::assert_eq;
use support::{
    HERE, Stack,
    entries::{header, remote, secret, stored},
    fake_registry::FakeRegistry,
    pairs, put, put_entry, refused,
};

/// An entry whose token is stored on it, and whose installations may have one of their own for another header.
fn shared(registry: &FakeRegistry) {
    let fields = vec![
        stored(secret("token", true, None)),
        secret("own", false, header("X-Own")),
    ];
    registry.save_entry(remote("e", HERE, fields));
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_put_to_an_entry_is_one_report_however_many_have_it_installed() {
    let registry = FakeRegistry::new();
    shared(&registry);
    for number in 0..200 {
        registry.install(&format!("i{number}"), "e", "alice");
    }
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    assert_eq!(
        registry.settled().await.len(),
        201,
        "each installation and the entry once"
    );
    registry.entry_reason("e", "ENTRY_CREDENTIAL_REQUIRED").await;
    let before = registry.credential_reports().len();
    stack.put_entry("admin", "e", &[("token", "ours")]).await.unwrap();
    registry.settled().await;
    let after = registry.credential_reports().split_off(before);
    assert_eq!(after.len(), 1, "{after:?}");
    let report = &after[0];
    assert_eq!(
        (
            report.status(),
            report.observed_generation,
            report.credential_generation
        ),
        (ConditionStatus::True, 1, 1)
    );
    assert_eq!(
        pairs(&stack.headers("i7", HERE, 0).await.unwrap()),
        [("authorization".to_owned(), "Bearer ours".to_owned())]
    );
}

#[tokio::test]
async fn an_entry_without_stored_secrets_is_reported_only_where_it_had_some() {
    let registry = FakeRegistry::new();
    registry.save_entry(remote("never", HERE, vec![secret("token", true, None)]));
    shared(&registry);
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("token", "ours")]).await.unwrap();
    registry.save_entry(remote("e", HERE, vec![secret("token", true, None)]));
    let (condition, generation) = registry.entry_reason("e", "NOT_REQUIRED").await;
    assert_eq!((condition.status(), generation), (ConditionStatus::True, 1));
    registry.save_entry(remote("never", HERE, Vec::new()));
    assert!(!registry.settled().await.contains(&"entry:never".to_owned()));
}

#[tokio::test]
async fn a_start_reports_what_the_registry_does_not_show_and_nothing_else() {
    let registry = FakeRegistry::new();
    shared(&registry);
    let installations = 2_000;
    for number in 0..installations {
        registry.install(&format!("i{number}"), "e", "alice");
    }
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("token", "ours")]).await.unwrap();
    stack.put("alice", "i7", &[("own", "mine")]).await.unwrap();
    let known = registry.settled().await;
    assert!(known.len() > installations, "{}", known.len());
    stack.kill().await;

    registry.install("new", "e", "bob");
    let stack = Stack::start(directory.path(), &registry).await;
    registry.reason("new", "NOT_REQUIRED").await;
    assert_eq!(registry.settled().await.split_off(known.len()), ["new"]);
    stack.kill().await;
}

#[tokio::test]
async fn a_restored_backup_gets_newer_generations_than_were_reported() {
    let registry = FakeRegistry::new();
    shared(&registry);
    registry.install("i", "e", "alice");
    let (directory, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("token", "entry-1")]).await.unwrap();
    stack.put("alice", "i", &[("own", "own-1")]).await.unwrap();
    stack.kill().await;
    copy(directory.path(), backup.path());
    let stack = Stack::start(directory.path(), &registry).await;
    for number in 2..5 {
        let value = format!("later-{number}");
        stack.put_entry("admin", "e", &[("token", &value)]).await.unwrap();
        stack.put("alice", "i", &[("own", &value)]).await.unwrap();
    }
    let told = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!((told.credential_generation, told.entry_credential_generation), (4, 4));
    stack.kill().await;

    let stack = Stack::start(backup.path(), &registry).await;
    registry
        .until(|_| registry.condition("i").filter(|(_, generation)| *generation == 5))
        .await;
    registry
        .until(|_| registry.entry_condition("e").filter(|(_, generation)| *generation == 5))
        .await;
    let vended = stack.newer_headers("i", HERE, (4, 4)).await.unwrap();
    assert_eq!(
        (vended.credential_generation, vended.entry_credential_generation),
        (5, 5)
    );
    let expected = [("X-Own", "own-1"), ("authorization", "Bearer entry-1")];
    assert_eq!(
        pairs(&vended),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let credential = stack.put("alice", "i", &[("own", "own-6")]).await.unwrap();
    assert_eq!(credential.credential_generation, 6);
    let credential = stack.put_entry("admin", "e", &[("token", "entry-6")]).await.unwrap();
    assert_eq!(credential.credential_generation, 6);
}

#[tokio::test]
async fn a_rejected_pair_is_answered_by_something_newer_or_not_at_all() {
    let registry = FakeRegistry::new();
    shared(&registry);
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("token", "one")]).await.unwrap();
    let expired = async |rejected| {
        refused(stack.newer_headers("i", HERE, rejected).await, "CREDENTIAL_EXPIRED");
    };
    expired((0, 1)).await;
    stack.put("alice", "i", &[("own", "mine")]).await.unwrap();
    let vended = stack.newer_headers("i", HERE, (0, 1)).await.unwrap();
    assert_eq!(
        (vended.credential_generation, vended.entry_credential_generation),
        (1, 1)
    );
    expired((1, 1)).await;
    stack.put_entry("admin", "e", &[("token", "two")]).await.unwrap();
    let vended = stack.newer_headers("i", HERE, (1, 1)).await.unwrap();
    assert_eq!(
        (vended.credential_generation, vended.entry_credential_generation),
        (1, 2)
    );
    expired((1, 2)).await;
    assert!(stack.newer_headers("i", HERE, (0, 0)).await.is_ok());
}

#[tokio::test]
async fn says_who_lags_as_the_registry_names_them() {
    let registry = FakeRegistry::new();
    shared(&registry);
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    let lagging = |response: &tonic::metadata::MetadataMap| {
        let value = response.get("chandlery-lagging").map(|value| value.to_str().unwrap());
        value.map(str::to_owned)
    };
    let installation = || stack.of("alice", put("i", &[("own", "mine")]));
    let mut people = stack.people();
    let answer = people.put_installation_credential(installation()).await.unwrap();
    assert_eq!(lagging(answer.metadata()), None);
    registry.lagging("gateway-svc/b-2,gateway-svc/1f3c");
    let answer = people.put_installation_credential(installation()).await.unwrap();
    assert_eq!(lagging(answer.metadata()).unwrap(), "gateway-svc/1f3c,gateway-svc/b-2");
    let request = stack.of("admin", put_entry("e", &[("token", "ours")]));
    let answer = people.put_entry_credential(request).await.unwrap();
    assert_eq!(lagging(answer.metadata()).unwrap(), "gateway-svc/1f3c,gateway-svc/b-2");
}
