//! The service on a store: whatever happens between two steps, nothing accepted is lost and nothing half-made stays.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use pretty_assertions::assert_eq;

use super::{
    Bench,
    service::{MemoryRegistry, Service, Step, owner},
};
use crate::domain::{
    error::Error,
    ports::{Store, StoreError, Version, Written},
    record::{Record, Value},
    sweep::Swept,
};

async fn service<B: Bench>(bench: &B, registry: &MemoryRegistry) -> Arc<Service<B::Store>> {
    Arc::new(Service::new(bench.connect().await, registry, false))
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs.map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(in crate::store) async fn changes_at_once_lose_nothing<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let replicas = [service(&bench, &registry).await, service(&bench, &registry).await];
    let uids = ["a", "b", "c"];
    for (replica, uid) in replicas.iter().flat_map(|replica| uids.map(|uid| (replica, uid))) {
        replica.watch(uid, false);
    }
    // Two replicas, two fields, for each of three owners.
    let puts = uids.into_iter().flat_map(|uid| {
        let fields = [("token", &replicas[0]), ("other", &replicas[1])];
        fields.map(|(key, replica)| async move { replica.put(uid, &[(key, uid)]).await.unwrap().generation })
    });
    let generations = join_all(puts).await;
    for (uid, generations) in uids.iter().zip(generations.chunks(2)) {
        let mut generations = generations.to_vec();
        generations.sort_unstable();
        assert_eq!(generations, [1, 2], "each change has a generation of its own");
        assert_eq!(
            replicas[0].vend(uid).await.unwrap(),
            pairs(&[("other", uid), ("token", uid)])
        );
        assert_eq!(registry.reported(&owner(uid)).unwrap().credential_generation, 2);
    }
}

pub(in crate::store) async fn a_change_that_loses_is_decided_again<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let (one, two) = (service(&bench, &registry).await, service(&bench, &registry).await);
    let meddle = Arc::clone(&two);
    one.script([Step::Before(
        async move { drop(meddle.put("a", &[("other", "second")]).await.unwrap()) }.boxed(),
    )]);
    let summary = one.put("a", &[("token", "first")]).await.unwrap();
    assert_eq!(summary.generation, 2);
    assert!(summary.fields.keys().eq(["other", "token"]), "{summary:?}");
    assert_eq!(
        one.vend("a").await.unwrap(),
        pairs(&[("other", "second"), ("token", "first")])
    );

    // The same request by two replicas: the one that loses finds the answer of the other.
    let meddle = Arc::clone(&two);
    let values = [("token", "third")];
    one.script([Step::Before(
        async move { drop(meddle.put_with_id("a", &values, Some(1)).await.unwrap()) }.boxed(),
    )]);
    let summary = one.put_with_id("a", &values, Some(1)).await.unwrap();
    assert_eq!(summary.generation, 3, "made once");
}

pub(in crate::store) async fn a_change_that_always_loses_gives_up<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let (one, two) = (service(&bench, &registry).await, service(&bench, &registry).await);
    one.script((0..100).map(|_| {
        let meddle = Arc::clone(&two);
        Step::Before(async move { drop(meddle.put("a", &[("other", "x")]).await.unwrap()) }.boxed())
    }));
    let error = one.put("a", &[("token", "first")]).await.unwrap_err();
    assert!(matches!(error, Error::Contended), "{error}");
    let record = two.credentials.get(&two.subject("a")).await.unwrap();
    assert!(record.fields.keys().eq(["other"]), "nothing of it was stored");
}

pub(in crate::store) async fn a_request_sent_again_gets_its_first_answer<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service_ = service(&bench, &registry).await;
    let first = service_.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap();
    service_.put("a", &[("token", "two")]).await.unwrap();
    let found = bench.copy().await;
    let after_a_crash = service(&found, &registry).await;
    for replica in [&service_, &service(&bench, &registry).await, &after_a_crash] {
        let again = replica.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap();
        assert_eq!(again, first);
        for other in [
            &[("token", "three")][..],
            &[("other", "one")],
            &[("token", "one"), ("other", "x")],
        ] {
            let refused = replica.put_with_id("a", other, Some(1)).await.unwrap_err();
            assert!(matches!(refused, Error::RequestIdReused), "{refused}");
        }
        assert_eq!(
            replica.vend("a").await.unwrap(),
            pairs(&[("token", "two")]),
            "nothing was changed"
        );
    }
    service_.watch("b", false);
    let elsewhere = service_.put_with_id("b", &[("token", "x")], Some(1)).await.unwrap();
    assert_eq!(elsewhere.generation, 1, "ids of another owner are apart");
    service_.advance(Duration::from_secs(8 * 24 * 3600));
    let late = service_.put_with_id("a", &[("token", "three")], Some(1)).await.unwrap();
    assert_eq!(late.generation, 3, "after a week it is another request");
}

