//! What upstreams say of themselves.

use std::time::Duration;

use axum::response::Response;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use service_kit::Clock;

use super::{
    assert_unavailable, assert_unusable, document,
    server::{Server, html, json, with_status},
    servers,
};
use crate::domain::authorization::servers::{AuthorizationServers as _, ServerError, Upstream};

const AS: &str = "https://as.example.com";

fn demand(header: &str) -> Response {
    let mut answer = html(401);
    answer.headers_mut().insert("www-authenticate", header.parse().unwrap());
    answer
}

fn described(resource: &str) -> Value {
    json!({ "resource": resource, "authorization_servers": [AS], "scopes_supported": ["r", "w"] })
}

#[tokio::test]
async fn the_challenge_comes_first() {
    let server = Server::start().await;
    let (header, described) = (
        format!(
            r#"Bearer resource_metadata="{}", scope="files:read""#,
            server.url("/meta")
        ),
        described(&server.url("/mcp")),
    );
    server.answer(move |seen| match seen.path.as_str() {
        "/mcp" => demand(&header),
        "/meta" => json(&described),
        _ => html(200),
    });
    let found = servers().0.upstream(&server.url("/mcp"), None).await.unwrap().unwrap();
    assert_eq!(
        *found,
        Upstream {
            resource: server.url("/mcp"),
            authorization_servers: vec![AS.to_owned()],
            scopes: vec!["files:read".to_owned()],
        }
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/mcp"));
    assert!(seen[0].headers.get("authorization").is_none());
}

#[tokio::test]
async fn then_the_path_then_the_root() {
    for place in [
        "/.well-known/oauth-protected-resource/a/mcp",
        "/.well-known/oauth-protected-resource",
    ] {
        let server = Server::with(|server| vec![(place, described(&server.url("")))]).await;
        let found = servers()
            .0
            .upstream(&server.url("/a/mcp"), None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.resource, server.url(""), "{place}");
        assert_eq!(found.scopes, ["r", "w"]);
    }
}

#[tokio::test]
async fn metadata_of_another_origin_is_not_asked() {
    let (server, other) = (Server::start().await, Server::start().await);
    let header = format!(r#"Bearer resource_metadata="{}""#, other.url("/meta"));
    server.answer(move |_| demand(&header));
    assert_unusable(
        servers().0.upstream(&server.url("/mcp"), None).await,
        "not at its own origin",
    );
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn metadata_is_of_this_upstream() {
    for resource in ["https://bank.example.com/mcp", "/mcp", ""] {
        let server = Server::with(|_| vec![("/.well-known/oauth-protected-resource", described(resource))]).await;
        assert_unusable(
            servers().0.upstream(&server.url("/mcp"), None).await,
            "another resource",
        );
    }
    let server = Server::with(|server| {
        vec![(
            "/.well-known/oauth-protected-resource/mcp",
            described(&server.url("/mcp2")),
        )]
    })
    .await;
    assert_unusable(
        servers().0.upstream(&server.url("/mcp"), None).await,
        "another resource",
    );
}

#[tokio::test]
async fn the_query_of_an_upstream_is_not_repeated() {
    let server = Server::start().await;
    server.answer(|_| json(&json!({ "resource": "https://bank.example.com" })));
    let error = servers()
        .0
        .upstream(&server.url("/mcp?key=canary"), None)
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn an_origin_with_metadata_is_its_own_authorization_server() {
    let server = Server::with(|server| {
        let named = server.url("/");
        vec![("/.well-known/oauth-authorization-server", document(server, &named))]
    })
    .await;
    let found = servers().0.upstream(&server.url("/mcp"), None).await.unwrap().unwrap();
    assert_eq!(
        (found.resource.as_str(), found.authorization_servers.as_slice()),
        (server.url("/mcp").as_str(), [server.url("/")].as_slice())
    );
}

#[tokio::test]
async fn an_upstream_may_say_nothing() {
    let server = Server::start().await;
    server.answer(|_| html(200));
    let (servers, _) = servers();
    for _ in 0..3 {
        assert_eq!(servers.upstream(&server.url("/mcp"), None).await.unwrap(), None);
    }
    assert_eq!(server.seen().len(), 5, "this, too, is kept");
}

#[tokio::test]
async fn an_upstream_that_moves_is_asked_again() {
    let server = Server::start().await;
    let mcp = server.url("/mcp");
    let names = |authorization_server: &str| {
        let described = json!({ "resource": mcp, "authorization_servers": [authorization_server] });
        server.answer(move |_| json(&described));
    };
    let (servers, clock) = servers();
    let named = async |since| {
        let found = servers.upstream(&mcp, since).await.unwrap().unwrap();
        found.authorization_servers[0].clone()
    };
    names("https://old.example.com");
    assert_eq!(named(None).await, "https://old.example.com");
    names("https://new.example.com");
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        named(None).await,
        "https://old.example.com",
        "it is not asked by everybody"
    );
    let since = Some(Clock::Manual(clock.clone()).now());
    assert_eq!(named(since).await, "https://new.example.com");
    let asked = server.seen().len();
    assert_eq!(named(since).await, "https://new.example.com");
    assert_eq!(server.seen().len(), asked, "nor by each who connects again");
    server.answer(|_| with_status(502, &json!({})));
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        named(Some(Clock::Manual(clock.clone()).now())).await,
        "https://new.example.com",
        "while it is away"
    );
}

#[tokio::test]
async fn a_fault_is_not_taken_for_nothing() {
    let server = Server::with(|server| {
        let named = server.url("");
        vec![("/.well-known/oauth-authorization-server", document(server, &named))]
    })
    .await;
    server.answer(|seen| match seen.path.starts_with("/.well-known/oauth-protected") {
        true => with_status(502, &json!({})),
        false => html(404),
    });
    assert_unavailable(servers().0.upstream(&server.url("/mcp"), None).await, "502");
    assert_unusable(
        servers().0.upstream("https://192.168.0.1/mcp", None).await,
        "--allow-upstream-cidr",
    );
    let nowhere = servers().0.upstream("http://127.0.0.1:1/mcp", None).await;
    assert!(
        matches!(&nowhere, Err(ServerError::Unreachable(why)) if why.contains("cannot be reached")),
        "{nowhere:?}"
    );
}
