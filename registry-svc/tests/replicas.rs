//! Replicas on one PostgreSQL database: what each owes to the watchers of the others, and to those that are stuck.

mod support;

use std::time::{Duration, Instant};

use contracts::registry::*;
use registry_svc::Database;
use secrecy::ExposeSecret as _;
use service_kit::Workload;
use sqlx::{Connection as _, PgConnection};
use support::{
    watcher::{Process, Watcher, lagging, start},
    *,
};
use tonic::{Code, Response};

async fn create(stack: &Stack, slug: &str) -> Response<Entry> {
    let request = create_entry(slug, remote());
    stack.admin().entries().create_entry(request).await.unwrap()
}

async fn postgres() -> Option<Stack> {
    Stack::start(On::Postgres).await
}

async fn connect(stack: &Stack) -> PgConnection {
    let Database::Postgres(url) = &stack.database else {
        unreachable!("these are tests of PostgreSQL")
    };
    PgConnection::connect(url.expose_secret()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_wait_for_each_others_watchers() {
    let Some(one) = postgres().await else { return };
    let other = one.again().await;
    let mut watcher = Watcher::start(&other, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    let mut creating = tokio::spawn(async move { (create(&one, "time").await, one) });
    // That the other replica learns of it at once, not by its look-up every second, is tested in `store/notify.rs`.
    let (revision, _) = watcher.changes().await;
    let early = tokio::time::timeout(Duration::from_millis(100), &mut creating).await;
    assert!(early.is_err());
    watcher.ack(revision).await;
    let (created, one) = creating.await.unwrap();
    assert!(lagging(&created).is_empty());
    // Named as the others are, and gone with a goodbye.
    assert_eq!(
        lagging(&create(&one, "second").await),
        [watcher.name(Workload::Gateway)]
    );
    watcher.leave().await;
    assert!(lagging(&create(&one, "third").await).is_empty());
}

/// At e7ac4ad, a replica that paused once was never waited for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_paused_brings_its_watchers_back() {
    let Some(one) = postgres().await else { return };
    let other = one.again().await;
    let mut watcher = Watcher::start(&other, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    // What is left of a replica that was silent until its leases ended, and whose watchers were removed.
    sqlx::query("DELETE FROM watchers")
        .execute(&mut connect(&one).await)
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut index = 0;
    while lagging(&create(&one, &format!("entry-{index}")).await) != [watcher.name(Workload::Gateway)] {
        assert!(
            Instant::now() < deadline,
            "a connected watcher that acknowledges nothing is not waited for"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        index += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_takes_its_name_to_another_replica() {
    let Some(one) = postgres().await else { return };
    let other = one.again().await;
    let asked = start(&[ObjectKind::Entry]);
    // One whose connection is half open, and one that vanished.
    let mut half_open = Watcher::over(one.pipe(Workload::Gateway), asked.clone()).await.unwrap();
    half_open.snapshot().await;
    let mut process = Process::start(&one, start(&[ObjectKind::Entry])).await;
    process.kill();
    let mut vanished = WatchStart {
        instance: process.instance.clone(),
        ..start(&[ObjectKind::Entry])
    };
    let mut back = Vec::new();
    for asked in [asked, std::mem::take(&mut vanished)] {
        let mut watcher = Watcher::over(other.pipe(Workload::Gateway), asked).await.unwrap();
        watcher.snapshot().await;
        back.push(watcher);
    }
    assert!(half_open.next().await.is_none(), "the stream before ends");
    for stack in [&one, &other] {
        let slug = format!("entry-{}", stack.address().replace(['.', ':'], "-"));
        let creating = create(stack, &slug);
        let acking = async {
            for watcher in &mut back {
                watcher.acked_changes().await;
            }
        };
        let (created, ()) = tokio::join!(creating, acking);
        assert!(lagging(&created).is_empty(), "{:?}", lagging(&created));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_counts_although_its_replica_died() {
    let Some(one) = postgres().await else { return };
    let other = one.again().await;
    let mut watcher = Watcher::start(&other, Workload::Gateway, &[ObjectKind::Entry]).await;
    watcher.snapshot().await;
    let name = watcher.name(Workload::Gateway);
    drop(other);
    assert_eq!(lagging(&create(&one, "one").await), [name]);
    // It comes to the replica that is left.
    let asked = WatchStart {
        instance: watcher.instance.clone(),
        ..start(&[ObjectKind::Entry])
    };
    let mut back = Watcher::over(one.pipe(Workload::Gateway), asked).await.unwrap();
    back.snapshot().await;
    let (created, _) = tokio::join!(create(&one, "two"), back.acked_changes());
    assert!(lagging(&created).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_of_all_replicas_find_each_other() {
    let Some(one) = postgres().await else { return };
    let other = one.again().await;
    let reachable = WatchStart {
        address: "https://10.0.0.7:8443".to_owned(),
        ..start(&[ObjectKind::GatewayReplica])
    };
    let instance = reachable.instance.clone();
    let mut watcher = Watcher::start(&one, Workload::Gateway, &[ObjectKind::GatewayReplica]).await;
    watcher.snapshot().await;
    let mut gateway = Watcher::over(other.pipe(Workload::Gateway), reachable.clone())
        .await
        .unwrap();
    let (_, changes) = watcher.acked_changes().await;
    assert_eq!(support::watcher::puts(&changes).len(), 1);
    // A second stream of its name, at the other replica, and then a goodbye there.
    let moved = Watcher::over(one.pipe(Workload::Gateway), reachable.clone())
        .await
        .unwrap();
    while gateway.next().await.is_some() {}
    // When the first replica has removed another gateway, it has looked which ones there are, and has not removed this one.
    let passing = WatchStart {
        address: "https://10.0.0.8:8443".to_owned(),
        ..start(&[ObjectKind::GatewayReplica])
    };
    let passing = Watcher::over(other.pipe(Workload::Gateway), passing).await.unwrap();
    let (_, changes) = watcher.acked_changes().await;
    assert_eq!(support::watcher::puts(&changes).len(), 1);
    let name = passing.instance.clone();
    passing.leave().await;
    let (_, changes) = watcher.acked_changes().await;
    assert_eq!(
        support::watcher::removals(&changes),
        [(ObjectKind::GatewayReplica, name.as_str())]
    );
    moved.leave().await;
    let (_, changes) = watcher.acked_changes().await;
    assert_eq!(
        support::watcher::removals(&changes),
        [(ObjectKind::GatewayReplica, instance.as_str())]
    );
}

/// Returns once all connections for writing are in a transaction, and one of them waits for a lock.
async fn all_writers_wait(stack: &Stack) {
    const WRITERS: i64 = 8;
    const WAITING: &str = "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'chandlery write' AND xact_start IS NOT NULL";
    let mut connection = connect(stack).await;
    let waiting = async {
        loop {
            let (all, locked): (i64, i64) = sqlx::query_as(WAITING).fetch_one(&mut connection).await.unwrap();
            if all == WRITERS && locked > 0 {
                return;
            }
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waiting.expect("the writers hold all connections for writing");
}

/// At e7ac4ad, sixteen writers that waited for one stuck session held all connections, and no read was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stuck_session_stops_no_reads() {
    let Some(stack) = postgres().await else { return };
    create(&stack, "first").await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    let mut stuck = connect(&stack).await;
    sqlx::raw_sql("BEGIN; UPDATE head SET revision = revision + 1")
        .execute(&mut stuck)
        .await
        .unwrap();
    let writers: Vec<_> = (0..20)
        .map(|index| {
            let admin = stack.admin();
            tokio::spawn(async move { admin.gateway(&format!("g{index}"), Gateway::default()).await })
        })
        .collect();
    all_writers_wait(&stack).await;
    stack.admin().entry("entries/first").await.unwrap();
    // A watcher comes and is served, too.
    let mut late = Watcher::start(&stack, Workload::Gateway, &[]).await;
    late.snapshot().await;
    let waiting = writers.iter().filter(|writer| !writer.is_finished()).count();
    assert_eq!(waiting, writers.len(), "a read waited until a writer gave up");
    // Writers fail with an error that says to retry, in bounded time.
    for writer in writers {
        let answer = tokio::time::timeout(Duration::from_secs(15), writer).await;
        let refused = answer.expect("no writer waits for ever").unwrap().unwrap_err();
        assert_eq!(reason(&refused), (Code::Unavailable, "STORAGE_UNAVAILABLE".to_owned()));
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut stuck).await.unwrap();
    drop((watcher, late));
    stack.admin().gateway("after", Gateway::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_restored_while_it_runs_makes_watchers_start_again() {
    const RESTORE: &str =
        "CREATE TABLE saved AS TABLE head; TRUNCATE head; INSERT INTO head SELECT * FROM saved; DROP TABLE saved";
    let Some(stack) = postgres().await else { return };
    create(&stack, "first").await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry]).await;
    let (epoch, revision, _) = watcher.snapshot().await;
    sqlx::raw_sql(RESTORE)
        .execute(&mut connect(&stack).await)
        .await
        .unwrap();
    // Without any call: the open stream ends, and nothing is resumed.
    watcher.compacted().await;
    let kinds = [ObjectKind::Entry];
    let instance = watcher.instance.clone();
    let mut resumed = Watcher::resume(&stack, Workload::Gateway, &kinds, &instance, (&epoch, revision)).await;
    resumed.compacted().await;
    let mut anew = Watcher::start(&stack, Workload::Gateway, &kinds).await;
    let (another, same, objects) = anew.snapshot().await;
    assert_ne!(another, epoch);
    assert_eq!((same, objects.len()), (revision, 1));
    let (_, changes) = tokio::join!(create(&stack, "second"), anew.acked_changes());
    assert!(changes.0 > revision);
}
