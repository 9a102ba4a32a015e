//! Tokens are renewed: once, and whatever happens in between.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all, pending},
};
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Bench,
    accounts::{World, bearer, rejected},
    kept::FRESH,
    service::{Process, Service, Step, owner},
};
use crate::domain::{
    authorization::{
        attempts::Basis,
        fake::{LIFE, Script, refused},
        renewing::{Order, Why},
        servers::{ServerError, TokenKind},
    },
    credentials::complete,
    error::Error,
    ports::Store,
    reconcile::reconcile,
    record::{Record, Value},
};

/// Shortly before the token expires: callers wait for another.
pub(super) const LAST: Duration = LIFE.checked_sub(Duration::from_secs(5)).unwrap();
/// After 80 % of its life.
const AGING: Duration = LIFE.checked_sub(Duration::from_secs(600)).unwrap();
/// Longer than a lease.
const LEASE: Duration = Duration::from_secs(41);

pub(super) fn renewals<B: Bench>(world: &World<B>) -> usize {
    world.servers.requests("refresh_token").len()
}

pub(super) async fn record<S: Store>(service: &Service<S>) -> Record {
    match service.store().read(&owner("a")).await.unwrap() {
        Some((_, Value::Record(record))) => record,
        other => panic!("{other:?}"),
    }
}

/// A step that says that it is reached, and never ends.
fn stuck(reached: &Arc<Notify>) -> BoxFuture<'static, ()> {
    let reached = Arc::clone(reached);
    let stuck = async move {
        reached.notify_one();
        pending().await
    };
    stuck.boxed()
}

pub(super) fn order(number: i64) -> Order {
    Order {
        number,
        basis: Basis::default(),
        why: Why::Age,
    }
}

pub(in crate::store) async fn fifty_callers_of_two_replicas_renew_once<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let replicas = [world.replica().await, world.replica().await];
    replicas[0].connect().await;
    for replica in &replicas {
        replica.advance(LAST);
    }
    // The answer takes until other callers have come.
    let waiting = [Arc::clone(&replicas[0]), Arc::clone(&replicas[1])];
    let until_others_come = async move {
        let reads = waiting.each_ref().map(|replica| replica.reads());
        while waiting
            .iter()
            .zip(reads)
            .all(|(replica, before)| replica.reads() < before + 1)
        {
            tokio::task::yield_now().await;
        }
    };
    world.servers.script([Script::Before(until_others_come.boxed())]);
    let calls = (0..50).map(|number| {
        let replica = Arc::clone(&replicas[number % 2]);
        tokio::spawn(async move { replica.token().await.unwrap() })
    });
    for token in join_all(calls).await {
        assert_eq!(token.unwrap(), bearer(2, 2));
    }
    assert_eq!(renewals(&world), 1);
}

pub(in crate::store) async fn a_token_is_renewed_while_it_still_serves<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    service.advance(AGING);
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&answer));
    let slow = async move {
        tell.notify_one();
        wait.notified().await;
    };
    world.servers.script([Script::Before(slow.boxed())]);
    assert_eq!(service.token().await.unwrap(), bearer(1, 1));
    asked.notified().await;
    assert_eq!(service.token().await.unwrap(), bearer(1, 1), "nobody waits");
    // Whoever stops the service now would lose the token: the server has taken the one before.
    let (stop, credentials) = (CancellationToken::new(), Arc::clone(&service.credentials));
    let mut stopping = pin!(complete(credentials, stop.clone()));
    stop.cancel();
    assert_eq!(futures::poll!(&mut stopping), Poll::Pending);
    answer.notify_one();
    stopping.await;
    assert_eq!(renewals(&world), 1);
    assert_eq!(record(&service).await.tokens.number, 2);
    assert_eq!(service.token_comes(2).await, bearer(2, 2).0);
    assert_eq!(renewals(&world), 1);
    // What would be issued from now on might be lost.
    service.credentials.renew("a", order(2)).await;
    assert_eq!((renewals(&world), record(&service).await.tokens.lease), (1, None));
    let generation = service.credentials.get(&service.subject("a")).await.unwrap().generation;
    assert_eq!(generation, 1, "no gateway forgets what it keeps");
}

