//! What hostile or careless callers send: it is refused, at a cost that is linear in its size, and delays no other call.

#[path = "support/assigning.rs"]
mod assigning;
mod support;

use std::time::Duration;

use assigning::*;
use contracts::registry::*;
use registry_svc::Database;
use secrecy::ExposeSecret as _;
use service_kit::Workload;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use support::*;
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

on_both_engines!(
    who_may_not_call_is_refused_before_a_message_is_read,
    long_masks_and_lists_are_refused_as_such,
    names_and_times_that_cannot_be_are_refused,
    an_admin_does_not_shut_themselves_out,
    a_retry_of_a_lifecycle_step_succeeds,
    what_is_wrong_with_a_batch_is_told_of_the_first,
    a_discovery_of_what_it_was_before_changes_nothing,
    a_forced_deletion_says_how_many_are_left,
    expired_ones_all_go_at_once,
    many_small_fields_are_refused_before_they_are_read,
    who_may_not_do_something_waits_for_no_write,
);

/// Sends what is no message of the method: a service that reads it answers INVALID_ARGUMENT.
async fn nonsense(channel: Channel, path: &'static str, token: Option<&str>) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    // A number where a text or a message is expected.
    let mut request = Request::new(WatchAck { revision: 7 });
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let codec = ProstCodec::<WatchAck, Entry>::default();
    let answer = client.unary(request, PathAndQuery::from_static(path), codec).await;
    answer.unwrap_err()
}

/// A message of a few megabytes may take gigabytes once it is read.
async fn who_may_not_call_is_refused_before_a_message_is_read(stack: Stack) {
    const CREATE: &str = "/chandlery.registry.v1.EntryService/CreateEntry";
    const REPORT: &str = "/chandlery.registry.v1.ReportService/ReportCredential";
    let outside = Channel::from_shared(format!("http://{}", stack.address()))
        .unwrap()
        .connect_lazy();
    let token = stack.issuer.token("alice", &[], false);
    let refused = nonsense(outside.clone(), CREATE, None).await;
    assert_eq!(reason(&refused), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()));
    let refused = nonsense(outside.clone(), CREATE, Some("e30.e30.e30")).await;
    assert_eq!(reason(&refused), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()));
    let refused = nonsense(outside.clone(), REPORT, Some(&token)).await;
    assert_eq!(reason(&refused), (Code::PermissionDenied, "WORKLOADS_ONLY".to_owned()));
    // Whoever may call is read.
    let read = nonsense(outside, CREATE, Some(&token)).await;
    assert_eq!(read.code(), Code::InvalidArgument);
    let read = nonsense(stack.pipe(Workload::Credential), REPORT, None).await;
    assert_eq!(read.code(), Code::InvalidArgument);
    // And a message that is larger than any of its kind is not.
    let large = GatewayToken {
        display_name: "x".repeat(300_000),
        ..GatewayToken::default()
    };
    let request = CreateGatewayTokenRequest {
        gateway_token: Some(large),
        ..Default::default()
    };
    let refused = stack
        .person("alice")
        .gateway_tokens()
        .create_gateway_token(request)
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::OutOfRange);
}

async fn long_masks_and_lists_are_refused_as_such(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let made = alice.install(&entry.name, None, &[]).await.unwrap();
    let mask = prost_types::FieldMask {
        paths: vec!["x".to_owned(); 40_000],
    };
    let request = UpdateInstallationRequest {
        installation: Some(Installation {
            name: made.name.clone(),
            ..Installation::default()
        }),
        update_mask: Some(mask),
    };
    let refused = alice.installations().update_installation(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask"]);
    let values: Vec<_> = (0..10_000).map(|index| (format!("k{index}"), "v".to_owned())).collect();
    let request = UpdateInstallationRequest {
        installation: Some(Installation {
            name: made.name,
            values: values.into_iter().collect(),
            ..Installation::default()
        }),
        update_mask: None,
    };
    let refused = alice.installations().update_installation(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["installation.values"]);
    // Of what is too long, each element was once compared with each other.
    let select = InstallField {
        options: (0..30_000).map(|index| index.to_string()).collect(),
        ..field("choice", InstallFieldType::Select, false)
    };
    let wrong = Entry {
        install_fields: vec![select],
        additional_headers: vec![AdditionalHeader::default(); 10_000],
        ..remote()
    };
    let request = create_entry("wrong", wrong);
    let refused = admin.entries().create_entry(request).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["entry.install_fields[0].options", "entry.additional_headers"]
    );
}

