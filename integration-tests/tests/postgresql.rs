//! The program with its registry on PostgreSQL, as in production.
//!
//! Tools: postgres

use contracts::registry as r;
use integration_tests::{Stack, postgres::Server, upstream::recording::RecordingUpstream, walk};
use secrecy::ExposeSecret as _;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_and_survives_a_kill() {
    let upstream = RecordingUpstream::start().await;
    let server = Server::start().await.expect("PostgreSQL starts");
    let database = server.database().await.expect("a database is made");
    let mut stack = Stack::builder()
        .variable("CHANDLERY_DATABASE_URL", database.expose_secret())
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let made = alice.install("api", None, &[("key", "alice-key")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(
        client.call_text("api__echo", json!({"text": "on PostgreSQL"})).await,
        "on PostgreSQL"
    );
    alice
        .put_secrets(&made.name, &[("key", "rotated")])
        .await
        .expect("hers");
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer rotated"]);

    stack.kill().await;
    stack.start_again().await;
    // The registry identifies the new watchers with the killed ones, so no write waits for dead watchers.
    let request = r::UpdateEntryRequest {
        entry: Some(r::Entry {
            name: "entries/api".to_owned(),
            description: "After a crash".to_owned(),
            ..r::Entry::default()
        }),
        update_mask: None,
    };
    let admin = stack.caller(Some(admin.token().to_owned()));
    let answer = admin.entries().update_entry(request).await.expect("an admin may");
    assert_eq!(answer.metadata().get("chandlery-lagging"), None);
    let alice = stack.caller(Some(alice.token().to_owned()));
    alice.until_ready(&made.name).await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.call_text("api__echo", json!({"text": "again"})).await, "again");
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer rotated"]);
    // With PostgreSQL, the data folder contains no registry.
    let left: Vec<_> = std::fs::read_dir(stack.data_dir())
        .expect("it is there")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("registry"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_a_database() {
    let server = Server::start().await.expect("PostgreSQL starts");
    let database = server.database().await.expect("a database is made");
    let on_it = || Stack::builder().variable("CHANDLERY_DATABASE_URL", database.expose_secret());
    let mut first = on_it().start().await;
    let said = first.second_process_elsewhere().await;
    assert!(
        said.contains("another chandlery uses the registry's database"),
        "{said}"
    );
    assert!(!said.contains(database.expose_secret()), "{said}");
    first.kill().await;
    let _second = on_it().start().await;
}