pub(in crate::store) async fn a_rotated_token_is_stored_before_it_is_used<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    service.advance(LAST);
    // The lease; then the store is unavailable, then an answer is lost.
    service.script([Step::Before(async {}.boxed()), Step::Refuse, Step::Refuse, Step::Lose]);
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    let kept = record(&service).await.tokens;
    let grant = kept.grant.unwrap();
    assert_eq!(grant.refresh.unwrap().expose_secret(), "canary-refresh-2");
    assert_eq!((kept.number, kept.lease, renewals(&world)), (2, None, 1), "stored once");
    // While it is not stored, nobody gets it.
    service.advance(LAST);
    let reached = Arc::new(Notify::new());
    service.script([Step::Before(async {}.boxed()), Step::Before(stuck(&reached))]);
    let caller = Arc::clone(&service);
    let call = tokio::spawn(async move { caller.token().await });
    reached.notified().await;
    assert!(!call.is_finished());
    assert_eq!(renewals(&world), 2);
    call.abort();
}

pub(in crate::store) async fn a_kill_between_any_two_steps_leaves_a_token_or_the_reason<B: Bench>() {
    type Plan = fn(&Arc<Notify>, fn() -> Step) -> (Vec<Step>, Vec<Script>);
    let plans: [(&str, Plan, bool); 5] = [
        (
            "before the lease",
            |reached, _| (vec![Step::Before(stuck(reached))], vec![]),
            true,
        ),
        (
            "before the server acts",
            |reached, _| (vec![], vec![Script::Before(stuck(reached))]),
            true,
        ),
        (
            "before its answer",
            |reached, _| (vec![], vec![Script::After(stuck(reached))]),
            false,
        ),
        (
            "before the token is stored",
            |reached, nothing| (vec![nothing(), Step::Before(stuck(reached))], vec![]),
            false,
        ),
        (
            "before it is known to be stored",
            |reached, nothing| (vec![nothing(), Step::After(stuck(reached))], vec![]),
            true,
        ),
    ];
    for (moment, plan, works) in plans {
        let world = World::<B>::of_accounts().await;
        let (one, two) = (world.replica().await, world.replica().await);
        one.connect().await;
        let reached = Arc::new(Notify::new());
        let (steps, scripts) = plan(&reached, || Step::Before(async {}.boxed()));
        one.advance(AGING);
        one.script(steps);
        world.servers.script(scripts);
        tokio::select! {
            () = one.credentials.renew("a", order(1)) => panic!("it ended {moment}"),
            () = reached.notified() => {}
        }
        drop(one);
        two.advance(LIFE + LEASE);
        if works {
            assert_eq!(two.token().await.unwrap(), bearer(2, 2), "{moment}");
            two.advance(LIFE);
            assert_eq!(two.token().await.unwrap(), bearer(3, 3), "{moment}");
        } else {
            // The server takes the former refresh token for a stolen one.
            let error = two.token().await.unwrap_err();
            assert!(
                matches!(&error, Error::Unusable { message, condition: "REAUTHENTICATION_REQUIRED" } if message.contains("invalid_grant")),
                "{moment}: {error:?}"
            );
            two.reconcile().await.unwrap();
            assert_eq!(
                world.registry.reported(&owner("a")).unwrap().reason,
                "REAUTHENTICATION_REQUIRED"
            );
            two.connect().await;
            assert_eq!(two.token().await.unwrap().1, 2, "{moment}");
            assert_eq!(world.registry.reported(&owner("a")).unwrap().reason, "CONNECTED");
        }
    }
}

pub(in crate::store) async fn callers_wait_for_a_lease_only_where_they_must<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let (one, two) = (world.replica().await, world.replica().await);
    one.connect().await;
    let reached = Arc::new(Notify::new());
    world.servers.script([Script::Before(stuck(&reached))]);
    for replica in [&one, &two] {
        replica.advance(AGING);
    }
    tokio::select! {
        () = one.credentials.renew("a", order(1)) => panic!("it ended"),
        () = reached.notified() => {}
    }
    assert_eq!(two.token().await.unwrap(), bearer(1, 1));
    assert_eq!(renewals(&world), 1, "the other replica is at it");
    // The process that has the lease takes it up again.
    assert_eq!(one.token().await.unwrap(), bearer(1, 1));
    assert_eq!(one.token_comes(2).await, bearer(2, 2).0);
    two.advance(FRESH);
    assert_eq!(two.token().await.unwrap(), bearer(2, 2));
}