async fn names_and_times_that_cannot_be_are_refused(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let request = ListInstallationsRequest {
        user: "users/a\0b".to_owned(),
        ..Default::default()
    };
    let refused = admin.installations().list_installations(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["user"]);
    let request = ListUsersRequest {
        email: "a\0b".to_owned(),
        ..Default::default()
    };
    let refused = admin.users().list_users(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["email"]);
    for (seconds, nanos) in [
        (9_000_000_000_000, 0),
        (4_000_000_000, -1),
        (4_000_000_000, 1_000_000_000),
    ] {
        let request = CreateGatewayTokenRequest {
            gateway_token: Some(GatewayToken {
                display_name: "ci".to_owned(),
                expire_time: Some(prost_types::Timestamp { seconds, nanos }),
                ..GatewayToken::default()
            }),
            ..Default::default()
        };
        let refused = alice.gateway_tokens().create_gateway_token(request).await.unwrap_err();
        assert_eq!(fields(&refused), ["gateway_token.expire_time"], "{seconds} {nanos}");
    }
    // A group that PostgreSQL does not take is nobody's.
    let odd = stack.grouped("odd", &["a\0b", "staff"]);
    assert_eq!(
        odd.entries()
            .list_entries(ListEntriesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .entries,
        []
    );
}

async fn an_admin_does_not_shut_themselves_out(stack: Stack) {
    let admin = stack.admin();
    let refused = admin.users().deactivate_user(deactivate_user(&admin.user)).await;
    // Whoever has not called yet is not there yet.
    let refused = match refused {
        Err(status) => status,
        Ok(_) => panic!("they have shut themselves out"),
    };
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned())
    );
    assert!(
        admin
            .entries()
            .list_entries(ListEntriesRequest::default())
            .await
            .is_ok()
    );
}

async fn a_retry_of_a_lifecycle_step_succeeds(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let request = ApproveEntryRequest {
        name: entry.name,
        etag: String::new(),
    };
    let again = admin.entries().approve_entry(request).await.unwrap().into_inner();
    assert_eq!(
        (again.lifecycle(), again.etag, again.registry_revision),
        (EntryLifecycle::Approved, entry.etag, entry.registry_revision)
    );
}

async fn what_is_wrong_with_a_batch_is_told_of_the_first(stack: Stack) {
    let (admin, _, _) = prepare(&stack).await;
    let request = |assignment: ToolAssignment| CreateToolAssignmentRequest {
        tool_assignment: Some(assignment),
        ..Default::default()
    };
    let batch = BatchCreateToolAssignmentsRequest {
        parent: GATEWAY.to_owned(),
        requests: vec![request(tool("now")), request(tool("now")), request(tool("now"))],
        ..Default::default()
    };
    let refused = admin
        .assignments()
        .batch_create_tool_assignments(batch)
        .await
        .unwrap_err();
    assert_eq!(
        fields(&refused),
        ["requests[1].tool_assignment", "requests[2].tool_assignment"]
    );
    assert_eq!(
        refused.message().matches("requests[0]").count(),
        2,
        "{}",
        refused.message()
    );
    let batch = BatchDeleteToolAssignmentsRequest {
        parent: GATEWAY.to_owned(),
        names: vec!["gateways/other/toolAssignments/x".to_owned()],
    };
    let refused = admin
        .assignments()
        .batch_delete_tool_assignments(batch)
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("gateways/default/toolAssignments/"),
        "{}",
        refused.message()
    );
}

/// The server was asked before the entry was pointed to another.
async fn a_discovery_of_what_it_was_before_changes_nothing(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    let elsewhere = Entry {
        name: entry.name.clone(),
        server: Some(entry::Server::Remote(RemoteServer {
            url: "https://elsewhere.example.com/mcp".to_owned(),
            ..RemoteServer::default()
        })),
        ..Entry::default()
    };
    admin.update(elsewhere, &["remote"]).await.unwrap();
    let moved = admin.installation(&made.name).await.unwrap();
    assert_eq!(moved.generation, made.generation + 1);
    let old = ReportDiscoveryRequest {
        subject: Some(report_discovery_request::Subject::InstallationUid(made.uid.clone())),
        observed_generation: made.generation,
        outcome: Some(report_discovery_request::Outcome::Tools(DiscoveredTools {
            tools: vec![Tool {
                tool: "old".to_owned(),
                definition_json: r#"{"name": "old"}"#.to_owned(),
                ..Tool::default()
            }],
            ..DiscoveredTools::default()
        })),
    };
    stack.reports(Workload::Gateway).report_discovery(old).await.unwrap();
    assert_eq!(admin.installation(&made.name).await.unwrap(), moved);
    assert_eq!(admin.entry(&entry.name).await.unwrap().discovered, []);
    stack.discover(&moved, &["new"]).await;
    assert_eq!(admin.entry(&entry.name).await.unwrap().discovered.len(), 1);
}

