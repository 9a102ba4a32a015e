//! Metadata that is wrong, elsewhere, or not there for a while.

use std::time::Duration;

use axum::response::IntoResponse as _;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{
    assert_unavailable, assert_unusable, document, issuer,
    server::{Server, html, json, redirect, with_status},
    servers,
};
use crate::domain::authorization::{
    plan,
    servers::{AuthorizationServers as _, Metadata},
};

#[tokio::test]
async fn is_found_at_each_of_its_places() {
    for (path, place) in [
        ("", "/.well-known/oauth-authorization-server"),
        ("/", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/t/1", "/.well-known/oauth-authorization-server/t/1"),
        ("/t/1", "/.well-known/openid-configuration/t/1"),
        ("/t/1", "/t/1/.well-known/openid-configuration"),
    ] {
        let server = Server::start().await;
        let named = server.url(path);
        let document = document(&server, &named);
        // Whatever is asked, a page for browsers is the answer of some servers.
        server.answer(move |seen| if seen.path == place { json(&document) } else { html(200) });
        let found = servers().0.metadata(&issuer(&named)).await.unwrap();
        assert_eq!(
            *found,
            Metadata {
                issuer: named,
                authorization_endpoint: server.url("/authorize"),
                token_endpoint: server.url("/token"),
                has_pkce: true,
                may_be_internal: true,
                ..Metadata::default()
            },
            "{place}"
        );
    }
}

#[tokio::test]
async fn names_the_issuer_to_the_last_byte() {
    let server = Server::start().await;
    for named in [server.url("/"), "https://bank.example.com".to_owned(), String::new()] {
        let document = document(&server, &named);
        server.answer(move |_| json(&document));
        let part = if named.is_empty() {
            "no metadata"
        } else {
            "another issuer"
        };
        assert_unusable(servers().0.metadata(&issuer(&server.url(""))).await, part);
    }
}

#[tokio::test]
async fn points_to_no_private_address() {
    let server = Server::start().await;
    let (servers, clock) = servers();
    for (url, part) in [
        ("https://10.0.0.1/token", "--allow-upstream-cidr"),
        ("https://169.254.169.254/latest", "--allow-upstream-cidr"),
        ("https://[::1]/token", "--allow-upstream-cidr"),
        ("http://as.example.org:80@127.0.0.1/", "user name"),
        ("http://8.8.8.8/token", "must be https"),
        ("file:///etc/passwd", "http or https"),
        ("javascript:alert(1)", "http or https"),
        ("/token", "cannot be read"),
    ] {
        for endpoint in [
            "authorization_endpoint",
            "token_endpoint",
            "revocation_endpoint",
            "registration_endpoint",
        ] {
            let mut document = document(&server, &server.url(""));
            document[endpoint] = json!(url);
            server.answer(move |_| json(&document));
            let found = servers.metadata(&issuer(&server.url(""))).await;
            assert_unusable(found.clone(), part);
            assert_unusable(found, endpoint);
            // A failure is kept for some seconds.
            clock.advance(Duration::from_secs(5));
        }
    }
    assert_unusable(
        servers.metadata(&issuer("https://10.0.0.1")).await,
        "--allow-upstream-cidr",
    );
    assert_unusable(servers.metadata(&issuer("http://127.0.0.1/?a=b")).await, "query");
}

#[tokio::test]
async fn redirects_nowhere() {
    let (server, inside) = (Server::start().await, Server::start().await);
    let target = inside.url("/");
    server.answer(move |_| redirect(302, &target));
    assert_unusable(servers().0.metadata(&issuer(&server.url(""))).await, "no metadata");
    assert_eq!((server.seen().len(), inside.seen().len()), (2, 0));
}

#[tokio::test]
async fn is_bounded() {
    let server = Server::start().await;
    let mut large = document(&server, &server.url(""));
    large["scopes_supported"] = json!(vec!["scope"; 1_000]);
    let large_enough = large.clone();
    server.answer(move |_| json(&large_enough));
    let found = servers().0.metadata(&issuer(&server.url(""))).await.unwrap();
    assert_eq!(found.scopes.len(), 200);
    large["padding"] = json!("x".repeat(256 << 10));
    server.answer(move |_| json(&large));
    assert_unusable(
        servers().0.metadata(&issuer(&server.url(""))).await,
        "more than 256 KiB",
    );
}

#[tokio::test]
async fn requires_a_token_endpoint_and_types() {
    let server = Server::start().await;
    for (field, value, part) in [
        ("token_endpoint", json!(null), "no token_endpoint"),
        ("token_endpoint", json!(7), "token_endpoint"),
        ("token_endpoint", json!(["https://as.example.com"]), "token_endpoint"),
        ("issuer", json!({}), "no metadata"),
    ] {
        let mut document = document(&server, &server.url(""));
        document[field] = value;
        server.answer(move |_| json(&document));
        assert_unusable(servers().0.metadata(&issuer(&server.url(""))).await, part);
    }
}

#[tokio::test]
async fn of_given_endpoints_is_not_fetched() {
    let server = plan::Server::Endpoints {
        issuer: String::new(),
        authorization: "https://as.example.com/authorize".to_owned(),
        token: "https://as.example.com/token".to_owned(),
        revocation: String::new(),
    };
    let found = servers().0.metadata(&server).await.unwrap();
    assert_eq!(found.token_endpoint, "https://as.example.com/token");
    assert!(found.has_pkce);
}

#[tokio::test]
async fn is_kept_while_the_server_is_unreachable() {
    let server = Server::start().await;
    let document = document(&server, &server.url(""));
    let (servers, clock) = servers();
    let named = issuer(&server.url(""));
    let good = document.clone();
    server.answer(move |_| json(&good));
    for _ in 0..3 {
        servers.metadata(&named).await.unwrap();
    }
    assert_eq!(server.seen().len(), 1, "it is fresh for five minutes");

    server.answer(|_| with_status(503, &json!({})));
    clock.advance(Duration::from_secs(300));
    for _ in 0..3 {
        servers.metadata(&named).await.unwrap();
    }
    assert_eq!(server.seen().len(), 3, "two places were asked once more");

    clock.advance(Duration::from_secs(24 * 60 * 60));
    // The first does not wait for the fetch that it begins, and what is known is too old.
    assert_unavailable(servers.metadata(&named).await, "503");
    server.asked(5).await;

    server.answer(move |_| json(&document));
    clock.advance(Duration::from_secs(5));
    servers.metadata(&named).await.unwrap();
}

#[tokio::test]
async fn that_became_wrong_is_not_used() {
    let server = Server::start().await;
    let (servers, clock) = servers();
    let named = issuer(&server.url(""));
    let good = document(&server, &server.url(""));
    server.answer(move |_| json(&good));
    servers.metadata(&named).await.unwrap();
    let foreign = document(&server, "https://bank.example.com");
    server.answer(move |_| json(&foreign));
    clock.advance(Duration::from_secs(300));
    assert_unusable(servers.metadata(&named).await, "another issuer");
}

#[tokio::test]
async fn of_a_dead_server_is_not_asked_for_by_each_call() {
    let server = Server::start().await;
    server.answer(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let (servers, clock) = servers();
    let named = issuer(&server.url(""));
    for _ in 0..10 {
        assert_unavailable(servers.metadata(&named).await, "500");
    }
    assert_eq!(server.seen().len(), 2);
    clock.advance(Duration::from_secs(5));
    assert_unavailable(servers.metadata(&named).await, "500");
    assert_eq!(server.seen().len(), 4);
}
