//! The watch, on both engines.

mod support;

use std::time::{Duration, Instant};

use contracts::registry::*;
use registry_svc::Database;
use service_kit::{Readiness, Workload};
use support::{
    watcher::{Process, Watcher, lagging, puts, removals, start},
    *,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response};

on_both_engines!(
    begins_with_a_snapshot_and_goes_on_with_changes,
    resumes_where_it_was_left,
    refuses_to_resume_from_another_database,
    is_for_workloads_only,
    each_workload_watches_what_it_needs,
    holds_a_mutation_back_until_it_is_acknowledged,
    names_who_lags_until_it_says_goodbye,
    a_watcher_that_vanished_counts_until_its_lease_ends,
    a_watcher_that_vanished_comes_back_under_its_name,
    a_watcher_that_acknowledges_nothing_shows_in_readiness,
    revisions_that_are_large_come_in_parts,
    snapshots_that_are_large_come_in_parts,
    an_edit_reaches_watchers_however_large_the_entry_is,
    gateways_find_each_other,
    a_watcher_that_was_away_for_too_long_starts_anew,
    a_server_that_flips_its_tools_cannot_fill_the_disk,
);

async fn create(stack: &Stack, slug: &str) -> Response<Entry> {
    let request = create_entry(slug, remote());
    stack.admin().entries().create_entry(request).await.unwrap()
}

async fn begins_with_a_snapshot_and_goes_on_with_changes(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now", "later"]).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    let (epoch, _, objects) = watcher.snapshot().await;
    assert!(!epoch.is_empty());
    let objects: Vec<_> = objects.into_iter().map(|object| object.object.unwrap()).collect();
    let place = |is: &dyn Fn(&watched_object::Object) -> bool| {
        let found: Vec<_> = (0..objects.len()).filter(|&index| is(&objects[index])).collect();
        (found.len(), found[0])
    };
    use watched_object::Object;
    let definitions = place(&|object| matches!(object, Object::FeatureDefinition(_)));
    let sets = place(&|object| matches!(object, Object::FeatureSet(_)));
    let entries = place(&|object| matches!(object, Object::Entry(_)));
    let revisions = place(&|object| matches!(object, Object::EntryRevision(_)));
    let installations = place(&|object| matches!(object, Object::Installation(_)));
    assert_eq!(
        (definitions.0, sets.0, entries.0, revisions.0, installations.0),
        (2, 1, 1, 1, 1)
    );
    // What is named comes before what names it.
    assert!(definitions.1 < sets.1 && sets.1 < entries.1 && revisions.1 < installations.1);
    let Object::Installation(watched) = &objects[installations.1] else {
        unreachable!()
    };
    assert_eq!(
        (watched.name.as_str(), watched.entry_uid.as_str()),
        (installation.name.as_str(), entry.uid.as_str())
    );

    let changing = tokio::spawn(async move {
        let change = Entry {
            name: "entries/time".to_owned(),
            display_name: "Time".to_owned(),
            ..Entry::default()
        };
        admin.update(change, &["display_name"]).await.unwrap()
    });
    let (revision, changes) = watcher.acked_changes().await;
    let entry = changing.await.unwrap();
    assert_eq!(revision, entry.registry_revision);
    let [Object::Entry(watched)] = puts(&changes)[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (&watched.display_name, &watched.etag),
        (&entry.display_name, &entry.etag)
    );
}

async fn resumes_where_it_was_left(stack: Stack) {
    create(&stack, "zeroth").await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry]).await;
    let (epoch, revision, objects) = watcher.snapshot().await;
    assert_eq!(objects.len(), 1);
    let instance = watcher.instance.clone();
    watcher.leave().await;
    let first = create(&stack, "first").await.into_inner();
    stack.admin().gateway("main", Gateway::default()).await.unwrap();
    let second = create(&stack, "second").await.into_inner();
    let kinds = [ObjectKind::Entry];
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &kinds, &instance, (&epoch, revision)).await;
    let Some(watch_response::Message::Resumed(resumed)) = watcher.next().await else {
        panic!("it does not resume")
    };
    assert_eq!(
        resumed.revision, second.registry_revision,
        "what it has missed ends here"
    );
    for expected in [&first, &second] {
        let (revision, changes) = watcher.acked_changes().await;
        assert_eq!(revision, expected.registry_revision);
        let [watched_object::Object::Entry(watched)] = puts(&changes)[..] else {
            panic!("{changes:?}")
        };
        assert_eq!(watched.name, expected.name);
    }
    // A watcher that has missed nothing is resumed at once.
    let now = (epoch.as_str(), second.registry_revision);
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &kinds, "another", now).await;
    let Some(watch_response::Message::Resumed(resumed)) = watcher.next().await else {
        panic!("it does not resume")
    };
    assert_eq!(resumed.revision, second.registry_revision);
    // And it is not waited for: what it resumed from is in force there.
    assert!(stack.admin().gateway("other", Gateway::default()).await.is_ok());
}

