//! What a process that is about to end still does, and what it leaves.

use std::{future::pending, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join};
use pretty_assertions::assert_eq;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Bench,
    accounts::{ALICE, World, bearer},
    canary::Log,
    renewal::{LAST, order, record, renewals},
    service::{Mood, Service, Step},
};
use crate::domain::{
    authorization::{
        fake::Script,
        servers::{TokenKind, Tokens},
    },
    credentials::complete,
    error::Error,
    ports::Store,
};

pub(in crate::store) async fn a_process_that_stops_sends_no_code<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    complete_now(&service).await;
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
        let stops = async move { service.credentials.stop() };
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

/// How long a process that stops has: less than it gets.
const END: Duration = Duration::from_secs(26);

/// Stops after a second, and until then lets the store fail once the server is asked.
async fn stopped<S: Store, T>(service: &Arc<Service<S>>, work: impl Future<Output = T>) -> T {
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        service.credentials.stop();
        began
    };
    let (outcome, began) = join(work, stop).await;
    complete_now(service).await;
    assert!(began.elapsed() < END, "{:?}", began.elapsed());
    outcome
}

async fn complete_now<S: Store>(service: &Arc<Service<S>>) {
    let stop = CancellationToken::new();
    stop.cancel();
    complete(Arc::clone(&service.credentials), stop).await;
}

fn goes_away<S: Store>(service: &Arc<Service<S>>) -> Script {
    let service = Arc::clone(service);
    Script::Queue(async move { service.store_is(Mood::Away) }.boxed())
}

/// Time must be paused.
pub(in crate::store) async fn a_process_that_stops_gives_up_what_it_cannot_store<B: Bench>() {
    type Case = (fn(&mut Tokens), &'static [&'static str]);
    let cases: [Case; 3] = [
        (|_| {}, &["canary-refresh-2", "canary-access-2"]),
        // The refresh token that is stored still works, and would not if the access token were revoked.
        (|tokens| tokens.refresh = None, &[]),
        (|tokens| tokens.refresh = Some("canary-refresh-1".into()), &[]),
    ];
    for (issues, expected) in cases {
        let world = World::<B>::of_accounts().await;
        let service = world.replica().await;
        service.connect().await;
        world.servers.script([goes_away(&service), Script::Issue(issues)]);
        let (log, guard) = Log::take();
        stopped(&service, service.credentials.renew("a", order(1))).await;
        drop(guard);
        let log = log.text();
        assert!(log.contains("ERROR") && log.contains("it is lost"), "{log}");
        let revoked = world.servers.revoked(expected.len()).await;
        let revoked: Vec<_> = revoked.iter().map(|(_, token)| token.as_str()).collect();
        assert_eq!(revoked, expected);
    }
}

/// Time must be paused.
pub(in crate::store) async fn what_a_process_that_stops_may_have_stored_goes_on<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    let store = Arc::clone(&service);
    let goes_away = async move {
        store.store_is(Mood::Away);
        pending().await
    };
    // The lease; then the token, and the answer does not come.
    service.script([Step::Before(async {}.boxed()), Step::After(goes_away.boxed())]);
    stopped(&service, service.credentials.renew("a", order(1))).await;
    assert_eq!(world.servers.revoked(0).await, []);
    assert_eq!(world.replica().await.token().await.unwrap(), bearer(2, 2));
}

/// Time must be paused.
pub(in crate::store) async fn a_process_that_stops_gives_up_an_account_that_it_cannot_store<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    let started = service.start(ALICE).await.unwrap();
    let slow = async { sleep(Duration::from_secs(14)).await };
    world.servers.script([goes_away(&service), Script::After(slow.boxed())]);
    let error = stopped(&service, service.finish(ALICE, &started, |_| {}))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error:?}");
    let revoked = world.servers.revoked(2).await;
    assert_eq!(revoked[0], (TokenKind::Refresh, "canary-refresh-1".to_owned()));
}
