//! The headers that an upstream receives: the credential as the entry defines it, additional headers, passed-through
//! client headers, and nothing else.

use std::collections::BTreeSet;

use contracts::registry::{
    self as r, AdditionalHeader, additional_header::Source, injection::Kind, install_field::Target,
};
use integration_tests::{Caller, Stack, mcp::McpOptions, upstream::recording::RecordingUpstream, walk};
use serde_json::json;

/// The headers that the gateway sends for streamable HTTP.
const PROTOCOL: [&str; 8] = [
    "host",
    "content-type",
    "content-length",
    "transfer-encoding",
    "accept",
    "mcp-protocol-version",
    "mcp-session-id",
    "user-agent",
];

async fn through(
    stack: &Stack,
    alice: &Caller,
    upstream: &RecordingUpstream,
    options: McpOptions,
) -> Vec<(String, String)> {
    upstream.forget();
    let client = stack
        .mcp_with("team", alice, options)
        .await
        .expect("the gateway accepts this client");
    assert_eq!(client.call_text("api__echo", json!({"text": "hello"})).await, "hello");
    let call = upstream.last_call();
    call.headers
        .into_iter()
        .filter(|(name, _)| !PROTOCOL.contains(&name.as_str()))
        .collect()
}

async fn set_up(
    entry: r::Entry,
    values: &[(&str, &str)],
    secrets: &[(&str, &str)],
    gateway: r::Gateway,
) -> (Stack, Caller) {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.publish("api", entry).await;
    let installation = alice
        .create_installation("api", None, values)
        .await
        .expect("she may install");
    if !secrets.is_empty() {
        alice.put_secrets(&installation.name, secrets).await.expect("her own");
    }
    alice.until_ready(&installation.name).await;
    admin.create_gateway("team", gateway).await.expect("an admin may");
    admin.assign("team", "api", "echo").await;
    (stack, alice)
}

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    headers.sort();
    headers
}