async fn refuses_to_resume_from_another_database(stack: Stack) {
    let revision = create(&stack, "first").await.into_inner().registry_revision;
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &[], "a", ("another", revision)).await;
    watcher.compacted().await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    let (epoch, ..) = watcher.snapshot().await;
    // A revision that is still to come is of a database that was restored.
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &[], "a", (&epoch, 1_000)).await;
    watcher.compacted().await;
}

async fn is_for_workloads_only(stack: Stack) {
    let (requests, outgoing) = mpsc::channel(1);
    let message = Some(watch_request::Message::Start(start(&[])));
    requests.send(WatchRequest { message }).await.unwrap();
    let watching = stack.admin().watch().watch(ReceiverStream::new(outgoing)).await;
    assert_eq!(
        reason(&watching.unwrap_err()),
        (Code::PermissionDenied, "WORKLOADS_ONLY".to_owned())
    );
    let (requests, outgoing) = mpsc::channel(1);
    let message = Some(watch_request::Message::Ack(WatchAck { revision: 1 }));
    requests.send(WatchRequest { message }).await.unwrap();
    let channel = stack.pipe(Workload::Gateway);
    let mut client = watch_service_client::WatchServiceClient::new(channel);
    let refused = client.watch(ReceiverStream::new(outgoing)).await.unwrap_err();
    assert_eq!(fields(&refused), ["start"]);
    let unnamed = Watcher::over(stack.pipe(Workload::Gateway), WatchStart::default()).await;
    assert_eq!(fields(&unnamed.err().unwrap()), ["start.instance"]);
}

async fn each_workload_watches_what_it_needs(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    admin.install(&entry.name, None, &[]).await.unwrap();
    admin.gateway("main", Gateway::default()).await.unwrap();
    for (workload, allowed) in [
        (Workload::Gateway, 4),
        (Workload::Credential, 3),
        (Workload::Orchestrator, 3),
    ] {
        let mut watcher = Watcher::start(&stack, workload, &[]).await;
        assert_eq!(watcher.snapshot().await.2.len(), allowed, "{workload}");
        watcher.leave().await;
    }
    let asked = start(&[ObjectKind::Entry, ObjectKind::GatewayToken]);
    let refused = Watcher::over(stack.pipe(Workload::Credential), asked)
        .await
        .err()
        .unwrap();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
}

async fn holds_a_mutation_back_until_it_is_acknowledged(stack: Stack) {
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry]).await;
    watcher.snapshot().await;
    let stack = std::sync::Arc::new(stack);
    let mut creating = tokio::spawn({
        let stack = std::sync::Arc::clone(&stack);
        async move { create(&stack, "time").await }
    });
    let (revision, _) = watcher.changes().await;
    let early = tokio::time::timeout(Duration::from_millis(200), &mut creating).await;
    assert!(early.is_err());
    watcher.ack(revision).await;
    let created = creating.await.unwrap();
    assert!(lagging(&created).is_empty());
    assert_eq!(
        created.metadata().get("chandlery-revision").unwrap(),
        &revision.to_string()
    );
    // What it does not watch does not wait for it: it acknowledges nothing more, and is not said to lag.
    let request = CreateGatewayRequest {
        gateway_id: "main".to_owned(),
        gateway: Some(Gateway::default()),
        ..CreateGatewayRequest::default()
    };
    let created = stack.admin().gateways().create_gateway(request).await.unwrap();
    assert!(lagging(&created).is_empty());
}

