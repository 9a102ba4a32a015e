//! What people and workloads see of credential-svc.

mod support;

use std::time::{Duration, SystemTime};

use contracts::{
    credential::{GetInstallationCredentialRequest, VendHeadersRequest, vend_service_client::VendServiceClient},
    registry::{
        AuthorizationHeader, CustomHeader, Injection, entry::CredentialModel, injection,
        report_cleanup_request::Subject,
    },
};
use pretty_assertions::assert_eq;
use support::{
    Stack,
    entries::{environment, header, remote, secret, self_hosted, stored},
    fake_registry::{FakeRegistry, Gate},
    pairs, refused,
};
use tonic::{Code, Request, transport::Endpoint};
use tonic_types::StatusExt as _;

const HERE: &str = "https://here.example.com";
const THERE: &str = "https://there.example.com";

fn registry() -> FakeRegistry {
    let registry = FakeRegistry::new();
    let fields = vec![
        secret("token", true, None),
        secret("tenant", false, header("X-Tenant-Key")),
    ];
    registry.save_entry(remote("e", HERE, fields));
    registry.install("i", "e", "alice");
    registry
}

async fn start(registry: &FakeRegistry) -> (Stack, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Stack::start(directory.path(), registry).await, directory)
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn stores_reports_and_vends() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    let (condition, generation) = registry.reason("i", "CREDENTIAL_REQUIRED").await;
    assert_eq!(generation, 0);
    assert!(condition.message.contains("The token (token)"), "{}", condition.message);
    refused(stack.headers("i", HERE, 0).await, "CREDENTIAL_REQUIRED");

    let credential = stack.put("alice", "i", &[("token", "one")]).await.unwrap();
    assert_eq!(credential.name, "installations/i/credential");
    assert_eq!(credential.credential_generation, 1);
    assert_eq!(credential.bound_destination, HERE);
    assert_eq!(credential.present_destination, HERE);
    assert_eq!(
        registry.condition("i").unwrap().1,
        1,
        "reported before the put returned"
    );
    registry.reason("i", "STORED").await;

    let vended = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!(pairs(&vended), [pair("authorization", "Bearer one")]);
    assert_eq!(vended.credential_generation, 1);
    let expires = SystemTime::try_from(vended.expire_time.unwrap()).unwrap();
    assert!(expires <= service_kit::Clock::System.now() + Duration::from_secs(300));

    let credential = stack.put("alice", "i", &[("tenant", "blue")]).await.unwrap();
    let fields: Vec<_> = credential
        .fields
        .iter()
        .map(|field| (field.key.as_str(), field.credential_generation))
        .collect();
    assert_eq!(fields, [("tenant", 2), ("token", 1)], "unnamed fields stay");
    let vended = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!(
        pairs(&vended),
        [pair("X-Tenant-Key", "blue"), pair("authorization", "Bearer one")]
    );
}

#[tokio::test]
async fn injects_in_each_mode() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "i", &[("token", "one two")]).await.unwrap();
    let modes = [
        (
            injection::Kind::Authorization(AuthorizationHeader {}),
            pair("authorization", "one two"),
        ),
        (
            injection::Kind::CustomHeader(CustomHeader {
                name: "x-api-key".to_owned(),
            }),
            pair("x-api-key", "one two"),
        ),
    ];
    for (kind, expected) in modes {
        let mut entry = remote("e", HERE, vec![secret("token", true, None)]);
        let Some(CredentialModel::StaticCredential(model)) = &mut entry.credential_model else {
            unreachable!()
        };
        model.injection = Some(Injection { kind: Some(kind) });
        registry.save_entry(entry);
        registry.reason("i", "STORED").await;
        let vended = stack.headers("i", HERE, 0).await.unwrap();
        assert_eq!((pairs(&vended), vended.credential_generation), (vec![expected], 1));
    }
}

#[tokio::test]
async fn sends_no_header_for_an_optional_credential() {
    let registry = FakeRegistry::new();
    registry.save_entry(remote("e", HERE, vec![secret("token", false, None)]));
    registry.install("i", "e", "alice");
    let (stack, _directory) = start(&registry).await;
    registry.reason("i", "NOT_REQUIRED").await;
    let vended = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!((vended.headers.len(), vended.credential_generation), (0, 0));
}

