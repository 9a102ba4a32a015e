//! What was vended lately is vended again without the store, and for how long.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use futures::future::join_all;
use pretty_assertions::assert_eq;

use super::{
    Bench,
    accounts::{World, bearer, machine, plan},
    changes::pairs,
    service::{HOME, MemoryRegistry, Mood, Service, Step, owner},
};
use crate::domain::{
    authorization::{
        asked::{Asked, Generations},
        fake::LIFE,
    },
    error::Error,
    owner::Source,
    plan::Plan,
    ports::{Store, StoreError},
};

/// As long as a record serves without the store being asked.
pub(super) const FRESH: Duration = Duration::from_secs(10);
/// As long as it serves while the store does not answer.
const KEPT: Duration = Duration::from_secs(3_600);

/// The plan of a remote server that gets the secret `other` in a header.
fn remote() -> Plan {
    Plan {
        tokens: None,
        ..plan(machine(), Source::Prompted)
    }
}

async fn replicas<B: Bench>() -> (World<B>, [Arc<Service<B::Store>>; 2]) {
    let world = World::<B>::new(remote()).await;
    let replicas = [world.replica().await, world.replica().await];
    (world, replicas)
}

async fn header<S: Store>(service: &Service<S>, known: i64) -> Result<String, Error> {
    use secrecy::ExposeSecret as _;
    let asked = Asked {
        known: Generations { own: known, entry: 0 },
        ..Asked::default()
    };
    let vended = service.credentials.vend_headers("a", HOME, &asked).await?;
    Ok(vended
        .secrets
        .first()
        .map(|(_, value)| value.expose_secret().to_owned())
        .unwrap_or_default())
}

fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Store(StoreError::Unavailable(_))))
}

pub(in crate::store) async fn a_warm_vend_reads_nothing<B: Bench>() {
    let (_world, [service, _]) = replicas::<B>().await;
    service.put("a", &[("other", "one")]).await.unwrap();
    let before = service.reads();
    service.store_is(Mood::Waiting);
    let mut at_once = pin!(join_all((0..50).map(|_| header(&service, 0))));
    assert_eq!(futures::poll!(&mut at_once).map(|_| ()), Poll::Pending);
    service.store_is(Mood::Answers);
    for vended in at_once.await {
        assert_eq!(vended.unwrap(), "one");
    }
    // Those who ask while the first read is under way share one that begins after it, whether it is under way when they wake or over.
    assert_eq!(service.reads(), before + 2);
    let before = service.reads();
    assert_eq!(header(&service, 1).await.unwrap(), "one");
    assert_eq!(service.reads(), before);
    service.advance(FRESH);
    assert_eq!(header(&service, 1).await.unwrap(), "one");
    assert_eq!(service.reads(), before + 1);
}

pub(in crate::store) async fn a_change_is_seen_by_the_replica_that_made_it<B: Bench>() {
    let (_world, [service, _]) = replicas::<B>().await;
    service.put("a", &[("other", "one")]).await.unwrap();
    assert_eq!(header(&service, 0).await.unwrap(), "one");
    service.put("a", &[("other", "two")]).await.unwrap();
    assert_eq!(header(&service, 0).await.unwrap(), "two");
    // The answer to the change was lost, and so was the report.
    service.script([Step::Lose]);
    service.put("a", &[("other", "three")]).await.unwrap_err();
    assert_eq!(header(&service, 0).await.unwrap(), "three");
    service.credentials.delete(service.subject("a")).await.unwrap();
    assert_eq!(header(&service, 0).await.unwrap(), "");
}