pub(in crate::store) async fn a_request_whose_answer_was_lost_is_made_once<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service = service(&bench, &registry).await;
    service.script([Step::Lose]);
    let lost = service
        .put_with_id("a", &[("token", "one")], Some(1))
        .await
        .unwrap_err();
    assert!(matches!(lost, Error::Store(StoreError::Unavailable(_))), "{lost}");
    // It was stored, so it is reported.
    service.reconcile().await.unwrap();
    assert_eq!(registry.reported(&owner("a")).unwrap().credential_generation, 1);
    let again = service.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap();
    assert_eq!(again.generation, 1);
}

pub(in crate::store) async fn what_was_deleted_is_in_no_answer_that_is_kept<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service = service(&bench, &registry).await;
    let answers = async || match service.store().read(&owner("a")).await.unwrap() {
        Some((_, Value::Record(record))) => record.answers,
        other => panic!("{other:?}"),
    };
    service.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap();
    let before = answers().await.iter().next().unwrap().request.digest;
    service.credentials.delete(service.subject("a")).await.unwrap();
    let after = answers().await;
    assert_eq!(after.iter().count(), 1);
    assert!(after.iter().all(|answer| answer.request.digest != before));
    // A retry that comes too late does not store it again.
    let late = service.put_with_id("a", &[("token", "one")], Some(1)).await;
    assert!(matches!(late, Err(Error::RequestIdReused)), "{late:?}");

    service.put_with_id("a", &[("token", "two")], Some(2)).await.unwrap();
    service.advance(Duration::from_secs(8 * 24 * 3600));
    service.put("a", &[("other", "x")]).await.unwrap();
    assert_eq!(answers().await.iter().count(), 0, "no longer than a week");
}

pub(in crate::store) async fn a_crash_before_the_report_is_repaired<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let before = service(&bench, &registry).await;
    before.reconcile().await.unwrap();
    registry.refuse(true);
    let unheard = before.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap_err();
    assert!(matches!(unheard, Error::NotAnnounced), "{unheard}");
    registry.refuse(false);
    assert!(!registry.reported(&owner("a")).unwrap().ready);
    let found = bench.copy().await;
    let after = service(&found, &registry).await;
    after.reconcile().await.unwrap();
    let report = registry.reported(&owner("a")).unwrap();
    assert_eq!((report.ready, report.credential_generation), (true, 1));
    let again = after.put_with_id("a", &[("token", "one")], Some(1)).await.unwrap();
    assert_eq!(again.generation, 1);
}

/// Whether the owner's secrets are erased, and can be put no more.
async fn is_erased<S: Store>(service: &Service<S>, uid: &str) -> bool {
    let refused = service.put(uid, &[("token", "late")]).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let kept = service.store().read(&owner(uid)).await.unwrap();
    matches!(kept, Some((_, Value::Erased { .. })))
}

pub(in crate::store) async fn an_erasure_meets_a_put_in_progress<B: Bench>() {
    for before in [None, Some("stored before")] {
        let (bench, registry) = (B::new().await, MemoryRegistry::default());
        let (one, two) = (service(&bench, &registry).await, service(&bench, &registry).await);
        if let Some(value) = before {
            one.put("a", &[("other", value)]).await.unwrap();
        }
        let meddle = Arc::clone(&two);
        let erase = async move {
            meddle.watch("a", true);
            meddle.reconcile().await.unwrap();
        };
        one.script([Step::Before(erase.boxed())]);
        let refused = one.put("a", &[("token", "one")]).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound(_)), "{refused}");
        assert!(is_erased(&one, "a").await);
        assert_eq!(registry.cleanups(), [owner("a")]);
        assert_eq!(
            two.vend("a").await.unwrap_err().to_string(),
            "the installation a does not exist"
        );

        // And the other way round: what was put in the middle of the erasure is erased, too.
        let (one, two) = (service(&bench, &registry).await, service(&bench, &registry).await);
        for replica in [&one, &two] {
            replica.watch("b", false);
        }
        let meddle = Arc::clone(&two);
        let put = async move { drop(meddle.put("b", &[("token", "one")]).await.unwrap()) };
        one.watch("b", true);
        one.script([Step::Before(put.boxed())]);
        one.reconcile().await.unwrap();
        assert!(is_erased(&two, "b").await);
    }
}