#[tokio::test]
async fn rotates_and_notices_what_the_upstream_rejected() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "i", &[("token", "old")]).await.unwrap();
    refused(stack.headers("i", HERE, 1).await, "CREDENTIAL_EXPIRED");
    stack.put("alice", "i", &[("token", "new")]).await.unwrap();
    let vended = stack.headers("i", HERE, 1).await.unwrap();
    assert_eq!(pairs(&vended), [pair("authorization", "Bearer new")]);
    refused(
        stack.headers("i", HERE, vended.credential_generation).await,
        "CREDENTIAL_EXPIRED",
    );
}

#[tokio::test]
async fn forgets_everything_on_request() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "i", &[("token", "one")]).await.unwrap();
    let credential = stack.delete("alice", "i").await.unwrap();
    assert_eq!(
        (credential.fields.len(), credential.missing_fields),
        (0, vec!["token".to_owned()])
    );
    assert_eq!(registry.condition("i").unwrap().1, 2);
    refused(stack.headers("i", HERE, 0).await, "CREDENTIAL_REQUIRED");
}

#[tokio::test]
async fn names_everything_that_is_wrong_and_repeats_no_value() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    let long = "canary".repeat(180_000);
    let values = [
        ("token", long.as_str()),
        ("nonsense", "canary"),
        ("tenant", "canary\r\nx: y"),
        ("tenant", ""),
    ];
    let status = refused(
        stack.put_with_id("alice", "i", &values, "no uuid").await,
        "INVALID_FIELDS",
    );
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = [
        "request_id",
        "values[0].value",
        "values[1].key",
        "values[2].value",
        "values[3].key",
        "values[3].value",
    ];
    assert_eq!(fields, expected);
    assert!(violations[1].description.contains("`token`"));
    assert!(!format!("{status:?}").contains("canary"));
    refused(stack.put("alice", "i", &[]).await, "INVALID_FIELDS");
    assert_eq!(
        registry.reason("i", "CREDENTIAL_REQUIRED").await.1,
        0,
        "nothing was stored"
    );
}

#[tokio::test]
async fn serves_only_whom_the_registry_lets() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    refused(stack.put("bob", "i", &[("token", "one")]).await, "RESOURCE_NOT_FOUND");
    assert_eq!(
        stack
            .put("alice", "unknown", &[("token", "x")])
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        stack.put("alice", "../i", &[("token", "x")]).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        stack
            .put_entry("alice", "e", &[("token", "x")])
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let request = GetInstallationCredentialRequest {
        installation: "installations/i".to_owned(),
    };
    refused(
        stack.people().get_installation_credential(request).await,
        "UNAUTHENTICATED",
    );
}

#[tokio::test]
async fn vends_to_workloads_over_their_own_connections_only() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "i", &[("token", "one")]).await.unwrap();
    let outside = Endpoint::from_shared(format!("http://{}", stack.address))
        .unwrap()
        .connect_lazy();
    let message = VendHeadersRequest {
        installation_uid: "i".to_owned(),
        destination: HERE.to_owned(),
        ..VendHeadersRequest::default()
    };
    let mut request: Request<_> = stack.of("admin", message.clone());
    for name in ["x-workload", "chandlery-workload", "x-forwarded-client-cert", "x-peer"] {
        request.metadata_mut().insert(name, "gateway-svc".parse().unwrap());
    }
    refused(
        VendServiceClient::new(outside).vend_headers(request).await,
        "WORKLOADS_ONLY",
    );
    refused(stack.orchestrator.clone().vend_headers(message).await, "WORKLOADS_ONLY");
}

