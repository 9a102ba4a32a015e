//! Tokens of former grants are revoked, whatever happens in between.

use std::time::Duration;

use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;

use super::{
    Bench,
    accounts::World,
    service::{Service, owner},
};
use crate::domain::{
    authorization::servers::TokenKind,
    error::Error,
    ports::Store,
    record::{Record, Value},
};

/// The access tokens that the stored value says are to be revoked.
async fn unrevoked<S: Store>(service: &Service<S>) -> Vec<String> {
    let (_, value) = service.store().read(&owner("a")).await.unwrap().unwrap();
    let tokens = value.unrevoked().iter();
    tokens.map(|one| one.access.expose_secret().to_owned()).collect()
}

async fn until_nothing_is_left<S: Store>(service: &Service<S>) {
    while !unrevoked(service).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

fn revoked(number: usize) -> [(TokenKind, String); 2] {
    [
        (TokenKind::Refresh, format!("canary-refresh-{number}")),
        (TokenKind::Access, format!("canary-access-{number}")),
    ]
}

/// Twice does no harm: a process that ends may still be at it.
async fn until_revoked<B: Bench>(world: &World<B>, number: usize) {
    loop {
        let told = world.servers.revoked(0).await;
        if revoked(number).iter().all(|one| told.contains(one)) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(in crate::store) async fn a_revocation_that_failed_is_made_by_the_next_process<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let one = world.replica().await;
    one.connect().await;
    // The server is away. The person is not kept waiting, and nobody gets the token any more.
    world.servers.revokes(false);
    let done = one.credentials.delete(one.subject("a")).await.unwrap();
    assert_eq!(done.summary.connection, None);
    assert!(matches!(one.token().await, Err(Error::CredentialRequired { .. })));
    assert_eq!(unrevoked(&one).await, ["canary-access-1"]);
    drop(one);
    world.servers.revokes(true);
    let two = world.replica().await;
    two.reconcile().await.unwrap();
    until_revoked(&world, 1).await;
    until_nothing_is_left(&two).await;

    // The same where the installation is deleted, which the registry forgets.
    two.connect().await;
    world.servers.revokes(false);
    two.watch("a", true);
    two.reconcile().await.unwrap();
    assert_eq!(world.registry.cleanups(), [owner("a")]);
    assert_eq!(unrevoked(&two).await, ["canary-access-2"]);
    drop(two);
    world.servers.revokes(true);
    let three = world.replica().await;
    three.credentials.update(|views| {
        views.remove_installation("a");
        Vec::new()
    });
    three.credentials.sweep().await.unwrap();
    until_revoked(&world, 2).await;
    until_nothing_is_left(&three).await;
}

/// Many servers revoke all tokens of an account and a client with one of them.
pub(in crate::store) async fn an_account_that_is_connected_again_is_not_revoked<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    world.servers.revokes(false);
    service.credentials.delete(service.subject("a")).await.unwrap();
    assert_eq!(unrevoked(&service).await.len(), 1);
    service.connect().await;
    assert_eq!(unrevoked(&service).await.len(), 0);
}

pub(in crate::store) async fn what_is_never_revoked_is_forgotten_after_a_week<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let one = world.replica().await;
    one.connect().await;
    world.servers.revokes(false);
    one.credentials.delete(one.subject("a")).await.unwrap();
    let two = world.replica().await;
    two.advance(Duration::from_secs(7 * 24 * 3_600 + 1));
    two.reconcile().await.unwrap();
    until_nothing_is_left(&two).await;
    let (_, value) = two.store().read(&owner("a")).await.unwrap().unwrap();
    assert!(
        matches!(value, Value::Record(Record { generation: 2, .. })),
        "{value:?}"
    );
}
