//! People use all that a server has, with the official clients of two languages, in every mode that these have. Through the gateway they see
//! what they see at the server itself.
//!
//! Tools: node, python

use integration_tests::{
    relayed::{Client, Relayed, assert_alike},
    upstream::suite::{Era, Remote},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_what_the_server_has() {
    let server = Remote::start(Era::Both).await;
    let gateway = Relayed::start(&server.url).await;
    for client in Client::ALL {
        let (directly, relayed) = tokio::join!(
            client.sees("methods", &server.url, "none"),
            gateway.seen(client, "methods")
        );
        assert!(directly["tools"].as_array().is_some_and(|tools| tools.len() > 20));
        assert_alike(relayed, directly, &format!("{client:?}"));
    }
}
