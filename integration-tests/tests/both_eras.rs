//! Clients of both eras use servers of both eras through one endpoint, call what these have, and are told what changes:
//! `resources/subscribe` and a held stream on one side, `subscriptions/listen` on the other.
//!
//! Tools: node, python

use integration_tests::{
    relayed::{Client, Relayed, assert_alike},
    upstream::suite::{Era, Remote},
};

/// Compares with what clients see at a server of all eras.
async fn meet(era: Era) {
    let (both, server) = tokio::join!(Remote::start(Era::Both), Remote::start(era));
    let gateway = Relayed::start(&server.url).await;
    let some = [Client::Sdk, Client::NpmAuto].map(|client| (client, "methods"));
    for (client, part) in some.into_iter().chain(Client::ALL.map(|client| (client, "changes"))) {
        let (directly, relayed) = tokio::join!(client.sees(part, &both.url, "none"), gateway.seen(client, part));
        assert_alike(
            relayed,
            directly,
            &format!("{part}: {client:?} and a server that speaks {era:?}"),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_eras_and_an_older_server() {
    meet(Era::Legacy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_eras_and_a_newer_server() {
    meet(Era::Modern).await;
}
