//! What people see of credential-svc, and what it reports.

mod support;

use std::time::{Duration, SystemTime};

use contracts::{credential::GetInstallationCredentialRequest, registry::report_cleanup_request::Subject};
use pretty_assertions::assert_eq;
use registry_client::testing::Gate;
use support::{
    HERE, Stack,
    entries::{environment, header, secret, self_hosted},
    fake_registry::FakeRegistry,
    pair, pairs, refused, registry, start,
};
use tonic::Code;
use tonic_types::StatusExt as _;

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
    // Vending continues: it must not wait for a report that waits for the gateway.
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
        .until(|_| registry.condition("i").filter(|(_, generation)| *generation == 2))
        .await;
    assert_eq!(
        pairs(&stack.headers("i", HERE, 0).await.unwrap()),
        [pair("authorization", "Bearer two")]
    );
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
    registry.cleaned_up(Subject::InstallationUid("i".to_owned())).await;
    assert_eq!(stack.headers("i", HERE, 0).await.unwrap_err().code(), Code::NotFound);
    stack.kill().await;
    registry.delete_installation("j");
    registry.delete_entry("e");
    let _stack = Stack::start(directory.path(), &registry).await;
    registry.cleaned_up(Subject::InstallationUid("j".to_owned())).await;
    registry.cleaned_up(Subject::EntryUid("e".to_owned())).await;
}