pub(in crate::store) async fn an_erasure_that_was_interrupted_is_completed<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let before = service(&bench, &registry).await;
    before.put("a", &[("token", "one")]).await.unwrap();
    before.watch("a", true);
    // Interrupted before the mark is known to be there, and then before the registry knows.
    before.script([Step::Lose]);
    before.credentials.reconcile(&owner("a")).await.unwrap_err();
    registry.refuse(true);
    before.credentials.reconcile(&owner("a")).await.unwrap_err();
    registry.refuse(false);
    assert_eq!(registry.cleanups(), []);
    let found = bench.copy().await;
    let after = service(&found, &registry).await;
    after.watch("a", true);
    after.reconcile().await.unwrap();
    assert_eq!(registry.cleanups(), [owner("a")]);
    assert!(is_erased(&after, "a").await);
}

pub(in crate::store) async fn a_restored_backup_gets_newer_generations_than_were_reported<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let before = service(&bench, &registry).await;
    before.put("a", &[("token", "one")]).await.unwrap();
    let (backup, earlier) = (bench.copy().await, B::new().await);
    for value in ["two", "three", "four"] {
        before.put("a", &[("token", value)]).await.unwrap();
    }
    assert_eq!(registry.reported(&owner("a")).unwrap().credential_generation, 4);

    let after = service(&backup, &registry).await;
    let vended = after.credentials.vend_runtime(&owner("a"), super::service::HOME).await;
    let vended = vended.unwrap();
    assert_eq!(vended.generation, 5, "nobody takes it for what they have");
    assert_eq!(after.vend("a").await.unwrap(), pairs(&[("token", "one")]));
    after.reconcile().await.unwrap();
    assert_eq!(registry.reported(&owner("a")).unwrap().credential_generation, 5);
    assert_eq!(after.put("a", &[("token", "five")]).await.unwrap().generation, 6);

    // A backup that is older than the owner.
    let empty = service(&earlier, &registry).await;
    empty.reconcile().await.unwrap();
    let report = registry.reported(&owner("a")).unwrap();
    assert_eq!((report.ready, report.credential_generation), (false, 7));
}

/// A service with a tombstone of `uid`; time has passed since.
async fn with_tombstone<B: Bench>(bench: &B, registry: &MemoryRegistry, uid: &str) -> Arc<Service<B::Store>> {
    let service = service(bench, registry).await;
    service.watch(uid, true);
    service.reconcile().await.unwrap();
    assert!(is_erased(&service, uid).await);
    service.advance(Duration::from_secs(1));
    service
}

pub(in crate::store) async fn a_registry_restored_to_before_a_deletion_voids_its_tombstone<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let before = service(&bench, &registry).await;
    before.put("a", &[("token", "one")]).await.unwrap();
    assert!(registry.reported(&owner("a")).unwrap().ready);
    let after = with_tombstone(&bench, &registry, "a").await;
    after.snapshot("a");
    after.reconcile().await.unwrap();
    let report = registry.reported(&owner("a")).unwrap();
    assert_eq!(
        (report.ready, report.credential_generation),
        (false, 2),
        "nothing is stored"
    );
    assert_eq!(after.put("a", &[("token", "two")]).await.unwrap().generation, 3);
    assert_eq!(after.vend("a").await.unwrap(), pairs(&[("token", "two")]));
    after.watch("a", true);
    after.reconcile().await.unwrap();
    assert!(is_erased(&after, "a").await);
}

pub(in crate::store) async fn a_void_tombstone_is_renewed_by_another_deletion<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    // Nothing was ever reported on it, so that the tombstone stays until something is put.
    let service = with_tombstone(&bench, &registry, "b").await;
    service.snapshot("b");
    let meddle = Arc::clone(&service);
    let erase = async move {
        meddle.watch("b", true);
        meddle.credentials.reconcile(&owner("b")).await.unwrap();
    };
    service.script([Step::Before(erase.boxed())]);
    let refused = service.put("b", &[("token", "one")]).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound(_)), "{refused}");
    assert!(is_erased(&service, "b").await);
}