pub(in crate::store) async fn a_change_of_another_replica_is_seen_once_it_is_known<B: Bench>() {
    let (world, [one, two]) = replicas::<B>().await;
    one.put("a", &[("other", "one")]).await.unwrap();
    two.watch("a", false);
    assert_eq!(header(&two, 1).await.unwrap(), "one");
    // The watch brings it.
    one.put("a", &[("other", "two")]).await.unwrap();
    two.watch("a", false);
    assert_eq!(header(&two, 0).await.unwrap(), "two");
    // The caller has heard of it before this replica has.
    one.put("a", &[("other", "three")]).await.unwrap();
    assert_eq!(header(&two, 3).await.unwrap(), "three");
    // Nobody hears of it, since the registry accepts no report.
    world.registry.refuse(true);
    one.put("a", &[("other", "four")]).await.unwrap_err();
    two.advance(FRESH);
    assert_eq!(header(&two, 3).await.unwrap(), "four");
    // What is deleted is not vended while the store is away, either.
    world.registry.refuse(false);
    one.credentials.delete(one.subject("a")).await.unwrap();
    two.watch("a", false);
    two.store_is(Mood::Away);
    assert!(is_unavailable(&header(&two, 0).await));
}

pub(in crate::store) async fn what_was_vended_serves_while_the_store_is_away<B: Bench>() {
    let bench = B::new().await;
    let service = Service::new(bench.connect().await, &MemoryRegistry::default(), true);
    service.put_entry(&[("shared", "ours")]).await.unwrap();
    service.watch("b", false);
    for uid in ["a", "b"] {
        service.put(uid, &[("token", uid)]).await.unwrap();
    }
    let vended = pairs(&[("shared", "ours"), ("token", "a")]);
    assert_eq!(service.vend("a").await.unwrap(), vended);
    service.store_is(Mood::Away);
    assert!(service.credentials.check_store().await.is_err());
    service.advance(KEPT - Duration::from_secs(1));
    assert_eq!(service.vend("a").await.unwrap(), vended);
    let expires = service
        .credentials
        .vend_runtime(&owner("a"), HOME)
        .await
        .unwrap()
        .expire_time;
    assert_eq!(
        expires,
        service.now() + Duration::from_secs(1),
        "no caller keeps it for longer"
    );
    // What was not vended is not there, and nothing is stored.
    assert!(is_unavailable(&service.vend("b").await));
    assert!(is_unavailable(&service.put("a", &[("token", "new")]).await));
    service.store_is(Mood::Answers);
    assert_eq!(service.vend("a").await.unwrap(), vended);
    service.store_is(Mood::Away);
    service.advance(KEPT);
    assert!(is_unavailable(&service.vend("a").await));
    service.store_is(Mood::Answers);
    service.credentials.check_store().await.unwrap();
    assert_eq!(service.vend("a").await.unwrap(), vended);
}

pub(in crate::store) async fn a_store_that_is_slow_keeps_no_vend_waiting<B: Bench>() {
    let (_world, [service, _]) = replicas::<B>().await;
    service.put("a", &[("other", "one")]).await.unwrap();
    assert_eq!(header(&service, 1).await.unwrap(), "one");
    service.store_is(Mood::Silent);
    service.advance(FRESH);
    assert_eq!(header(&service, 1).await.unwrap(), "one");
}

pub(in crate::store) async fn a_token_serves_until_it_expires_while_the_store_is_away<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    assert_eq!(service.token().await.unwrap(), bearer(1, 1));
    service.store_is(Mood::Away);
    // Each attempt to renew it fails, since another token could not be stored.
    let (aging, last) = (Duration::from_secs(600), Duration::from_secs(5));
    for passed in [LIFE - aging, aging - last] {
        service.advance(passed);
        assert_eq!(service.token().await.unwrap(), bearer(1, 1), "{passed:?}");
    }
    service.advance(last);
    assert!(is_unavailable(&service.token().await));
    assert!(world.servers.requests("refresh_token").is_empty());
    // Nothing was marked, and all is well when the store answers again.
    service.store_is(Mood::Answers);
    service.advance(Duration::from_secs(60));
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    service.reconcile().await.unwrap();
    assert!(world.registry.reported(&owner("a")).unwrap().ready);
}