#[tokio::test]
async fn answers_a_retry_as_the_first_time() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    let id = "0b5d0e0a-7d55-4a0f-8f43-111111111111";
    let first = stack.put_with_id("alice", "i", &[("token", "one")], id).await.unwrap();
    stack.put("alice", "i", &[("token", "two")]).await.unwrap();
    let again = stack.put_with_id("alice", "i", &[("token", "one")], id).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(
        pairs(&stack.headers("i", HERE, 0).await.unwrap()),
        [pair("authorization", "Bearer two")]
    );
    refused(
        stack.put_with_id("alice", "i", &[("token", "three")], id).await,
        "REQUEST_ID_REUSED",
    );
    let admins = stack.put_with_id("admin", "i", &[("token", "four")], id).await.unwrap();
    assert_eq!(admins.credential_generation, 3, "another user's ids are apart");
}

#[tokio::test]
async fn returns_only_once_the_registry_has_taken_the_report() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    registry.reason("i", "CREDENTIAL_REQUIRED").await;
    registry.gate(Gate::Closed);
    let put = stack.put("alice", "i", &[("token", "one")]);
    tokio::pin!(put);
    tokio::select! {
        _ = &mut put => panic!("the report was not taken yet"),
        () = registry.asked() => {}
    }
    assert!(futures::poll!(&mut put).is_pending());
    // Vending goes on: it must not wait for a report that waits for the gateway.
    assert_eq!(stack.headers("i", HERE, 0).await.unwrap().credential_generation, 1);
    registry.gate(Gate::Open);
    assert_eq!(put.await.unwrap().credential_generation, 1);
}

#[tokio::test]
async fn keeps_what_could_not_be_reported_and_reports_it_later() {
    let registry = registry();
    let (stack, directory) = start(&registry).await;
    registry.reason("i", "CREDENTIAL_REQUIRED").await;
    registry.gate(Gate::Broken);
    let id = "0b5d0e0a-7d55-4a0f-8f43-222222222222";
    let status = refused(
        stack.put_with_id("alice", "i", &[("token", "one")], id).await,
        "REGISTRY_UNAVAILABLE",
    );
    assert!(status.message().contains("safe to retry with the same request_id"));
    registry.gate(Gate::Open);
    registry.reason("i", "STORED").await;
    assert_eq!(
        stack
            .put_with_id("alice", "i", &[("token", "one")], id)
            .await
            .unwrap()
            .credential_generation,
        1
    );

    // The same with a service that is killed in between.
    registry.gate(Gate::Broken);
    stack.put("alice", "i", &[("token", "two")]).await.unwrap_err();
    stack.kill().await;
    registry.gate(Gate::Open);
    assert_eq!(registry.condition("i").unwrap().1, 1);
    let stack = Stack::start(directory.path(), &registry).await;
    registry
        .until(|registry| registry.condition("i").filter(|(_, generation)| *generation == 2))
        .await;
    assert_eq!(
        pairs(&stack.headers("i", HERE, 0).await.unwrap()),
        [pair("authorization", "Bearer two")]
    );
}

#[tokio::test]
async fn vends_to_a_new_destination_only_once_its_owner_agrees() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    stack
        .put("alice", "i", &[("token", "one"), ("tenant", "blue")])
        .await
        .unwrap();
    let fields = || {
        vec![
            secret("token", true, None),
            secret("tenant", false, header("X-Tenant-Key")),
        ]
    };
    registry.save_entry(remote("e", THERE, fields()));
    let (condition, generation) = registry.reason("i", "DESTINATION_CHANGED").await;
    assert!(
        condition.message.contains(HERE) && condition.message.contains(THERE),
        "{}",
        condition.message
    );
    assert_eq!(generation, 1, "nothing was put");
    for destination in [HERE, THERE] {
        refused(stack.headers("i", destination, 0).await, "DESTINATION_CHANGED");
    }
    refused(stack.put("alice", "i", &[("token", "x")]).await, "DESTINATION_CHANGED");

    refused(stack.confirm("alice", "i", HERE).await, "DESTINATION_STALE");
    let confirmed = stack.confirm("alice", "i", THERE).await.unwrap();
    assert_eq!(confirmed.bound_destination, THERE);
    assert_eq!(stack.headers("i", THERE, 0).await.unwrap().headers.len(), 2);
    refused(stack.headers("i", HERE, 0).await, "DESTINATION_CHANGED");
    stack.confirm("alice", "i", THERE).await.unwrap();

    registry.save_entry(remote("e", HERE, fields()));
    registry.reason("i", "DESTINATION_CHANGED").await;
    stack
        .put("alice", "i", &[("token", "again"), ("tenant", "red")])
        .await
        .unwrap();
    let vended = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!(
        pairs(&vended),
        [pair("X-Tenant-Key", "red"), pair("authorization", "Bearer again")]
    );
}

