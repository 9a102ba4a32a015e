//! Machines get tokens by client credentials.

use futures::future::join_all;
use pretty_assertions::assert_eq;

use super::{
    Bench,
    accounts::{World, bearer, demanded, machine, plan, rejected},
    service::owner,
};
use crate::domain::{
    authorization::{
        fake::{ISSUER, LIFE, Script, refused},
        servers::TokenKind,
    },
    error::Error,
    owner::Source,
};

async fn world<B: Bench>() -> World<B> {
    World::new(plan(machine(), Source::Prompted)).await
}

fn requests<B: Bench>(world: &World<B>) -> usize {
    world.servers.requests("client_credentials").len()
}

pub(in crate::store) async fn all_callers_share_a_machines_token<B: Bench>() {
    let world = world::<B>().await;
    let replicas = [world.replica().await, world.replica().await];
    let missing = replicas[0].token().await.unwrap_err();
    assert!(matches!(missing, Error::CredentialRequired { .. }), "{missing:?}");
    replicas[0].put("a", &[("secret", "canary-secret")]).await.unwrap();
    let calls = (0..20).map(|number| replicas[number % 2].token());
    for token in join_all(calls).await {
        assert_eq!(token.unwrap(), bearer(1, 1));
    }
    let [request] = &world.servers.requests("client_credentials")[..] else {
        panic!("more than one request")
    };
    assert_eq!(
        (request.client.as_str(), request.secret.as_str()),
        ("machine", "canary-secret")
    );
    for (name, value) in [
        ("scope", "read"),
        ("resource", "https://example.com/mcp"),
        ("audience", "tools"),
    ] {
        assert_eq!(request.parameters[name], value);
    }
    for replica in &replicas {
        replica.advance(LIFE);
    }
    let calls = (0..20).map(|number| replicas[number % 2].token());
    for token in join_all(calls).await {
        assert_eq!(token.unwrap(), bearer(2, 2));
    }
    assert_eq!(replicas[0].call(rejected(2)).await.unwrap(), bearer(3, 3));
    assert_eq!(requests(&world), 3);
    let told = replicas[0].credentials.get(&replicas[0].subject("a")).await.unwrap();
    assert_eq!(told.connection.unwrap().client_id, "machine");
    replicas[0].credentials.delete(replicas[0].subject("a")).await.unwrap();
    let revoked = world.servers.revoked(1).await;
    assert_eq!(revoked, [(TokenKind::Access, "canary-access-3".to_owned())]);
}

pub(in crate::store) async fn another_secret_gives_another_token<B: Bench>() {
    for source in [Source::Prompted, Source::Stored] {
        let world = World::<B>::new(plan(machine(), source)).await;
        let service = world.replica().await;
        let put = async |value: &str| match source {
            Source::Prompted => service.put("a", &[("secret", value)]).await.unwrap(),
            Source::Stored => service.put_entry(&[("secret", value)]).await.unwrap(),
        };
        put("wrong").await;
        world.servers.script([Script::Fail(refused("invalid_client"))]);
        for _ in 0..5 {
            let error = service.token().await.unwrap_err();
            assert!(
                matches!(&error, Error::Unusable { message, .. } if message.contains("invalid_client") && message.contains("an admin")),
                "{error:?}"
            );
        }
        assert_eq!(requests(&world), 1);
        let connection = async || {
            // Whichever replica is asked.
            let other = world.replica().await;
            other
                .credentials
                .get(&other.subject("a"))
                .await
                .unwrap()
                .connection
                .unwrap()
        };
        let told = connection().await;
        assert_eq!((told.issuer.as_str(), told.refresh_time), (ISSUER, None));
        assert!(
            told.refusal.contains("invalid_client") && told.refusal.contains("an admin"),
            "{told:?}"
        );
        service.reconcile().await.unwrap();
        assert!(
            world.registry.reported(&owner("a")).unwrap().ready,
            "it may heal by itself"
        );
        // The pause is over with what it was for.
        put("right").await;
        assert_eq!(service.token().await.unwrap(), bearer(1, 1));
        assert_eq!(connection().await.refusal, "");
        put("newer").await;
        assert_eq!(service.token().await.unwrap(), bearer(2, 2));
        assert_eq!(world.servers.requests("client_credentials")[2].secret, "newer");
    }
}

pub(in crate::store) async fn a_machine_gets_no_scopes_that_only_the_upstream_names<B: Bench>() {
    let world = world::<B>().await;
    let service = world.replica().await;
    service.put("a", &[("secret", "canary-secret")]).await.unwrap();
    assert_eq!(service.token().await.unwrap(), bearer(1, 1));
    for scope in ["admin", "admin", "root"] {
        let error = service.call(demanded(&[scope])).await.unwrap_err();
        assert!(
            matches!(&error, Error::ScopeRequired { scopes, repair } if *scopes == [scope] && repair.contains("an admin")),
            "{error:?}"
        );
    }
    assert_eq!(requests(&world), 1);
    assert_eq!(service.call(demanded(&["read"])).await.unwrap(), bearer(1, 1));
    service.advance(LIFE);
    assert_eq!(service.token().await.unwrap(), bearer(2, 2), "the others go on");
    assert_eq!(
        world.servers.requests("client_credentials")[1].parameters["scope"],
        "read"
    );
}
