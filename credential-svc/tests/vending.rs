//! What workloads get from credential-svc.

mod support;

use contracts::{
    credential::{VendHeadersRequest, vend_service_client::VendServiceClient},
    registry::{AuthorizationHeader, CustomHeader, Injection, Tenancy, entry::CredentialModel, injection},
};
use pretty_assertions::assert_eq;
use support::{
    HERE, THERE,
    entries::{environment, header, over_http, remote, secret, self_hosted, stored},
    fake_registry::FakeRegistry,
    pair, pairs, refused, registry, start,
};
use tonic::{Code, Request, transport::Endpoint};

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
    // She must agree to the secrets that the server gets in addition to hers.
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

/// It gets what is stored on the entry, whatever those who use it have entered, and each of them agrees to a process that others share.
#[tokio::test]
async fn a_shared_server_gets_the_entrys_secrets_alone() {
    let registry = FakeRegistry::new();
    let entry = |tenancy| {
        let fields = vec![
            stored(secret("shared", true, environment("SHARED"))),
            secret("token", true, None),
        ];
        let mut entry = remote("e", HERE, fields);
        entry.server = over_http("server", tenancy);
        entry
    };
    registry.save_entry(entry(Tenancy::OnePerInstallation));
    registry.install("a", "e", "alice");
    let (stack, _directory) = start(&registry).await;
    stack.put("alice", "a", &[("token", "alices")]).await.unwrap();
    stack.put_entry("admin", "e", &[("shared", "ours")]).await.unwrap();
    stack.put("alice", "a", &[("token", "alices")]).await.unwrap();
    let own = registry.binding("a");
    assert_eq!(pairs(&stack.headers("a", &own, 0).await.unwrap()).len(), 1);

    registry.save_entry(entry(Tenancy::Shared));
    let shared = registry.binding("a");
    registry.reason("a", "DESTINATION_CHANGED").await;
    refused(stack.headers("a", &shared, 0).await, "DESTINATION_CHANGED");
    refused(stack.shared_runtime("e", &shared).await, "DESTINATION_CHANGED");
    refused(stack.shared_runtime("e", &own).await, "DESTINATION_CHANGED");
    stack.put_entry("admin", "e", &[("shared", "ours")]).await.unwrap();
    let vended = stack.shared_runtime("e", &shared).await.unwrap();
    let fields = vended.fields.iter();
    let fields: Vec<_> = fields.map(|field| (field.key.as_str(), field.value.as_str())).collect();
    assert_eq!(fields, [("shared", "ours")]);
    assert_eq!(vended.credential_generation, 0);
    assert_eq!(
        stack.shared_runtime("nobody", &shared).await.unwrap_err().code(),
        Code::NotFound
    );

    stack.put("alice", "a", &[("token", "alices")]).await.unwrap();
    assert_eq!(
        pairs(&stack.headers("a", &shared, 0).await.unwrap()),
        [pair("authorization", "Bearer alices")]
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
