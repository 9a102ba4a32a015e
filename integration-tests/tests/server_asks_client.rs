//! A server asks for the user (by a form and by a page), the model and the folders of a client in the course of a call. Clients of each SDK and
//! mode answer through the gateway as they do at the server: an older server's call waits for a client of 2026-07-28, and a newer server's
//! question becomes a request for a client with a session.
//!
//! Tools: node, python

use integration_tests::{
    relayed::{Client, Relayed, assert_alike},
    upstream::suite::{Era, Remote},
};

/// Compares what clients are asked, and what becomes of their answers, with what they see at a server of all eras.
async fn asks(era: Era) {
    let (both, server) = tokio::join!(Remote::start(Era::Both), Remote::start(era));
    let gateway = Relayed::start(&server.url).await;
    for client in Client::ALL {
        let (directly, relayed) = tokio::join!(
            client.sees("questions", &both.url, "none"),
            gateway.seen(client, "questions")
        );
        assert_eq!(
            directly["test_sampling"]["asked"][0]["method"],
            "sampling/createMessage"
        );
        assert_alike(
            relayed,
            directly,
            &format!("{client:?} and a server that speaks {era:?}"),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_asks() {
    asks(Era::Legacy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_server_asks() {
    asks(Era::Modern).await;
}
