//! Two replicas of credential-svc share one Vault (OpenBao): what is done at one is known at the other, a token that expires is refreshed once for all
//! who call at that moment, and what they have vended is vended on while Vault is sealed.
//!
//! Tools: openbao, node

#[path = "vault_replicas/world.rs"]
mod world;

use std::time::SystemTime;

use contracts::{
    credential::{DeleteInstallationCredentialRequest, VendHeadersResponse},
    registry::{self as r, entry::CredentialModel},
};
use futures::future::join_all;
use integration_tests::{
    authorization_server::AuthorizationServer, browser, caller::refused, eventually,
    upstream::protected::ProtectedUpstream, walk,
};
use serde_json::json;
use service_kit::Readiness;
use tonic::Code;
use world::{GATEWAY, Replica, World};

/// The value of `authorization`.
fn authorization(vended: &VendHeadersResponse) -> &str {
    &vended
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("authorization"))
        .expect("it is vended")
        .value
}

/// Publishes an entry, which alice installs.
async fn installed(world: &World, id: &str, entry: r::Entry) -> r::Installation {
    world.at_registry("admin").publish(id, entry).await;
    let alice = world.at_registry("alice");
    alice.create_installation(id, None, &[]).await.expect("a member may")
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_two_replicas_refresh_once() {
    let (listener, resource) = ProtectedUpstream::bind().await;
    let server = AuthorizationServer::start(&resource, &[]).await;
    server.set(json!({"ttl": 6})).await;
    let upstream = ProtectedUpstream::start(listener, &resource, server.issuer()).await;
    let world = World::start().await;
    let replicas = [world.replica("one").await, world.replica("two").await];
    let entry = r::Entry {
        credential_model: Some(CredentialModel::Oauth(r::OAuthCredential::default())),
        ..walk::remote(upstream.url())
    };
    let installation = installed(&world, "mail", entry).await;
    // The sign-in begins at one replica and ends at the other.
    let alice = replicas.each_ref().map(|replica| world.at(replica, "alice"));
    let started = alice[0]
        .start_authorization(&installation.name)
        .await
        .expect("it starts");
    let redirected = browser::sign_in(&started.authorization_url, &format!("{GATEWAY}/oauth/callback")).await;
    let connected = alice[1].finish_authorization(&redirected).await.expect("it ends");
    let destination = connected.present_destination;
    let vend = async |replica: &Replica| replica.vend(&installation, &destination).await;
    let mut former = None;
    for replica in &replicas {
        let vended = vend(replica).await.expect("it is connected");
        former = Some((authorization(&vended).to_owned(), vended.expire_time));
    }
    let (former, expires) = former.expect("there are two");
    let expires = SystemTime::try_from(expires.expect("it expires")).expect("a time");
    server.set(json!({"ttl": 3600, "delay": 300})).await;
    eventually("the token has expired", || async {
        (SystemTime::now() >= expires).then_some(())
    })
    .await;
    let before = server.granted("refresh_token").await;
    let calls = (0..50).map(|number| vend(&replicas[number % 2]));
    for vended in join_all(calls).await {
        let vended = vended.expect("it is renewed");
        assert_ne!(authorization(&vended), former);
        assert_eq!(vended.token_number, 2);
    }
    assert_eq!((before, server.granted("refresh_token").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_vended_is_vended_while_vault_is_sealed() {
    let world = World::start().await;
    let (one, two) = (world.replica("one").await, world.replica("two").await);
    let entry = || walk::with_static(walk::remote("http://127.0.0.1:1"), "key", walk::bearer());
    let used = installed(&world, "used", entry()).await;
    let unused = installed(&world, "unused", entry()).await;
    let alice = (world.at(&one, "alice"), world.at(&two, "alice"));
    let mut destination = String::new();
    for (installation, key) in [(&used, "used-key"), (&unused, "unused-key")] {
        let put = alice.0.put_secrets(&installation.name, &[("key", key)]).await;
        destination = put.expect("hers").present_destination;
    }
    let vended = one.vend(&used, &destination).await.expect("it is stored");
    assert_eq!(authorization(&vended), "Bearer used-key");

    // A change at the other replica is in force for who knows of it.
    let put = alice.1.put_secrets(&used.name, &[("key", "rotated-key")]).await;
    let known = put.expect("hers").credential_generation;
    let vended = one.vend_since(&used, &destination, known).await.expect("it is stored");
    assert_eq!(authorization(&vended), "Bearer rotated-key");

    world.bao.seal().await;
    let vended = one.vend(&used, &destination).await.expect("it was vended before");
    assert_eq!(authorization(&vended), "Bearer rotated-key");
    for replica in [&one, &two] {
        let is_sealed =
            |ready: &Readiness| matches!(ready, Readiness::NotReady(why) if why.contains("Vault is sealed"));
        replica.until("it says that Vault is sealed", is_sealed).await;
    }
    let vended = one.vend(&used, &destination).await.expect("it was vended before");
    assert_eq!(authorization(&vended), "Bearer rotated-key");
    // What this replica has not vended is not there.
    for (replica, installation) in [(&one, &unused), (&two, &unused), (&two, &used)] {
        let answer = replica.vend(installation, &destination).await;
        refused(answer, Code::Unavailable, "STORAGE_UNAVAILABLE");
    }

    world.bao.unseal().await;
    for replica in [&one, &two] {
        replica.until_ready().await;
        let vended = replica.vend(&unused, &destination).await.expect("it is stored");
        assert_eq!(authorization(&vended), "Bearer unused-key");
    }
    // Deleted at one replica, while the other has it in memory.
    let request = DeleteInstallationCredentialRequest {
        installation: used.name.clone(),
    };
    let deleted = alice.1.credentials().delete_installation_credential(request).await;
    deleted.expect("it is hers");
    world.bao.seal().await;
    let answer = one.vend(&used, &destination).await;
    refused(answer, Code::Unavailable, "STORAGE_UNAVAILABLE");
}