async fn names_who_lags_until_it_says_goodbye(stack: Stack) {
    let mut watchers = Vec::new();
    for workload in [Workload::Gateway, Workload::Credential, Workload::Gateway] {
        let mut watcher = Watcher::start(&stack, workload, &[]).await;
        watcher.snapshot().await;
        watchers.push((watcher.name(workload), watcher));
    }
    let mut names: Vec<_> = watchers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    assert_eq!(lagging(&create(&stack, "time").await), names);
    let (_, cancelled) = watchers.pop().unwrap();
    drop(cancelled);
    for (_, watcher) in watchers {
        watcher.leave().await;
    }
    // A call that is cancelled says goodbye as well.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut index = 0;
    while !lagging(&create(&stack, &format!("more-{index}")).await).is_empty() {
        assert!(Instant::now() < deadline, "a watcher that has gone still counts");
        index += 1;
    }
}

async fn a_watcher_that_vanished_counts_until_its_lease_ends(stack: Stack) {
    let lease = Duration::from_secs(6);
    let stack = stack.succeed_with(|config| config.watcher_lease = lease).await;
    let mut process = Process::start(&stack, start(&[ObjectKind::Entry])).await;
    process.kill();
    // It has acknowledged everything: only what comes now is in doubt.
    assert_eq!(lagging(&create(&stack, "one").await), [process.name.as_str()]);
    let deadline = Instant::now() + lease + Duration::from_secs(20);
    let mut index = 0;
    while !lagging(&create(&stack, &format!("more-{index}")).await).is_empty() {
        assert!(Instant::now() < deadline, "a watcher without a lease still counts");
        index += 1;
    }
}

async fn a_watcher_that_vanished_comes_back_under_its_name(stack: Stack) {
    let mut process = Process::start(&stack, start(&[ObjectKind::Entry])).await;
    process.kill();
    assert_eq!(lagging(&create(&stack, "one").await), [process.name.as_str()]);
    let back = WatchStart {
        instance: process.instance.clone(),
        ..start(&[ObjectKind::Entry])
    };
    let mut watcher = Watcher::over(stack.pipe(Workload::Gateway), back.clone())
        .await
        .unwrap();
    let (_, revision, _) = watcher.snapshot().await;
    // Once more, while the stream before is still there: that one ends.
    let mut again = Watcher::over(stack.pipe(Workload::Gateway), back).await.unwrap();
    assert_eq!(again.snapshot().await.1, revision);
    watcher.ends().await;
    let stack = std::sync::Arc::new(stack);
    let creating = tokio::spawn({
        let stack = std::sync::Arc::clone(&stack);
        async move { create(&stack, "two").await }
    });
    again.acked_changes().await;
    assert!(lagging(&creating.await.unwrap()).is_empty());
    // What the stream before leaves behind takes nothing from the new one.
    drop(watcher);
    assert_eq!(lagging(&create(&stack, "three").await), [again.name(Workload::Gateway)]);
}

async fn a_watcher_that_acknowledges_nothing_shows_in_readiness(stack: Stack) {
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry]).await;
    watcher.snapshot().await;
    let created = create(&stack, "one").await.into_inner();
    let mut ready = stack.ready.clone();
    let degraded = tokio::time::timeout(
        Duration::from_secs(20),
        ready.wait_for(|ready| matches!(ready, Readiness::Degraded(_))),
    );
    let Readiness::Degraded(text) = degraded.await.unwrap().unwrap().clone() else {
        unreachable!()
    };
    assert!(text.contains(&watcher.name(Workload::Gateway)), "{text}");
    watcher.ack(created.registry_revision).await;
    let is_ready = ready.wait_for(|ready| *ready == Readiness::Ready);
    tokio::time::timeout(Duration::from_secs(10), is_ready)
        .await
        .unwrap()
        .unwrap();
}

