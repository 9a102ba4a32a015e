//! What the registry owes to its database, on both engines.

mod support;

use std::{path::PathBuf, time::Duration};

use contracts::registry::{watch_service_client::WatchServiceClient, *};
use registry_svc::{Config, Database, Deps};
use secrecy::ExposeSecret as _;
use service_kit::{Clock, Workload, egress::EgressPolicy};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use support::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

on_both_engines!(
    keeps_everything_over_a_restart,
    refuses_data_of_a_newer_program,
    gives_every_write_a_revision_of_its_own
);

async fn keeps_everything_over_a_restart(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    let again = stack.again().await;
    let admin = again.admin();
    assert_eq!(admin.entry(&entry.name).await.unwrap(), entry);
    let request = ListEntryToolsRequest {
        parent: entry.name.clone(),
        ..Default::default()
    };
    assert_eq!(
        admin
            .entries()
            .list_entry_tools(request)
            .await
            .unwrap()
            .into_inner()
            .tools
            .len(),
        1
    );
}

async fn refuses_data_of_a_newer_program(stack: Stack) {
    const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'of tomorrow', TRUE, $1, 0)";
    let checksum = vec![0_u8; 48];
    match &stack.database {
        Database::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
                .await
                .unwrap();
            sqlx::query(NEWER)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
            sqlx::query(NEWER)
                .bind(checksum)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }
    let refused = build(&stack, stack.database.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

async fn build(stack: &Stack, database: Database) -> Result<service_kit::App, registry_svc::BuildError> {
    let config = Config {
        database,
        egress: EgressPolicy::default(),
        page_token_key: [7; 32],
        pending_expiry: Config::DEFAULT_PENDING_EXPIRY,
    };
    registry_svc::build(
        config,
        Deps {
            verifier: stack.issuer.verifier(Clock::System),
            clock: Clock::System,
        },
    )
    .await
}

async fn gives_every_write_a_revision_of_its_own(stack: Stack) {
    let writers = (0..16).map(|index| {
        let admin = stack.admin();
        tokio::spawn(async move { admin.created(&format!("entry-{index}"), remote()).await.revision })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.push(writer.await.unwrap());
    }
    revisions.sort_unstable();
    let expected: Vec<i64> = (revisions[0]..revisions[0] + 16).collect();
    assert_eq!(revisions, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_start_at_once_migrate_once() {
    let stack = Stack::start(On::Sqlite).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let path: PathBuf = data.path().join("new.db");
    let starts = (0..6).map(|_| build(&stack, Database::Sqlite(path.clone())));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let stack = Stack::start(On::Sqlite).await.unwrap();
    let refused = build(&stack, Database::Sqlite("/nowhere/at/all.db".into()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("registry's database"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_wait_for_each_others_watchers() {
    let Some(one) = Stack::start(On::Postgres).await else {
        return;
    };
    let other = one.again().await;
    let (requests, outgoing) = mpsc::channel(16);
    let send = |message| {
        let requests = requests.clone();
        async move { requests.send(WatchRequest { message: Some(message) }).await.unwrap() }
    };
    send(watch_request::Message::Start(WatchStart::default())).await;
    let mut client = WatchServiceClient::new(other.pipe(Workload::Gateway));
    let mut responses = client.watch(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    loop {
        let message = responses.message().await.unwrap().unwrap().message.unwrap();
        if let watch_response::Message::SnapshotEnd(end) = message {
            send(watch_request::Message::Ack(WatchAck { revision: end.revision })).await;
            break;
        }
    }
    let admin = one.admin();
    let mut creating = tokio::spawn(async move {
        let request = CreateEntryRequest {
            entry_id: "time".to_owned(),
            entry: Some(remote()),
            ..Default::default()
        };
        admin.entries().create_entry(request).await.unwrap()
    });
    // The other replica learns of it at once, not by its look-up every second.
    let batch = loop {
        let message = tokio::time::timeout(Duration::from_secs(5), responses.message())
            .await
            .unwrap();
        match message.unwrap().unwrap().message.unwrap() {
            watch_response::Message::Changes(batch) => break batch,
            watch_response::Message::Bookmark(_) => {}
            message => panic!("{message:?}"),
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut creating)
            .await
            .is_err()
    );
    send(watch_request::Message::Ack(WatchAck {
        revision: batch.revision,
    }))
    .await;
    let created = creating.await.unwrap();
    assert!(created.metadata().get("chandlery-lagging").is_none());
}
