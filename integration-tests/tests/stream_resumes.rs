//! The network breaks the stream of a call after its first event. Official clients ask for the rest with `Last-Event-ID`, and get it: they
//! see what they see over a connection that holds. (In `every_method`, the server breaks a stream, which the gateway resumes.)
//!
//! Tools: node, python

#[path = "stream_resumes/cutter.rs"]
mod cutter;

use integration_tests::{
    relayed::{Client, Relayed, assert_alike},
    upstream::suite::{Era, Remote},
};

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_what_they_missed() {
    let server = Remote::start(Era::Legacy).await;
    let gateway = Relayed::start(&server.url).await;
    for client in [Client::Sdk, Client::Npm, Client::PyPi] {
        let cutter = cutter::start(gateway.stack.http()).await;
        let url = cutter.served.url("/mcp/all");
        let (directly, relayed) = tokio::join!(
            client.sees("long", &server.url, "none"),
            client.sees("long", &url, gateway.alice.token())
        );
        assert_alike(relayed, directly, &format!("{client:?}"));
        assert!(cutter.cut() >= 1 && cutter.resumed() >= 1, "{client:?}: {cutter:?}");
    }
}