async fn revisions_that_are_large_come_in_parts(stack: Stack) {
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    let admin = stack.admin();
    // The entry and its first revision, which is another object: two megabytes.
    let creating = tokio::spawn(async move { admin.created("large", large()).await });
    let mut parts = 0;
    let mut changes = Vec::new();
    let revision = loop {
        match watcher.next().await.unwrap() {
            watch_response::Message::ChangePart(part) => {
                parts += 1;
                changes.extend(part.changes);
                if part.last {
                    break part.revision;
                }
            }
            other => panic!("{other:?}"),
        }
    };
    // Half of it is not acknowledged, and all of it is.
    assert!(!creating.is_finished());
    watcher.ack(revision).await;
    let entry = creating.await.unwrap();
    assert_eq!((parts, entry.registry_revision), (2, revision));
    let [
        watched_object::Object::Entry(_),
        watched_object::Object::EntryRevision(made),
    ] = puts(&changes)[..]
    else {
        panic!("not an entry and its revision")
    };
    assert_eq!(made.install_fields, entry.install_fields);
}

async fn snapshots_that_are_large_come_in_parts(stack: Stack) {
    let admin = stack.admin();
    let mut expected = Vec::new();
    for index in 0..12 {
        expected.push(admin.created(&format!("large-{index}"), large()).await.uid);
    }
    // Many at once, one after another. None gets a message that is too large, or forgets something.
    let kinds = [ObjectKind::Entry, ObjectKind::EntryRevision];
    let snapshots = (0..12).map(|_| async {
        let mut watcher = Watcher::start(&stack, Workload::Gateway, &kinds).await;
        let (_, _, objects) = watcher.snapshot().await;
        objects.into_iter().map(|object| object.key).collect::<Vec<_>>()
    });
    expected.sort();
    let revisions = expected.iter().map(|uid| format!("{uid}/1"));
    let expected: Vec<_> = expected.iter().cloned().chain(revisions).collect();
    for keys in futures::future::join_all(snapshots).await {
        assert_eq!(keys, expected);
    }
}

/// At e7ac4ad, an edit of a large entry made one message of all its installations, which no watcher ever got over.
async fn an_edit_reaches_watchers_however_large_the_entry_is(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("large", large()).await;
    for index in 0..20 {
        let person = stack.person(&format!("p{index}"));
        person.install(&entry.name, None, &[]).await.unwrap();
    }
    struct Sink(tokio::sync::watch::Sender<i64>);
    impl registry_client::watch::Sink for Sink {
        fn snapshot_begin(&mut self) {}
        async fn snapshot_objects(&mut self, _: Vec<WatchedObject>) {}
        async fn snapshot_end(&mut self, revision: i64) {
            self.0.send_replace(revision);
        }
        async fn changes(&mut self, revision: i64, _: Vec<Change>) {
            self.0.send_replace(revision);
        }
        fn connected(&mut self, _: bool) {}
    }
    let (sender, mut reached) = tokio::sync::watch::channel(0);
    let watcher = registry_client::watch::Watcher {
        instance: "a".to_owned(),
        ..Default::default()
    };
    let channel = stack.pipe(Workload::Gateway);
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn({
        let stop = stop.clone();
        async move { registry_client::watch::follow(channel, &watcher, &[], &mut Sink(sender), stop).await }
    });
    reached.wait_for(|revision| *revision > 0).await.unwrap();
    let change = Entry {
        name: entry.name.clone(),
        server: Some(entry::Server::Remote(RemoteServer {
            url: "https://elsewhere.example.com/mcp".to_owned(),
            ..RemoteServer::default()
        })),
        ..Default::default()
    };
    let updated = admin.update(change, &["remote"]).await.unwrap();
    let is_there = reached.wait_for(|revision| *revision >= updated.registry_revision);
    tokio::time::timeout(Duration::from_secs(20), is_there)
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    following.await.unwrap();
}