fn sorted(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.sort();
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn each_injection_mode_adds_only_the_credential() {
    let custom = Kind::CustomHeader(r::CustomHeader {
        name: "x-api-key".to_owned(),
    });
    for (injection, expected) in [
        (
            Kind::Authorization(r::AuthorizationHeader {}),
            ("authorization", "ghp_alice"),
        ),
        (walk::bearer(), ("authorization", "Bearer ghp_alice")),
        (custom, ("x-api-key", "ghp_alice")),
    ] {
        let upstream = RecordingUpstream::start().await;
        let entry = walk::with_static(walk::remote(&upstream.url()), "key", injection);
        let (stack, alice) = set_up(entry, &[], &[("key", "ghp_alice")], r::Gateway::default()).await;
        // The client's own headers, especially its token, are not forwarded.
        let options = McpOptions::default()
            .header("x-client", "mine")
            .header("cookie", "session=1")
            .header("x-forwarded-for", "10.1.1.1");
        let headers = through(&stack, &alice, &upstream, options).await;
        assert_eq!(sorted(headers), pairs(&[expected]));
        for request in upstream.requests() {
            assert!(
                !request.headers.iter().any(|(_, value)| value.contains(alice.token())),
                "the caller's token went upstream"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credential_model_nothing_is_injected() {
    let upstream = RecordingUpstream::start().await;
    let (stack, alice) = set_up(walk::remote(&upstream.url()), &[], &[], r::Gateway::default()).await;
    assert_eq!(
        through(&stack, &alice, &upstream, McpOptions::default()).await,
        pairs(&[])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn additional_headers_passthrough_and_precedence() {
    let upstream = RecordingUpstream::start().await;
    let mut entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    entry.additional_headers = vec![
        AdditionalHeader {
            name: "x-api-version".to_owned(),
            source: Some(Source::Value("2026-01".to_owned())),
        },
        AdditionalHeader {
            name: "x-tenant".to_owned(),
            source: Some(Source::Field("tenant".to_owned())),
        },
    ];
    entry.install_fields.push(r::InstallField {
        key: "tenant".to_owned(),
        r#type: r::InstallFieldType::String.into(),
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        ..r::InstallField::default()
    });
    entry.install_fields.push(r::InstallField {
        target: Some(Target::Header(r::HeaderTarget {
            name: "x-second-secret".to_owned(),
        })),
        ..walk::secret("second")
    });
    let gateway = r::Gateway {
        passthrough_headers: vec!["x-trace".to_owned(), "x-tenant".to_owned(), "x-api-version".to_owned()],
        ..r::Gateway::default()
    };
    let secrets = [("key", "ghp_alice"), ("second", "s3cond")];
    let (stack, alice) = set_up(entry, &[("tenant", "acme")], &secrets, gateway).await;
    // The client tries to override managed headers, and sends one that is not on the passthrough list.
    let options = McpOptions::default()
        .header("x-trace", "t-1")
        .header("x-tenant", "evil")
        .header("x-api-version", "1999-01")
        .header("x-second-secret", "evil")
        .header("x-not-listed", "1");
    let headers = through(&stack, &alice, &upstream, options).await;
    let expected = [
        ("authorization", "Bearer ghp_alice"),
        ("x-second-secret", "s3cond"),
        ("x-api-version", "2026-01"),
        ("x-tenant", "acme"),
        ("x-trace", "t-1"),
    ];
    assert_eq!(sorted(headers), pairs(&expected));
    // Discovery and initialization send the managed headers, too.
    for request in upstream.requests() {
        assert_eq!(request.values("authorization"), ["Bearer ghp_alice"]);
        assert_eq!(request.values("x-tenant"), ["acme"]);
    }
}

/// A secret that is stored on the entry is used by every installation.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_stored_once_on_the_entry() {
    let upstream = RecordingUpstream::start().await;
    let stack = Stack::start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let mut entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    entry.install_fields[0].source = r::InstallFieldSource::Stored.into();
    admin.publish("api", entry).await;
    let request = contracts::credential::PutEntryCredentialRequest {
        entry: "entries/api".to_owned(),
        values: walk::secrets(&[("key", "shared-key")]),
        request_id: walk::request_id(),
        destination: String::new(),
    };
    admin
        .credentials()
        .put_entry_credential(request.clone())
        .await
        .expect("an admin may");
    integration_tests::caller::refused(
        alice.credentials().put_entry_credential(request).await,
        tonic::Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
    admin.gateway("team").await;
    for who in [&alice, &bob] {
        who.install("api", None, &[]).await;
    }
    admin.assign("team", "api", "echo").await;
    let seen: BTreeSet<_> = {
        upstream.forget();
        for who in [&alice, &bob] {
            stack
                .mcp("team", who)
                .await
                .call_text("api__echo", json!({"text": "hi"}))
                .await;
        }
        upstream
            .calls()
            .iter()
            .flat_map(|call| {
                call.values("authorization")
                    .into_iter()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(seen, BTreeSet::from(["Bearer shared-key".to_owned()]));
}

/// Concurrent callers each use their own account.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_use_their_own_credentials() {
    let upstream = RecordingUpstream::start().await;
    let stack = Stack::start().await;
    let admin = stack.admin();
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    admin.gateway("team").await;
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        let person = stack.member(name);
        person.install("api", None, &[("key", &format!("key-of-{name}"))]).await;
        people.push((name, person));
    }
    admin.assign("team", "api", "echo").await;
    upstream.forget();
    let clients = futures::future::join_all(people.iter().map(|(_, person)| stack.mcp("team", person))).await;
    futures::future::join_all(
        clients
            .iter()
            .zip(&people)
            .flat_map(|(client, (name, _))| (0..25).map(move |_| client.call_text("api__echo", json!({"text": name})))),
    )
    .await;
    let calls = upstream.calls();
    assert_eq!(calls.len(), 100);
    for call in calls {
        let name = call.json()["params"]["arguments"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(call.values("authorization"), [format!("Bearer key-of-{name}")]);
    }
}