#[tokio::test]
async fn shares_an_entrys_secrets_with_all_its_installations() {
    let registry = FakeRegistry::new();
    let fields = vec![
        stored(secret("shared", true, environment("SHARED"))),
        secret("own", true, environment("OWN")),
    ];
    registry.save_entry(self_hosted("e", "server", fields));
    registry.install("a", "e", "alice");
    registry.install("b", "e", "bob");
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "a", &[("own", "alices")]).await.unwrap();
    registry.reason("a", "STORED").await;
    let (condition, generation) = registry.entry_reason("e", "ENTRY_CREDENTIAL_REQUIRED").await;
    assert!(condition.message.contains("admin"));
    assert_eq!(generation, 0);
    let status = refused(stack.runtime("a", &registry.binding("a")).await, "CREDENTIAL_REQUIRED");
    assert_eq!(
        status.message(),
        "an admin must store these secrets on the entry: The shared (shared)"
    );
    let status = stack.runtime("b", &registry.binding("a")).await.unwrap_err();
    assert!(
        status.message().contains("enter these secrets: The own (own)") && status.message().contains("an admin must"),
        "{}",
        status.message()
    );
    refused(stack.put("alice", "a", &[("shared", "x")]).await, "INVALID_FIELDS");
    refused(stack.put_entry("admin", "e", &[("own", "x")]).await, "INVALID_FIELDS");
    refused(
        stack.put_entry("admin", "e", &[("shared", "a\0b")]).await,
        "INVALID_FIELDS",
    );

    let credential = stack.put_entry("admin", "e", &[("shared", "ours")]).await.unwrap();
    assert_eq!(
        (credential.name.as_str(), credential.bound_destination.as_str()),
        ("entries/e/credential", registry.binding("a").as_str())
    );
    let (condition, generation) = registry.entry_condition("e").unwrap();
    assert_eq!((condition.reason.as_str(), generation), ("STORED", 1));
    // What came to the server beside hers is for her to agree to.
    refused(stack.runtime("a", &registry.binding("a")).await, "DESTINATION_CHANGED");
    stack.put("alice", "a", &[("own", "alices")]).await.unwrap();
    let vended = stack.runtime("a", &registry.binding("a")).await.unwrap();
    assert_eq!(
        (vended.credential_generation, vended.entry_credential_generation),
        (2, 1)
    );
    let fields: Vec<_> = vended
        .fields
        .iter()
        .map(|field| (field.key.as_str(), field.value.as_str()))
        .collect();
    assert_eq!(fields, [("shared", "ours"), ("own", "alices")]);
    refused(stack.runtime("b", &registry.binding("a")).await, "CREDENTIAL_REQUIRED");
    assert_eq!(
        stack
            .headers("a", &registry.binding("a"), 0)
            .await
            .unwrap()
            .headers
            .len(),
        0
    );
}

#[tokio::test]
async fn an_admin_confirms_where_an_entrys_secrets_go() {
    let registry = FakeRegistry::new();
    let fields = || vec![stored(secret("token", true, None))];
    registry.save_entry(remote("e", HERE, fields()));
    registry.install("a", "e", "alice");
    registry.install("b", "e", "bob");
    let (stack, _directory) = start(&registry).await;
    stack.put_entry("admin", "e", &[("token", "ours")]).await.unwrap();
    assert_eq!(
        pairs(&stack.headers("b", HERE, 0).await.unwrap()),
        [pair("authorization", "Bearer ours")]
    );
    registry.save_entry(remote("e", THERE, fields()));
    let (condition, _) = registry.entry_reason("e", "DESTINATION_CHANGED").await;
    assert!(
        condition.message.contains("an admin must confirm"),
        "{}",
        condition.message
    );
    for uid in ["a", "b"] {
        registry.reason(uid, "NOT_REQUIRED").await;
        refused(stack.headers(uid, THERE, 0).await, "DESTINATION_CHANGED");
    }
    let refused_to = stack.confirm_entry("alice", "e", THERE).await.unwrap_err();
    assert_eq!(refused_to.code(), Code::PermissionDenied);
    let confirmed = stack.confirm_entry("admin", "e", THERE).await.unwrap();
    assert_eq!(confirmed.bound_destination, THERE);
    assert_eq!(
        registry.entry_condition("e").unwrap().0.reason,
        "STORED",
        "in force before the call returned"
    );
    for uid in ["a", "b"] {
        assert_eq!(
            pairs(&stack.headers(uid, THERE, 0).await.unwrap()),
            [pair("authorization", "Bearer ours")]
        );
    }
}

