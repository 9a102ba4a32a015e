//! Servers that hang.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use serde_json::json;
use tokio::sync::watch;

use super::{
    super::places::{AT_A_TIME, WAITING},
    ask, assert_unavailable, client, document, endpoints, issuer,
    server::{Server, json},
    servers, servers_within,
};
use crate::domain::authorization::servers::{AuthorizationServers as _, ServerError};

fn tokens() -> axum::response::Response {
    json(&json!({"access_token": "at", "token_type": "bearer"}))
}

#[tokio::test]
async fn a_thousand_callers_of_one_that_hangs_slow_nobody_else() {
    let (hanging, other) = (Server::start().await, Server::start().await);
    let (release, released) = watch::channel(false);
    hanging.answer_later(move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            tokens()
        }
        .boxed()
    });
    other.answer(|_| tokens());
    let servers = Arc::new(servers().0);
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let (servers, metadata) = (Arc::clone(&servers), endpoints(&hanging));
            tokio::spawn(async move { ask(&servers, &metadata, &client()).await })
        })
        .collect();
    hanging.asked(AT_A_TIME).await;
    ask(&servers, &endpoints(&other), &client()).await.unwrap();
    assert_eq!(hanging.seen().len(), AT_A_TIME);

    release.send(true).unwrap();
    let results = join_all(calls).await;
    let (served, refused): (Vec<_>, Vec<_>) = results.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!(served.len(), AT_A_TIME + WAITING);
    for refused in refused {
        assert!(matches!(refused, Err(ServerError::Full(_))), "{refused:?}");
    }
    // Its places are free again.
    ask(&servers, &endpoints(&hanging), &client()).await.unwrap();
}

#[tokio::test]
async fn a_caller_who_leaves_gives_up_the_place() {
    let server = Server::start().await;
    server.answer_later(|_| std::future::pending().boxed());
    let servers = Arc::new(servers().0);
    for round in 1..=3 {
        let calls: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (servers, metadata) = (Arc::clone(&servers), endpoints(&server));
                tokio::spawn(async move { ask(&servers, &metadata, &client()).await })
            })
            .collect();
        server.asked(round * AT_A_TIME).await;
        for call in calls {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
    }
}

#[tokio::test]
async fn one_that_hangs_is_unavailable() {
    let server = Server::start().await;
    server.answer_later(|_| std::future::pending().boxed());
    let (servers, _) = servers_within(Duration::from_millis(300));
    let calls = (0..AT_A_TIME + WAITING).map(|_| async { ask(&servers, &endpoints(&server), &client()).await });
    let results = join_all(calls).await.into_iter();
    let (asked, waited): (Vec<_>, Vec<_>) = results.partition(
        |result| matches!(result, Err(ServerError::Unavailable(why)) if why.contains("answer within 600ms")),
    );
    // Whoever waits does so for less time than the server has, and all the same is not cut short once it is asked.
    assert_eq!((asked.len(), server.seen().len()), (AT_A_TIME, AT_A_TIME));
    for waited in waited {
        assert_unavailable(waited, "could be sent to it within 300ms");
    }
}

#[tokio::test]
async fn all_who_ask_for_metadata_share_one_fetch() {
    let server = Server::start().await;
    let (release, released) = watch::channel(false);
    let document = document(&server, &server.url(""));
    server.answer_later(move |_| {
        let (mut released, document) = (released.clone(), document.clone());
        async move {
            released.wait_for(|released| *released).await.unwrap();
            json(&document)
        }
        .boxed()
    });
    let servers = Arc::new(servers().0);
    let named = issuer(&server.url(""));
    let call = || {
        let (servers, named) = (Arc::clone(&servers), named.clone());
        tokio::spawn(async move { servers.metadata(&named).await })
    };
    let first = call();
    server.asked(1).await;
    // Whoever began the fetch may leave.
    first.abort();
    let calls: Vec<_> = (0..1_000).map(|_| call()).collect();
    tokio::task::yield_now().await;
    release.send(true).unwrap();
    for result in join_all(calls).await {
        result.unwrap().unwrap();
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_is_known_is_used_while_the_server_hangs() {
    let server = Server::start().await;
    let good = document(&server, &server.url(""));
    server.answer(move |_| json(&good));
    let (servers, clock) = servers();
    let named = issuer(&server.url(""));
    servers.metadata(&named).await.unwrap();
    // Closes when the request is given up.
    let (asked, given_up) = watch::channel(());
    let asked = Arc::new(asked);
    server.answer_later(move |_| {
        let asked = Arc::clone(&asked);
        async move {
            std::future::pending::<()>().await;
            drop(asked);
            tokens()
        }
        .boxed()
    });
    clock.advance(Duration::from_secs(300));
    servers.metadata(&named).await.unwrap();
    server.asked(2).await;
    // Nobody waited for the end of the request.
    server.answer(|_| tokens());
    assert!(given_up.has_changed().is_ok());
}