pub(in crate::store) async fn an_authorization_alone_voids_no_tombstone<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service = with_tombstone(&bench, &registry, "a").await;
    // It was authorized before the deletion, and arrives during a snapshot without the installation, or after that.
    service.credentials.begin_snapshot();
    assert!(is_erased(&service, "a").await);
    service.credentials.end_snapshot();
    assert!(is_erased(&service, "a").await);
}

pub(in crate::store) async fn tombstones_go_after_a_week<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service = service(&bench, &registry).await;
    service.put("a", &[("token", "one")]).await.unwrap();
    service.watch("known", true);
    service.reconcile().await.unwrap();
    // More than one page.
    for number in 0..600 {
        let uid = format!("gone-{number:03}");
        let time = if number % 2 == 0 { 0 } else { 1_700_000_000_000_000 };
        let written = service
            .store()
            .write(&owner(&uid), Version::NONE, Value::erased(time))
            .await;
        assert_eq!(written.unwrap(), Written::Done);
    }
    let stranger = Value::Record(Record::default());
    let written = service.store().write(&owner("stranger"), Version::NONE, stranger).await;
    assert_eq!(written.unwrap(), Written::Done);
    let swept = |removed| Swept { removed, unknown: 1 };
    assert_eq!(service.credentials.sweep().await.unwrap(), swept(300), "those of 1970");
    assert_eq!(service.credentials.sweep().await.unwrap(), swept(0));
    service.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(service.credentials.sweep().await.unwrap(), swept(300));
    let mut left = service.store().list(None, 10).await.unwrap();
    left.sort();
    assert_eq!(
        left,
        ["a", "known", "stranger"].map(owner),
        "the registry has not forgotten `known`"
    );
}

pub(in crate::store) async fn a_damaged_record_is_repaired_by_deleting_it<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let service = service(&bench, &registry).await;
    for value in ["one", "two"] {
        service.put("a", &[("token", value)]).await.unwrap();
    }
    service.watch("a", false);
    bench.damage(&owner("a")).await;
    let corrupt = |error: Error| assert!(matches!(error, Error::Store(StoreError::Corrupt(_))), "{error}");
    corrupt(service.vend("a").await.unwrap_err());
    corrupt(service.put("a", &[("token", "three")]).await.unwrap_err());
    let deleted = service.credentials.delete(service.subject("a")).await.unwrap();
    assert_eq!((deleted.summary.generation, deleted.summary.missing.len()), (3, 1));
    assert_eq!(service.put("a", &[("token", "four")]).await.unwrap().generation, 4);
    // The same where the owner is deleted.
    bench.damage(&owner("a")).await;
    service.watch("a", true);
    service.reconcile().await.unwrap();
    assert_eq!(registry.cleanups(), [owner("a")]);
    assert!(is_erased(&service, "a").await);
}

pub(in crate::store) async fn an_authorization_ahead_of_the_watch_reaches_the_installations<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let one = Service::new(bench.connect().await, &registry, true);
    let two = Service::new(bench.connect().await, &registry, true);
    one.put_entry(&[("shared", "ours")]).await.unwrap();
    one.put("a", &[("token", "one")]).await.unwrap();
    one.watch("a", false);
    one.reconcile().await.unwrap();
    assert!(registry.reported(&owner("a")).unwrap().ready);
    two.put_entry(&[("shared", "other")]).await.unwrap();
    // The authorization of an admin's call brings the change first; the watch brings nothing newer.
    one.confirm_entry().await.unwrap();
    one.reconcile().await.unwrap();
    assert_eq!(registry.reported(&owner("a")).unwrap().reason, "DESTINATION_CHANGED");
}

pub(in crate::store) async fn a_vend_reads_each_record_once<B: Bench>() {
    let (bench, registry) = (B::new().await, MemoryRegistry::default());
    let prompted = service(&bench, &registry).await;
    prompted.put("a", &[("token", "one")]).await.unwrap();
    let before = prompted.reads();
    prompted.vend("a").await.unwrap();
    assert_eq!(prompted.reads() - before, 1);

    let bench = B::new().await;
    let mixed = Service::new(bench.connect().await, &MemoryRegistry::default(), true);
    mixed.put_entry(&[("shared", "ours")]).await.unwrap();
    mixed.put("a", &[("token", "one")]).await.unwrap();
    let before = mixed.reads();
    assert_eq!(
        mixed.vend("a").await.unwrap(),
        pairs(&[("shared", "ours"), ("token", "one")])
    );
    assert_eq!(mixed.reads() - before, 2, "its own, and the entry's");
}