pub(in crate::store) async fn the_only_process_takes_up_what_one_before_it_left<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let holder = service_kit::random::uuid();
    let start = || {
        world.process(Process {
            holder,
            ..Process::default()
        })
    };
    let killed = start().await;
    killed.connect().await;
    killed.advance(LIFE);
    let reached = Arc::new(Notify::new());
    world.servers.script([Script::Before(stuck(&reached))]);
    tokio::select! {
        () = killed.credentials.renew("a", order(1)) => panic!("it ended"),
        () = reached.notified() => {}
    }
    drop(killed);
    let next = start().await;
    next.advance(LIFE);
    assert!(record(&next).await.tokens.lease.is_some());
    assert_eq!(next.token().await.unwrap(), bearer(2, 2));
}

pub(in crate::store) async fn a_transient_failure_marks_nothing<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    let down = || Script::Fail(ServerError::Unavailable("as.example.com does not answer".to_owned()));
    world
        .servers
        .script([down(), Script::Fail(refused("temporarily_unavailable")), down()]);
    service.advance(LAST);
    for _ in 0..10 {
        assert_eq!(
            service.token().await.unwrap(),
            bearer(1, 1),
            "it serves until it expires"
        );
    }
    assert_eq!(renewals(&world), 1, "not asked by each call");
    service.advance(Duration::from_secs(5));
    for _ in 0..10 {
        let error = service.token().await.unwrap_err();
        assert!(matches!(error, Error::AuthorizationServerUnavailable(_)), "{error:?}");
    }
    assert_eq!(renewals(&world), 2);
    service.reconcile().await.unwrap();
    assert!(world.registry.reported(&owner("a")).unwrap().ready);
    let kept = record(&service).await.tokens;
    assert_eq!((kept.lease, kept.failure), (None, None));
    for seconds in [2, 4] {
        service.advance(Duration::from_secs(seconds));
        drop(service.token().await);
    }
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
}

pub(in crate::store) async fn a_server_that_asks_for_a_pause_gets_it<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    let pause = Duration::from_secs(120);
    world.servers.script([Script::Fail(ServerError::Busy {
        why: "as.example.com answered with status 429".to_owned(),
        pause,
    })]);
    service.advance(LIFE);
    let one_second = Duration::from_secs(1);
    let mut left = pause;
    for passes in [Duration::ZERO, pause - one_second] {
        service.advance(passes);
        let error = service.token().await.unwrap_err();
        left -= passes;
        let Error::AuthorizationServerPauses { why, again } = error else {
            panic!("{error:?}")
        };
        assert!(why.contains("429"), "{why}");
        assert_eq!(again, left);
    }
    assert_eq!(renewals(&world), 1);
    service.advance(one_second);
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
}

/// It is well: whoever waits is not told that it is away, and it is asked again soon.
pub(in crate::store) async fn a_server_that_many_wait_for_is_said_to_be_busy<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    let full = || Script::Fail(ServerError::Full("many wait".to_owned()));
    world.servers.script([full()]);
    service.advance(LIFE);
    let error = service.token().await.unwrap_err();
    assert!(
        matches!(&error, Error::AuthorizationServerBusy(why) if why == "many wait"),
        "{error:?}"
    );
    service.advance(Duration::from_secs(1));
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
}

pub(in crate::store) async fn a_refusal_for_good_asks_for_a_person<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    service.connect().await;
    // A code of its own, as some servers have.
    world.servers.script([Script::Fail(refused("bad_refresh_token"))]);
    service.advance(LIFE);
    let error = service.token().await.unwrap_err();
    assert!(error.to_string().contains("connect the account again"), "{error}");
    service.connect().await;
    world.servers.script([Script::Fail(refused("invalid_grant"))]);
    service.advance(LIFE);
    for _ in 0..3 {
        let error = service.token().await.unwrap_err();
        assert!(
            error.to_string().contains("invalid_grant") && error.to_string().contains("connect the account again"),
            "{error}"
        );
    }
    assert_eq!(renewals(&world), 2);
    service.reconcile().await.unwrap();
    let condition = world.registry.reported(&owner("a")).unwrap();
    assert_eq!(
        (condition.ready, condition.reason),
        (false, "REAUTHENTICATION_REQUIRED")
    );
    let told = service
        .credentials
        .get(&service.subject("a"))
        .await
        .unwrap()
        .connection
        .unwrap();
    assert!(
        told.failure.contains("invalid_grant") && !told.is_refreshable,
        "{told:?}"
    );
    service.connect().await;
    assert_eq!(service.token().await.unwrap(), bearer(3, 3));
}

