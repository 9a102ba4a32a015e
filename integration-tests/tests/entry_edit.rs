//! An admin edits an installed entry. An edit that does not change what runs touches no installation; one that does
//! moves the installations, and calls continue.
//!
//! Tools: node

use contracts::{orchestrator as o, registry as r};
use integration_tests::{
    Caller, Stack,
    tools::{Tool, npm_command},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;

/// The start time of an installation's server.
async fn started(who: &Caller, installation: &str) -> Option<prost_types::Timestamp> {
    let request = o::GetRuntimeRequest {
        name: format!("{installation}/runtime"),
    };
    let runtime = who.runtimes().get_runtime(request).await.expect("it is theirs");
    runtime.into_inner().start_time
}

/// Updates the fields that are set, without a mask.
async fn change(admin: &Caller, entry: r::Entry) -> r::Entry {
    let request = r::UpdateEntryRequest {
        entry: Some(entry),
        update_mask: None,
    };
    admin
        .entries()
        .update_entry(request)
        .await
        .expect("an admin may")
        .into_inner()
}

/// `(entry revision, moved, held, left)`.
fn rollout(entry: &r::Entry) -> (i64, i64, i64, i64) {
    let rollout = entry.rollout.as_ref().expect("the response reports the rollout");
    (rollout.entry_revision, rollout.moved, rollout.held, rollout.left)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_touch_no_installation_and_the_command_moves_them() {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let (node, script) = (Tool::Node.path(), npm_command("mcp-server-everything"));
    let (node, script) = (node.to_string_lossy(), script.to_string_lossy());
    let entry = admin.publish("hosted", walk::stdio(&node, &[&script, "stdio"])).await;
    let before = alice.install("hosted", None, &[]).await;
    let start = started(&alice, &before.name).await;
    assert!(start.is_some());
    admin.gateway("team").await;
    admin.assign("team", "hosted", "get-env").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("hosted__get-env", json!({})).await;

    let edited = change(
        &admin,
        r::Entry {
            name: entry.name.clone(),
            description: "What it is for".to_owned(),
            labels: walk::labels(&[("department", "research")]),
            version: "2026-11".to_owned(),
            ..r::Entry::default()
        },
    )
    .await;
    assert_eq!(edited.entry_revision, entry.entry_revision);
    assert_eq!(edited.server, entry.server, "what was not set stays");
    assert_eq!(alice.installation(&before.name).await.expect("hers"), before);
    assert_eq!(
        started(&alice, &before.name).await,
        start,
        "the server was not restarted"
    );

    // One more environment variable changes what runs.
    let mut with_variable = walk::stdio(&node, &[&script, "stdio"]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut with_variable.server {
        server
            .environment
            .insert("JOURNEY_EDIT".to_owned(), "second-edition".to_owned());
    }
    let edited = change(
        &admin,
        r::Entry {
            name: entry.name.clone(),
            server: with_variable.server,
            ..r::Entry::default()
        },
    )
    .await;
    assert_eq!(edited.entry_revision, entry.entry_revision + 1);
    assert_eq!(edited.labels, walk::labels(&[("department", "research")]));
    assert_eq!(rollout(&edited), (edited.entry_revision, 1, 0, 0));
    let after = alice.until_ready(&before.name).await;
    assert_eq!(after.running_entry_revision, edited.entry_revision);
    assert_eq!(after.created_entry_revision, entry.entry_revision);
    assert_ne!(started(&alice, &before.name).await, start, "it was started anew");
    assert!(
        client
            .call_text("hosted__get-env", json!({}))
            .await
            .contains("second-edition"),
        "the same client calls the new server"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_moves_them_and_a_new_required_field_holds_them() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, people) = (stack.admin(), [stack.member("alice"), stack.member("bob")]);
    let with_url = |url: &str| walk::with_static(walk::remote(url), "key", walk::bearer());
    let entry = admin.publish("api", with_url(&upstream.url())).await;
    admin.gateway("team").await;
    let mut clients = Vec::new();
    for (who, key) in people.iter().zip(["alice-key", "bob-key"]) {
        let installation = who.install("api", None, &[("key", key)]).await;
        clients.push((stack.mcp("team", who).await, who, installation.name, key));
    }
    admin.assign("team", "api", "echo").await;

    // Another path of the same origin: the secrets may be sent there, and nobody is asked.
    let moved = change(
        &admin,
        r::Entry {
            name: entry.name.clone(),
            ..walk::remote(&format!("{}/v2", upstream.url()))
        },
    )
    .await;
    assert_eq!(rollout(&moved), (entry.entry_revision + 1, 2, 0, 0));
    for (client, who, installation, key) in &clients {
        who.until_ready(installation).await;
        client.call_text("api__echo", json!({"text": "x"})).await;
        let call = upstream.last_call();
        assert_eq!(call.uri.path(), "/mcp/v2");
        assert_eq!(call.values("authorization"), [format!("Bearer {key}")]);
    }

    // A required value that nobody has entered yet: the installations stay on their revision and continue to work.
    let mut asking = r::Entry {
        name: entry.name.clone(),
        install_fields: entry.install_fields.clone(),
        ..r::Entry::default()
    };
    asking.install_fields.push(r::InstallField {
        key: "tenant".to_owned(),
        r#type: r::InstallFieldType::String.into(),
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        target: Some(r::install_field::Target::Header(r::HeaderTarget {
            name: "x-tenant".to_owned(),
        })),
        ..r::InstallField::default()
    });
    let held = change(&admin, asking).await;
    assert_eq!(rollout(&held), (moved.entry_revision + 1, 0, 2, 0));
    let holds = &held.rollout.as_ref().expect("as before").holds;
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert_eq!(
        (holds[0].reason.as_str(), holds[0].installations),
        ("FIELD_REQUIRED", 2)
    );
    let (alice, name) = (clients[0].1, clients[0].2.clone());
    for (client, who, installation, _) in &clients {
        client.call_text("api__echo", json!({"text": "x"})).await;
        assert!(upstream.last_call().values("x-tenant").is_empty());
        let installation = who.installation(installation).await.expect("theirs");
        assert_eq!(installation.running_entry_revision, moved.entry_revision);
        assert_eq!(
            installation.reinstall_required.map(|why| why.reason).as_deref(),
            Some("FIELD_REQUIRED")
        );
    }
    // An installation whose owner enters the value moves on, with the secret that is already stored.
    let request = r::UpdateInstallationRequest {
        installation: Some(r::Installation {
            name: name.clone(),
            values: walk::labels(&[("tenant", "acme")]),
            ..r::Installation::default()
        }),
        update_mask: None,
    };
    alice.installations().update_installation(request).await.expect("hers");
    alice.until_ready(&name).await;
    clients[0].0.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(upstream.last_call().values("x-tenant"), ["acme"]);
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alice-key"]);
    assert_eq!(
        rollout(&admin.entry("api").await.expect("hers to read")),
        (held.entry_revision, 1, 1, 0)
    );
}