#[tokio::test]
async fn asks_again_for_a_value_that_does_not_fit_its_new_target() {
    let registry = FakeRegistry::new();
    registry.save_entry(self_hosted(
        "e",
        "server",
        vec![secret("key", true, environment("KEY"))],
    ));
    registry.install("i", "e", "alice");
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "i", &[("key", "two\nlines")]).await.unwrap();
    registry.save_entry(self_hosted("e", "server", vec![secret("key", true, header("X-Key"))]));
    registry.reason("i", "CREDENTIAL_REQUIRED").await;
    refused(
        stack.headers("i", &registry.binding("i"), 0).await,
        "CREDENTIAL_REQUIRED",
    );
    assert_eq!(stack.get("alice", "i").await.unwrap().missing_fields, ["key"]);
}

#[tokio::test]
async fn finishes_a_put_whose_caller_has_gone() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    registry.reason("i", "CREDENTIAL_REQUIRED").await;
    registry.gate(Gate::Closed);
    {
        let put = stack.put("alice", "i", &[("token", "one")]);
        let stored = async {
            while stack.headers("i", HERE, 0).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { _ = put => panic!("the report cannot have been taken"), () = stored => {} }
    }
    registry.gate(Gate::Open);
    registry.reason("i", "STORED").await;
}

#[tokio::test]
async fn takes_two_puts_at_once() {
    let registry = registry();
    let (stack, _directory) = start(&registry).await;
    let (one, two) = ([("token", "one")], [("tenant", "two")]);
    let (one, two) = tokio::join!(stack.put("alice", "i", &one), stack.put("alice", "i", &two));
    let mut generations = [one.unwrap().credential_generation, two.unwrap().credential_generation];
    generations.sort_unstable();
    assert_eq!(generations, [1, 2]);
    let vended = stack.headers("i", HERE, 0).await.unwrap();
    assert_eq!(
        pairs(&vended),
        [pair("X-Tenant-Key", "two"), pair("authorization", "Bearer one")]
    );
    assert_eq!(vended.credential_generation, registry.condition("i").unwrap().1);
}

#[tokio::test]
async fn erases_what_is_deleted_also_when_it_was_down() {
    let registry = registry();
    registry.install("j", "e", "bob");
    let (stack, directory) = start(&registry).await;
    stack.put("alice", "i", &[("token", "one")]).await.unwrap();
    stack.put("bob", "j", &[("token", "two")]).await.unwrap();
    registry.delete_installation("i");
    registry
        .until(|registry| {
            registry
                .cleanups()
                .contains(&Subject::InstallationUid("i".to_owned()))
                .then_some(())
        })
        .await;
    assert_eq!(stack.headers("i", HERE, 0).await.unwrap_err().code(), Code::NotFound);
    stack.kill().await;
    registry.delete_installation("j");
    registry.delete_entry("e");
    let _stack = Stack::start(directory.path(), &registry).await;
    registry
        .until(|registry| {
            registry
                .cleanups()
                .contains(&Subject::InstallationUid("j".to_owned()))
                .then_some(())
        })
        .await;
    registry
        .until(|registry| {
            registry
                .cleanups()
                .contains(&Subject::EntryUid("e".to_owned()))
                .then_some(())
        })
        .await;
}