async fn a_forced_deletion_says_how_many_are_left(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    for index in 0..3 {
        stack
            .person(&format!("p{index}"))
            .install(&entry.name, None, &[])
            .await
            .unwrap();
    }
    let request = DeleteEntryRequest {
        name: entry.name,
        force: true,
        ..Default::default()
    };
    let deleted = admin.entries().delete_entry(request).await.unwrap().into_inner();
    let rollout = deleted.rollout.unwrap();
    // None is counted as moved, however far the deletion is.
    assert_eq!((rollout.moved, rollout.held), (0, 0));
    assert!(rollout.left <= 3);
}

async fn expired_ones_all_go_at_once(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    for index in 0..160 {
        stack
            .person(&format!("p{index}"))
            .install(&entry.name, None, &[])
            .await
            .unwrap();
    }
    stack.clock.advance(A_DAY + Duration::from_secs(1));
    let list = || ListInstallationsRequest {
        page_size: 500,
        ..Default::default()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    // Housekeeping runs every few seconds, each time until none is left. The first that is gone shows that it runs.
    let mut left = 160;
    while left == 160 {
        assert!(tokio::time::Instant::now() < deadline, "none has expired");
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = admin
            .installations()
            .list_installations(list())
            .await
            .unwrap()
            .into_inner()
            .installations
            .len();
    }
    let begun = tokio::time::Instant::now();
    while left > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{left} are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = admin
            .installations()
            .list_installations(list())
            .await
            .unwrap()
            .into_inner()
            .installations
            .len();
    }
}

/// An empty message is two bytes on the wire, and hundreds in memory.
async fn many_small_fields_are_refused_before_they_are_read(stack: Stack) {
    let alice = stack.person("alice");
    let request = BatchCreateToolAssignmentsRequest {
        parent: "gateways/main".to_owned(),
        requests: vec![CreateToolAssignmentRequest::default(); 500_000],
        ..Default::default()
    };
    let refused = alice.assignments().batch_create_tool_assignments(request).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("50000 fields"), "{}", refused.message());
}

/// Holds the write lock until it is dropped.
async fn hold_writes(database: &Database) -> Box<dyn std::any::Any> {
    match database {
        Database::Sqlite(path) => {
            let url = format!("sqlite:{}", path.display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
            Box::new(connection)
        }
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
            sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
            sqlx::query("UPDATE head SET revision = revision")
                .execute(&mut connection)
                .await
                .unwrap();
            Box::new(connection)
        }
    }
}

async fn who_may_not_do_something_waits_for_no_write(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let team = admin.team("ops", false, &[]).await;
    let gateway = admin.gateway("main", Gateway::default()).await.unwrap();
    let me = alice.users().get_user(get_user("users/me")).await;
    me.unwrap();
    let _held = hold_writes(&stack.database).await;
    let mut refused = Vec::new();
    let update = UpdateEntryRequest {
        entry: Some(entry.clone()),
        update_mask: None,
    };
    refused.push(alice.entries().update_entry(update).await.map(drop));
    let delete = delete_entry(&entry.name);
    refused.push(alice.entries().delete_entry(delete).await.map(drop));
    let deprecate = DeprecateEntryRequest {
        name: entry.name.clone(),
        ..Default::default()
    };
    refused.push(alice.entries().deprecate_entry(deprecate).await.map(drop));
    let delete = delete_gateway(&gateway.name);
    refused.push(alice.gateways().delete_gateway(delete).await.map(drop));
    let create = CreateToolAssignmentRequest {
        parent: gateway.name.clone(),
        tool_assignment: Some(ToolAssignment {
            entry: entry.name.clone(),
            selection: Some(tool_assignment::Selection::AllTools(AllTools {})),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused.push(
        alice
            .assignments()
            .create_tool_assignment(create.clone())
            .await
            .map(drop),
    );
    let batch = BatchCreateToolAssignmentsRequest {
        parent: gateway.name.clone(),
        requests: vec![create],
        ..Default::default()
    };
    refused.push(alice.assignments().batch_create_tool_assignments(batch).await.map(drop));
    let delete = delete_team(&team.name);
    refused.push(alice.teams().delete_team(delete).await.map(drop));
    for (index, refused) in refused.into_iter().enumerate() {
        let code = refused.unwrap_err().code();
        assert!(
            matches!(code, Code::PermissionDenied | Code::NotFound),
            "{index}: {code:?}"
        );
    }
}
