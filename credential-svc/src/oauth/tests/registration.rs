//! Clients that are registered.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{
    assert_unavailable, assert_unusable, endpoints,
    server::{Server, html, with_status},
    servers,
};
use crate::domain::authorization::servers::{Authentication, AuthorizationServers as _, Registration, ServerError};

const REDIRECT: &str = "https://gateway.example.com/oauth/callback";

async fn register(server: &Server, methods: &[&str]) -> Result<Registration, ServerError> {
    let mut metadata = endpoints(server);
    metadata.authentication_methods = methods.iter().map(|&method| method.to_owned()).collect();
    servers().0.register(&metadata, REDIRECT).await
}

#[tokio::test]
async fn asks_for_refresh_tokens_and_a_secret() {
    let server = Server::start().await;
    server.answer(|_| {
        with_status(
            201,
            &json!({"client_id": "c1", "client_secret": "s1", "client_secret_expires_at": 0}),
        )
    });
    let registered = register(&server, &["none", "client_secret_post"]).await.unwrap();
    assert_eq!(registered.client.id, "c1");
    assert!(matches!(registered.client.authentication, Authentication::Post(_)));
    assert_eq!(registered.secret_expires, None);
    assert_eq!(
        serde_json::from_str::<Value>(&server.seen()[0].body).unwrap(),
        json!({
            "client_name": "Chandlery",
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post",
            "application_type": "web",
        })
    );
}

#[tokio::test]
async fn takes_what_it_is_given() {
    let server = Server::start().await;
    for (answer, expected) in [
        (json!({"client_id": "c"}), "None"),
        (json!({"client_id": "c", "token_endpoint_auth_method": "none"}), "None"),
        (json!({"client_id": "c", "client_secret": "s"}), "Basic"),
        (
            json!({"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}),
            "Post",
        ),
    ] {
        server.answer(move |_| with_status(201, &answer));
        let registered = register(&server, &[]).await.unwrap();
        let given = format!("{:?}", registered.client.authentication);
        assert!(given.starts_with(expected), "{given}");
    }
    for answer in [
        json!({}),
        json!({"client_id": "c".repeat(2_049)}),
        json!({"client_id": "c", "token_endpoint_auth_method": "client_secret_basic"}),
        json!({"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_jwt"}),
        json!({"client_id": "c", "client_secret": "s".repeat(20_000), "token_endpoint_auth_method": "client_secret_basic"}),
    ] {
        server.answer(move |_| with_status(201, &answer));
        assert_unusable(register(&server, &[]).await, "registered a client");
    }
}

#[tokio::test]
async fn is_refused_with_a_reason() {
    let server = Server::start().await;
    server.answer(|_| with_status(400, &json!({"error": "invalid_redirect_uri"})));
    assert!(matches!(
        register(&server, &[]).await,
        Err(ServerError::Refused { code, .. }) if code == "invalid_redirect_uri"
    ));
    server.answer(|_| html(403));
    assert_unusable(register(&server, &[]).await, "403");
    server.answer(|_| html(503));
    assert_unavailable(register(&server, &[]).await, "503");
    assert_unusable(
        register(&server, &["private_key_jwt"]).await,
        "the entry must name a client",
    );
    let mut metadata = endpoints(&server);
    metadata.registration_endpoint.clear();
    assert_unusable(
        servers().0.register(&metadata, REDIRECT).await,
        "does not register clients",
    );
}
