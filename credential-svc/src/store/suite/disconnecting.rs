//! Accounts end: while they are connected, and later.

use std::sync::Arc;

use futures::FutureExt as _;
use pretty_assertions::assert_eq;

use super::{
    Bench,
    accounts::{ALICE, World, bearer},
    service::owner,
    sign_in::invalid,
};
use crate::domain::{
    authorization::{fake::Script, servers::TokenKind},
    error::Error,
};

pub(in crate::store) async fn who_disconnects_during_a_sign_in_stays_disconnected<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    let meddle = Arc::clone(&service);
    let meanwhile = async move { drop(meddle.credentials.delete(meddle.subject("a")).await.unwrap()) };
    world.servers.script([Script::Before(meanwhile.boxed())]);
    invalid(service.finish(ALICE, &started, |_| {}).await);
    assert_eq!(world.servers.revoked(2).await[0].1, "canary-refresh-1");
    let told = service.credentials.get(&service.subject("a")).await.unwrap();
    assert_eq!(told.connection, None);
}

pub(in crate::store) async fn who_may_no_longer_connect_connects_nothing<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    let registry = world.registry.clone();
    // As where she is removed from the team whose installation it is.
    let meanwhile = async move { registry.forbid() };
    world.servers.script([Script::Before(meanwhile.boxed())]);
    invalid(service.finish(ALICE, &started, |_| {}).await);
    assert_eq!(world.servers.revoked(2).await[0].1, "canary-refresh-1");
    let told = service.credentials.get(&service.subject("a")).await.unwrap();
    assert_eq!(told.connection, None);
}

pub(in crate::store) async fn what_was_issued_is_revoked_with_its_owner<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.put("a", &[("other", "x")]).await.unwrap();
    service.connect().await;
    let done = service.credentials.delete(service.subject("a")).await.unwrap();
    assert_eq!((done.summary.connection, done.summary.generation), (None, 3));
    assert_eq!(
        world.servers.revoked(2).await,
        [
            (TokenKind::Refresh, "canary-refresh-1".to_owned()),
            (TokenKind::Access, "canary-access-1".to_owned()),
        ]
    );
    assert!(matches!(service.token().await, Err(Error::CredentialRequired { .. })));
    // A sign-in that was under way does not come back.
    service.connect().await;
    assert_eq!(
        service.token().await.unwrap(),
        bearer(2, 3),
        "its number is not used again"
    );
    service.watch("a", true);
    service.reconcile().await.unwrap();
    assert_eq!(world.registry.cleanups(), [owner("a")]);
    assert_eq!(world.servers.revoked(4).await[2].1, "canary-refresh-2");
}