pub(in crate::store) async fn a_token_that_cannot_be_renewed_expires<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let service = world.replica().await;
    world.servers.script([Script::Issue(|tokens| tokens.refresh = None)]);
    service.connect().await;
    service.advance(LAST);
    assert_eq!(service.token().await.unwrap(), bearer(1, 1));
    let error = service.call(rejected(1)).await.unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
    assert_eq!(
        service.token().await.unwrap(),
        bearer(1, 1),
        "one upstream's word marks nothing"
    );
    let told = service.credentials.get(&service.subject("a")).await.unwrap();
    assert!(
        told.connection
            .unwrap()
            .refusal
            .contains("the upstream rejects the token")
    );
    // Nobody calls, and no change wakes the service.
    let (stop, credentials) = (CancellationToken::new(), Arc::clone(&service.credentials));
    let reconciling = tokio::spawn(reconcile(credentials, stop.clone()));
    let soon = Duration::from_millis(10);
    service.advance(Duration::from_secs(5) - soon);
    let told = async || service.credentials.get(&service.subject("a")).await;
    assert_eq!(told().await.unwrap().connection.unwrap().failure, "");
    service.advance(soon);
    while world.registry.reported(&owner("a")).unwrap().reason != "REAUTHENTICATION_REQUIRED" {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    reconciling.await.unwrap();
    assert!(
        told()
            .await
            .unwrap()
            .connection
            .unwrap()
            .failure
            .contains("has expired")
    );
    let error = service.token().await.unwrap_err();
    assert!(error.to_string().contains("connect the account again"), "{error}");
    // A server that does not say how long a token lives is believed until the upstream rejects it.
    world.servers.script([Script::Issue(|tokens| tokens.expires_in = None)]);
    service.connect().await;
    service.advance(LIFE * 1_000);
    assert_eq!(service.token().await.unwrap(), bearer(2, 2));
    assert_eq!(service.call(rejected(2)).await.unwrap(), bearer(3, 3));
}

pub(in crate::store) async fn a_rejected_token_is_replaced_once_for_all<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let replicas = [world.replica().await, world.replica().await];
    replicas[0].connect().await;
    let calls = (0..20).map(|number| replicas[number % 2].call(rejected(1)));
    for token in join_all(calls).await {
        assert_eq!(token.unwrap(), bearer(2, 2));
    }
    assert_eq!(renewals(&world), 1);
    assert_eq!(
        replicas[1].call(rejected(1)).await.unwrap(),
        bearer(2, 2),
        "it was replaced already"
    );
    // An upstream that rejects everything.
    let mut number = 2;
    for _ in 0..10 {
        for replica in &replicas {
            if let Ok((_, next)) = replica.call(rejected(number)).await {
                number = next;
            }
        }
    }
    assert!(renewals(&world) <= 3, "{}", renewals(&world));
    replicas[0].advance(LEASE);
    assert_eq!(
        replicas[0].call(rejected(number)).await.unwrap().1,
        number + 1,
        "later it may help"
    );
}

pub(in crate::store) async fn a_put_during_a_renewal_loses_nothing<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let (one, two) = (world.replica().await, world.replica().await);
    one.connect().await;
    one.advance(LAST);
    let meddle = Arc::clone(&two);
    let put = async move { drop(meddle.put("a", &[("other", "x")]).await.unwrap()) };
    one.script([Step::Before(async {}.boxed()), Step::Before(put.boxed())]);
    assert_eq!(one.token().await.unwrap(), bearer(2, 2));
    let kept = record(&one).await;
    assert_eq!((kept.generation, kept.tokens.number, kept.fields.len()), (2, 2, 1));
}

pub(in crate::store) async fn what_is_disconnected_during_a_renewal_stays_so<B: Bench>() {
    let world = World::<B>::of_accounts().await;
    let (one, two) = (world.replica().await, world.replica().await);
    for deletes in [false, true] {
        one.connect().await;
        let number = one.token().await.unwrap().1;
        let before = world.servers.revoked(0).await.len();
        let meddle = Arc::clone(&two);
        let disconnect = async move {
            if deletes {
                meddle.watch("a", true);
                meddle.reconcile().await.unwrap();
            } else {
                drop(meddle.credentials.delete(meddle.subject("a")).await.unwrap());
            }
        };
        one.script([Step::Before(async {}.boxed()), Step::Before(disconnect.boxed())]);
        one.credentials.renew("a", order(number)).await;
        // Those that were there, and those that came too late.
        let revoked = world.servers.revoked(before + 4).await;
        let of = |kind| revoked[before..].iter().filter(|(of, _)| *of == kind).count();
        assert_eq!((of(TokenKind::Refresh), of(TokenKind::Access)), (2, 2));
        assert!(one.token().await.is_err());
    }
}
