//! Every kind of invalid input fails with a typed, clear error, and affects nobody else.
//!
//! Tools: grpcurl

use contracts::{
    credential as c, gateway as g,
    registry::{self as r, AdditionalHeader, additional_header::Source, injection::Kind, install_field::Target},
};
use integration_tests::{
    Stack,
    caller::{bad_fields, reason, refused},
    script::grpcurl,
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

/// Asserts that the error names exactly these fields, all at once.
#[track_caller]
fn assert_bad_fields<T: std::fmt::Debug>(result: Result<T, tonic::Status>, fields: &[&str]) {
    let status = refused(result, Code::InvalidArgument, "INVALID_FIELDS");
    let mut named = bad_fields(&status);
    named.sort();
    named.dedup();
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    assert_eq!(named, fields, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_entries() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let good = || walk::remote("https://mcp.example.com/mcp");
    let long = "a".repeat(64);
    for slug in ["", "Upper", "-a", "a-", "a_b", "a/b", "ä", "a\n", long.as_str()] {
        assert_bad_fields(admin.create_entry(slug, good()).await, &["entry_id"]);
    }
    for url in [
        "",
        "nonsense",
        "ftp://a.example",
        "file:///etc/passwd",
        "https://u:p@a.example/",
        "https://a.example/#f",
        "http://",
    ] {
        assert_bad_fields(
            admin.create_entry("bad", walk::remote(url)).await,
            &["entry.remote.url"],
        );
    }
    for (key, value) in [
        ("a b", "c"),
        ("", "c"),
        ("a", "é"),
        ("a", "-c"),
        ("a", &"v".repeat(64)),
        ("a\r\n", "c"),
    ] {
        let entry = r::Entry {
            labels: walk::labels(&[(key, value)]),
            ..good()
        };
        let status = refused(
            admin.create_entry("bad", entry).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
        );
        assert!(
            bad_fields(&status)
                .iter()
                .all(|field| field.starts_with("entry.labels")),
            "{status:?}"
        );
    }
    for name in [
        "Authorization",
        "authorization",
        "x\r\ny",
        "a b",
        "",
        "host",
        "content-length",
        "mcp-session-id",
        "connection",
    ] {
        let header = AdditionalHeader {
            name: name.to_owned(),
            source: Some(Source::Value("1".to_owned())),
        };
        let entry = r::Entry {
            additional_headers: vec![header],
            ..good()
        };
        assert_bad_fields(
            admin.create_entry("bad", entry).await,
            &["entry.additional_headers[0].name"],
        );
    }
    let header = AdditionalHeader {
        name: "x-a".to_owned(),
        source: Some(Source::Value("1\r\nx-evil: 1".to_owned())),
    };
    assert_bad_fields(
        admin
            .create_entry(
                "bad",
                r::Entry {
                    additional_headers: vec![header],
                    ..good()
                },
            )
            .await,
        &["entry.additional_headers[0].value"],
    );
    for key in ["", "1a", "a b", "ä", long.as_str()] {
        let field = r::InstallField {
            target: Some(Target::Header(r::HeaderTarget {
                name: "x-key".to_owned(),
            })),
            ..walk::secret(key)
        };
        assert_bad_fields(
            admin
                .create_entry(
                    "bad",
                    r::Entry {
                        install_fields: vec![field],
                        ..good()
                    },
                )
                .await,
            &["entry.install_fields[0].key"],
        );
    }
    // The response lists all faults of a request at once.
    let mut entry = walk::with_static(
        walk::remote("nonsense"),
        "key",
        Kind::CustomHeader(r::CustomHeader { name: "a b".to_owned() }),
    );
    entry.docs_url = "javascript:alert(1)".to_owned();
    entry.display_name = "d".repeat(121);
    let status = refused(
        admin.create_entry("Bad", entry).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
    );
    for field in [
        "entry_id",
        "entry.remote.url",
        "entry.docs_url",
        "entry.display_name",
        "entry.static_credential.injection.custom_header.name",
    ] {
        assert!(
            bad_fields(&status).iter().any(|named| named == field),
            "{field} is missing: {status:?}"
        );
    }
    let bob = stack.member("bob");
    refused(
        bob.create_entry("mine", good()).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
    admin.create_entry("good", good()).await.expect("it has no fault");
    refused(
        admin.create_entry("good", good()).await,
        Code::AlreadyExists,
        "ALREADY_EXISTS",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_malformed_and_foreign_ids() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let hers = alice.install("api", None, &[("key", "alice-key")]).await;
    let unknown = format!("installations/{}", uuid::Uuid::new_v4());
    // A resource of another person looks exactly as if it did not exist.
    let foreign = refused(bob.installation(&hers.name).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let missing = refused(bob.installation(&unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let normal = |status: &tonic::Status, name: &str| status.message().replace(name, "X");
    assert_eq!(normal(&foreign, &hers.name), normal(&missing, &unknown));
    for name in [
        "",
        "installations/",
        "installations/a/b",
        "entries/x",
        "installations/%00",
        "installations/..",
        "\u{0}",
    ] {
        let status = bob.installation(name).await.expect_err("it is none");
        assert!(
            [
                (Code::InvalidArgument, "INVALID_FIELDS"),
                (Code::NotFound, "RESOURCE_NOT_FOUND")
            ]
            .contains(&(status.code(), reason(&status).as_str())),
            "{name:?}: {status:?}"
        );
    }
    refused(
        bob.put_secrets(&hers.name, &[("key", "stolen")]).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    let request = r::DeleteInstallationRequest {
        name: hers.name.clone(),
        etag: String::new(),
    };
    refused(
        bob.installations().delete_installation(request).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    let request = contracts::orchestrator::GetRuntimeRequest {
        name: format!("{}/runtime", hers.name),
    };
    refused(
        bob.runtimes().get_runtime(request).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    // The error names the field of the request, whichever service finds the fault.
    for name in ["installations/none/runtime", "installations//runtime"] {
        let request = contracts::orchestrator::GetRuntimeRequest { name: name.to_owned() };
        let answer = bob.runtimes().get_runtime(request).await;
        let status = refused(answer, Code::InvalidArgument, "INVALID_FIELDS");
        let fields = status
            .get_details_bad_request()
            .expect("it names the field")
            .field_violations;
        assert_eq!(fields[0].field, "name", "{name}");
    }
    let request = g::DiscoverToolsRequest {
        installation: hers.name.clone(),
    };
    refused(
        bob.tools().discover_tools(request).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    for gateway in ["gateways/nothing", "agents/nothing"] {
        let request = g::ListToolsRequest {
            parent: gateway.to_owned(),
            ..Default::default()
        };
        refused(
            bob.tools().list_tools(request).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
    }
    let Err(answer) = stack.mcp_with("nothing", &bob, Default::default()).await else {
        panic!("there is no such gateway")
    };
    assert_eq!(answer.0.status, http::StatusCode::NOT_FOUND);
    refused(admin.entry("nothing").await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // Invalid page tokens, and tokens of another list.
    let request = r::ListEntriesRequest {
        page_token: "nonsense".to_owned(),
        ..Default::default()
    };
    refused(
        admin.entries().list_entries(request).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_INVALID",
    );
    let request = r::ListEntriesRequest {
        page_size: -1,
        ..Default::default()
    };
    assert_bad_fields(admin.entries().list_entries(request).await, &["page_size"]);
    let request = r::ListEntriesRequest {
        page_size: 1,
        ..Default::default()
    };
    let page = admin
        .entries()
        .list_entries(request)
        .await
        .expect("an admin may")
        .into_inner();
    assert!(!page.next_page_token.is_empty());
    let request = r::ListGatewaysRequest {
        page_token: page.next_page_token,
        ..Default::default()
    };
    refused(
        admin.gateways().list_gateways(request).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_INVALID",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_etags_and_used_request_ids() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let first = admin.publish("api", walk::remote("https://mcp.example.com/mcp")).await;
    let change = |etag: &str, text: &str| r::Entry {
        name: "entries/api".to_owned(),
        etag: etag.to_owned(),
        description: text.to_owned(),
        ..r::Entry::default()
    };
    // If two people change the same thing, one of them is told to read it again.
    let (one, other) = tokio::join!(
        admin.update_entry(change(&first.etag, "one"), &["description"]),
        admin.update_entry(change(&first.etag, "other"), &["description"]),
    );
    assert!(one.is_ok() != other.is_ok(), "exactly one wins: {one:?} {other:?}");
    refused(if one.is_ok() { other } else { one }, Code::Aborted, "ETAG_MISMATCH");
    let request = r::DeleteEntryRequest {
        name: "entries/api".to_owned(),
        etag: first.etag,
        force: false,
    };
    refused(
        admin.entries().delete_entry(request).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let request = |id: &str| r::CreateEntryRequest {
        entry_id: id.to_owned(),
        entry: Some(walk::remote("https://mcp.example.com/mcp")),
        request_id: "7c9e6679-7425-40de-944b-e07fc1f90ae7".to_owned(),
    };
    let made = admin
        .entries()
        .create_entry(request("twice"))
        .await
        .expect("it is new")
        .into_inner();
    let again = admin
        .entries()
        .create_entry(request("twice"))
        .await
        .expect("a retry")
        .into_inner();
    assert_eq!(made.uid, again.uid);
    refused(
        admin.entries().create_entry(request("third")).await,
        Code::InvalidArgument,
        "REQUEST_ID_REUSED",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_misplaced_and_missing_secrets() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let mut entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    entry.install_fields.push(r::InstallField {
        key: "tenant".to_owned(),
        r#type: r::InstallFieldType::Select.into(),
        options: vec!["acme".to_owned(), "globex".to_owned()],
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        ..r::InstallField::default()
    });
    entry.additional_headers = vec![AdditionalHeader {
        name: "x-tenant".to_owned(),
        source: Some(Source::Field("tenant".to_owned())),
    }];
    admin.publish("api", entry).await;
    let status = refused(
        alice.create_installation("api", None, &[]).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
    );
    assert!(
        bad_fields(&status).iter().any(|field| field.contains("tenant")),
        "{status:?}"
    );
    let wrong = alice.create_installation("api", None, &[("tenant", "other")]).await;
    refused(wrong, Code::InvalidArgument, "INVALID_FIELDS");
    // The registry rejects a value for a secret field.
    let leaked = alice
        .create_installation("api", None, &[("tenant", "acme"), ("key", "hunter2")])
        .await;
    let status = refused(leaked, Code::InvalidArgument, "INVALID_FIELDS");
    assert!(!format!("{status:?}").contains("hunter2"));
    let made = alice
        .create_installation("api", None, &[("tenant", "acme")])
        .await
        .expect("all is there");
    for (key, value) in [
        ("key", "x".repeat(1 << 20)),
        ("key", String::new()),
        ("nothing", "x".to_owned()),
        ("key", "a\nb".to_owned()),
        ("tenant", "acme".to_owned()),
    ] {
        let status = refused(
            alice.put_secrets(&made.name, &[(key, &value)]).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
        );
        assert!(!bad_fields(&status).is_empty(), "{status:?}");
    }
    let request = c::GetInstallationCredentialRequest {
        installation: made.name.clone(),
    };
    let stored = alice
        .credentials()
        .get_installation_credential(request)
        .await
        .expect("hers")
        .into_inner();
    assert_eq!(
        (stored.credential_generation, stored.missing_fields),
        (0, vec!["key".to_owned()]),
        "no rejected secret was stored"
    );
    alice
        .put_secrets(&made.name, &[("key", "good")])
        .await
        .expect("it is good");
    alice.until_ready(&made.name).await;
    refused(
        alice.create_installation("api", None, &[("tenant", "acme")]).await,
        Code::AlreadyExists,
        "ALREADY_EXISTS",
    );
}

/// Colliding tool names: each tool gets a distinct exposed name, whatever the order; impossible names are rejected.
#[tokio::test(flavor = "multi_thread")]
async fn colliding_exposed_names() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let long = "t".repeat(70);
    upstream.set_tools(&["a.b", "a_b", "a b", &long]);
    for entry in ["one", "two"] {
        admin.publish(entry, walk::remote(&upstream.url())).await;
        alice.install(entry, None, &[]).await;
    }
    admin.gateway("team").await;
    for tool in ["a.b", "a_b", "a b", &long] {
        admin.assign("team", "one", tool).await;
    }
    let client = stack.mcp("team", &alice).await;
    let names = client.tool_names().await;
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(
        names.iter().collect::<std::collections::BTreeSet<_>>().len(),
        4,
        "{names:?}"
    );
    for name in &names {
        assert!(
            name.len() <= 64
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
            "{name}"
        );
        // Each name calls its own tool.
        client.call_text(name, json!({"text": "x"})).await;
    }
    let called: std::collections::BTreeSet<_> = upstream
        .calls()
        .iter()
        .map(|call| call.json()["params"]["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        called,
        ["a.b", "a_b", "a b", &long].into_iter().map(str::to_owned).collect()
    );
    let own = |name: &str| r::ToolAssignment {
        exposed_name: name.to_owned(),
        ..walk::assignment("two", "a_b")
    };
    assert_bad_fields(
        admin.create_assignment("gateways/team", own("not a name"), false).await,
        &["tool_assignment.exposed_name"],
    );
    admin
        .create_assignment("gateways/team", own("mine"), false)
        .await
        .expect("it is free");
    let taken = r::ToolAssignment {
        exposed_name: "mine".to_owned(),
        ..walk::assignment("two", "a.b")
    };
    refused(
        admin.create_assignment("gateways/team", taken, false).await,
        Code::AlreadyExists,
        "ALREADY_EXISTS",
    );
    let unknown = walk::assignment("two", "nothing");
    refused(
        admin.create_assignment("gateways/team", unknown, false).await,
        Code::FailedPrecondition,
        "TOOL_UNKNOWN",
    );
}

/// Entries that are edited, repointed or deleted while they are installed.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_installed_entries() {
    let stack = Stack::start().await;
    let (first, second) = (RecordingUpstream::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&first.url()), "key", walk::bearer()),
        )
        .await;
    let made = alice.install("api", None, &[("key", "alice-key")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;

    // A change that requires no input leaves the installation ready.
    let mut entry = r::Entry {
        name: "entries/api".to_owned(),
        ..r::Entry::default()
    };
    entry.additional_headers = vec![AdditionalHeader {
        name: "x-version".to_owned(),
        source: Some(Source::Value("2".to_owned())),
    }];
    admin
        .update_entry(entry, &["additional_headers"])
        .await
        .expect("an admin may");
    alice.until_ready(&made.name).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(first.last_call().values("x-version"), ["2"]);

    // After the entry changes to another origin, the secret is not sent there until its owner confirms, which requires
    // no new secret.
    let mut entry = walk::remote(&second.url());
    entry.name = "entries/api".to_owned();
    admin.update_entry(entry, &["remote"]).await.expect("an admin may");
    let answer = client.call("api__echo", json!({"text": "x"})).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "destination_changed",
        "{answer}"
    );
    assert!(
        second
            .requests()
            .iter()
            .all(|request| request.values("authorization").is_empty()),
        "the secret went elsewhere"
    );
    let request = c::GetInstallationCredentialRequest {
        installation: made.name.clone(),
    };
    let credential = alice
        .credentials()
        .get_installation_credential(request)
        .await
        .expect("hers")
        .into_inner();
    assert_ne!(credential.bound_destination, credential.present_destination);
    let confirm = |destination: &str| c::ConfirmInstallationDestinationRequest {
        installation: made.name.clone(),
        destination: destination.to_owned(),
    };
    let stale = alice
        .credentials()
        .confirm_installation_destination(confirm("https://elsewhere.example"))
        .await;
    refused(stale, Code::Aborted, "DESTINATION_STALE");
    let confirmed = confirm(&credential.present_destination);
    alice
        .credentials()
        .confirm_installation_destination(confirmed)
        .await
        .expect("she confirms");
    alice.until_ready(&made.name).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(second.last_call().values("authorization"), ["Bearer alice-key"]);

    let delete = |force| r::DeleteEntryRequest {
        name: "entries/api".to_owned(),
        etag: String::new(),
        force,
    };
    refused(
        admin.entries().delete_entry(delete(false)).await,
        Code::FailedPrecondition,
        "ENTRY_INSTALLED",
    );
    admin.entries().delete_entry(delete(true)).await.expect("with force");
    let calls = second.calls().len();
    let answer = client.call("api__echo", json!({"text": "x"})).await;
    assert!(
        answer["error"].is_object() || answer["result"]["isError"] == true,
        "{answer}"
    );
    assert_eq!(second.calls().len(), calls, "a deleted entry is not called");
    assert!(client.tool_names().await.is_empty());
}

/// Workload identity that a client claims in metadata has no effect.
#[tokio::test(flavor = "multi_thread")]
async fn forged_workload_metadata() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let command = |header: &str, method: &str, data: &serde_json::Value| {
        let mut command = tokio::process::Command::new(integration_tests::tools::Tool::Grpcurl.path());
        command.args([
            "-plaintext",
            "-H",
            header,
            "-H",
            &format!("authorization: Bearer {}", admin.token()),
        ]);
        command.args(["-d", &data.to_string(), stack.grpc(), method]);
        command
    };
    for header in [
        "x-workload: gateway-svc",
        "x-spiffe-id: spiffe://chandlery/gateway-svc",
        "x-forwarded-client-cert: URI=spiffe://chandlery/gateway-svc",
        "workload: orchestrator-svc",
    ] {
        for (method, data) in [
            (
                "chandlery.credential.v1.VendService/VendHeaders",
                json!({"installation_uid": walk::request_id()}),
            ),
            (
                "chandlery.credential.v1.VendService/VendRuntime",
                json!({"installation_uid": walk::request_id()}),
            ),
            ("chandlery.registry.v1.ReportService/ReportTokenUse", json!({})),
            ("chandlery.registry.v1.AccessService/AuthorizeEntry", json!({})),
            ("chandlery.registry.v1.WatchService/Watch", json!({"start": {}})),
        ] {
            let outcome = integration_tests::script::run(command(header, method, &data)).await;
            assert!(!outcome.success, "{method} answered {header}: {}", outcome.stdout);
            assert!(
                outcome.stderr.contains("PermissionDenied") && outcome.stderr.contains("WORKLOADS_ONLY"),
                "{method} with {header}: {}",
                outcome.stderr
            );
        }
    }
    let nobody = grpcurl(
        stack.grpc(),
        None,
        "chandlery.credential.v1.VendService/VendHeaders",
        &json!({}),
    )
    .await;
    assert!(!nobody.success);
}
