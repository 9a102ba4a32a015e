//! What an account may do, and what it would have to.

use pretty_assertions::assert_eq;

use super::{
    Bench,
    accounts::{ALICE, World, bearer, demanded, sign_in},
    service::Service,
    sign_in::query,
};
use crate::domain::{
    authorization::{asked::Asked, fake::Script, plan::SignIn},
    error::Error,
};

pub(in crate::store) async fn scopes_that_are_demanded_are_asked_for_next_time<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    assert_eq!(
        service.call(demanded(&["read"])).await.unwrap(),
        bearer(1, 1),
        "it is granted"
    );
    for _ in 0..2 {
        let missing = service.call(demanded(&["read", "write"])).await.unwrap_err();
        assert!(
            matches!(&missing, Error::ScopeRequired { scopes, .. } if *scopes == ["write"]),
            "{missing:?}"
        );
    }
    assert_eq!(service.token().await.unwrap(), bearer(1, 1), "other calls go on");
    let told = service.credentials.get(&service.subject("a")).await.unwrap();
    assert_eq!(told.connection.unwrap().demanded, ["write"]);
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(query(&started)["scope"], "offline_access read write");
    let summary = service.finish(ALICE, &started, |_| {}).await.unwrap();
    assert_eq!(summary.connection.unwrap().demanded, [""; 0]);
    assert_eq!(service.call(demanded(&["write"])).await.unwrap(), bearer(2, 2));
    // One that no server knows is not asked for for ever.
    service.call(demanded(&["junk"])).await.unwrap_err();
    let started = service.start(ALICE).await.unwrap();
    assert!(query(&started)["scope"].ends_with(" junk"));
    let refused = service.finish(ALICE, &started, |returned| returned.error = "invalid_scope".to_owned());
    assert!(matches!(refused.await, Err(Error::AuthorizationDenied(_))));
    let started = service.start(ALICE).await.unwrap();
    assert_eq!(query(&started)["scope"], "offline_access read");
    // A hostile upstream demands ever more.
    let many: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
    for chunk in many.chunks(50) {
        let asked = Asked {
            demanded: chunk.to_vec(),
            ..Asked::default()
        };
        service.call(asked).await.unwrap_err();
    }
    let told = service.credentials.get(&service.subject("a")).await.unwrap();
    assert!(told.connection.unwrap().demanded.len() <= 100);
}

pub(in crate::store) async fn an_account_says_what_its_entry_names_since<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let entry = async |scopes: &[&str]| {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        world.replica_with(SignIn { scopes, ..sign_in() }).await
    };
    let lacks = async |service: &Service<B::Store>| {
        let told = service.credentials.get(&service.subject("a")).await.unwrap();
        told.connection.unwrap().demanded
    };
    let service = entry(&["read", "write"]).await;
    // The server has other names for what it grants.
    world.servers.script([Script::Issue(|tokens| {
        tokens.scopes = Some(vec!["all.read".to_owned()])
    })]);
    service.connect().await;
    assert_eq!(lacks(&service).await, [""; 0], "it was asked for all of them");
    let grown = entry(&["read", "write", "admin"]).await;
    assert_eq!(lacks(&grown).await, ["admin"]);
    assert_eq!(grown.token().await.unwrap(), bearer(1, 1), "calls go on");
    grown.connect().await;
    assert_eq!(lacks(&grown).await, [""; 0]);
}
