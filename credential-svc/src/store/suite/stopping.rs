//! What a process that is about to end still does, and what it leaves.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use pretty_assertions::assert_eq;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Bench,
    accounts::{ALICE, World, bearer},
    renewal::{LAST, order, record, renewals},
    service::Service,
};
use crate::domain::{authorization::fake::Script, credentials::complete, error::Error};

pub(in crate::store) async fn a_process_that_stops_sends_no_code<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    complete(Arc::clone(&service.credentials), stop).await;
    let error = service.finish(ALICE, &started, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::AuthorizationServerUnavailable(_)), "{error:?}");
    assert_eq!(world.servers.requests("authorization_code"), []);
}

/// Many may wait for a server, and each of them would have it send what only this process can store.
pub(in crate::store) async fn what_waits_for_its_turn_is_not_sent_once_the_process_stops<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let [service, other] = [world.replica().await, world.replica().await];
    let stops = |service: &Arc<Service<B::Store>>| {
        let service = Arc::clone(service);
        let stops = async move { _ = service.credentials.tasks().close() };
        Script::Queue(stops.boxed())
    };
    service.connect().await;
    world.servers.script([stops(&service)]);
    service.credentials.renew("a", order(1)).await;
    assert_eq!((renewals(&world), record(&service).await.tokens.lease), (0, None));
    let started = other.start(ALICE).await.unwrap();
    world.servers.script([stops(&other)]);
    let error = other.finish(ALICE, &started, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("is being stopped"), "{error}");
    assert_eq!(world.servers.requests("authorization_code").len(), 1);
}

/// A server that has rotated a token has done so whether or not anybody waits for its answer. Time must be paused.
pub(in crate::store) async fn who_waited_for_their_turn_waits_as_long_for_the_answer<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    service.advance(LAST);
    let seconds = |number| async move { sleep(Duration::from_secs(number)).await }.boxed();
    world
        .servers
        .script([Script::Queue(seconds(9)), Script::After(seconds(21))]);
    service.credentials.renew("a", order(1)).await;
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    assert_eq!(renewals(&world), 1);
}