async fn gateways_find_each_other(stack: Stack) {
    let stack = stack
        .succeed_with(|config| config.watcher_lease = Duration::from_secs(5))
        .await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::GatewayReplica]).await;
    assert!(watcher.snapshot().await.2.is_empty());
    let reachable = |instance: &str| WatchStart {
        instance: instance.to_owned(),
        address: format!("https://{instance}:8443"),
        ..start(&[ObjectKind::Entry])
    };
    let is_there = |changes: &[Change], instance: &str| {
        let replica = GatewayReplica {
            instance: instance.to_owned(),
            address: format!("https://{instance}:8443"),
        };
        assert_eq!(puts(changes), [&watched_object::Object::GatewayReplica(replica)]);
    };
    let one = Watcher::over(stack.pipe(Workload::Gateway), reachable("one"))
        .await
        .unwrap();
    is_there(&watcher.acked_changes().await.1, "one");
    let mut two = Process::start(&stack, reachable("two")).await;
    is_there(&watcher.acked_changes().await.1, "two");
    let mut late = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::GatewayReplica]).await;
    assert_eq!(late.snapshot().await.2.len(), 2);
    late.leave().await;
    one.leave().await;
    let gone = watcher.acked_changes().await.1;
    assert_eq!(removals(&gone), [(ObjectKind::GatewayReplica, "one")]);
    two.kill();
    let gone = watcher.acked_changes().await.1;
    assert_eq!(removals(&gone), [(ObjectKind::GatewayReplica, "two")]);
    let elsewhere = WatchStart {
        address: "https://credential:1".to_owned(),
        ..start(&[])
    };
    let refused = Watcher::over(stack.pipe(Workload::Credential), elsewhere)
        .await
        .err()
        .unwrap();
    assert_eq!(fields(&refused), ["start.address"]);
}

async fn a_watcher_that_was_away_for_too_long_starts_anew(stack: Stack) {
    let stack = stack
        .succeed_with(|config| {
            config.retention.revisions = 3;
            config.retention.age = Duration::from_secs(1);
        })
        .await;
    let kinds = [ObjectKind::Entry];
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &kinds).await;
    let (epoch, revision, _) = watcher.snapshot().await;
    let instance = watcher.instance.clone();
    watcher.leave().await;
    let mut made = Vec::new();
    for index in 0..8 {
        made.push(create(&stack, &format!("entry-{index}")).await.into_inner());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let resumed = (epoch.as_str(), revision.max(1));
        let mut watcher = Watcher::resume(&stack, Workload::Gateway, &kinds, &instance, resumed).await;
        if matches!(watcher.next().await, Some(watch_response::Message::Compacted(_))) {
            break;
        }
        assert!(Instant::now() < deadline, "nothing is forgotten");
        watcher.leave().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let kept = (epoch.as_str(), made[5].registry_revision);
    let mut watcher = Watcher::resume(&stack, Workload::Gateway, &kinds, &instance, kept).await;
    for expected in &made[6..] {
        assert_eq!(watcher.acked_changes().await.0, expected.registry_revision);
    }
}

async fn a_server_that_flips_its_tools_cannot_fill_the_disk(stack: Stack) {
    const KEPT: i64 = 16 << 20;
    let stack = stack
        .succeed_with(|config| {
            config.retention.bytes = KEPT;
            config.retention.age = Duration::from_secs(1_000);
        })
        .await;
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    // Eight megabytes of definitions, others each time.
    for flip in 0..12 {
        let tools = (0..16).map(|index| Tool {
            tool: format!("tool-{index}"),
            definition_json: format!(
                "{{\"name\":\"tool-{index}\",\"description\":\"{flip} {}\"}}",
                "x".repeat(500_000)
            ),
            ..Tool::default()
        });
        let outcome = report_discovery_request::Outcome::Tools(DiscoveredTools {
            tools: tools.collect(),
            ..DiscoveredTools::default()
        });
        let subject = report_discovery_request::Subject::InstallationUid(installation.uid.clone());
        let request = ReportDiscoveryRequest {
            subject: Some(subject),
            observed_generation: i64::MAX,
            outcome: Some(outcome),
        };
        stack
            .reports(Workload::Gateway)
            .report_discovery(request)
            .await
            .unwrap();
    }
    // What is forgotten stays forgotten, and its room is used again.
    let deadline = Instant::now() + Duration::from_secs(30);
    while logged(&stack.database).await > KEPT {
        assert!(
            Instant::now() < deadline,
            "{} bytes are kept",
            logged(&stack.database).await
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Bytes in the change log.
async fn logged(database: &Database) -> i64 {
    use secrecy::ExposeSecret as _;
    use sqlx::Connection as _;
    const LOGGED: &str = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM changes";
    match database {
        Database::Sqlite(path) => {
            let url = format!("sqlite:{}", path.display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::query_scalar(LOGGED).fetch_one(&mut connection).await.unwrap()
        }
        Database::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url.expose_secret()).await.unwrap();
            sqlx::query_scalar(LOGGED).fetch_one(&mut connection).await.unwrap()
        }
    }
}
