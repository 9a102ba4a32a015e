//! What is at the root.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::Value;

use super::*;

fn root(method: Method, accept: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/")
        .header(header::ACCEPT, accept)
        .body(Body::empty())
        .unwrap()
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn a_browser_gets_a_page_that_leads_on() {
    let site = site().await;
    let page = site.browser().send(root(Method::GET, BROWSER)).await;
    assert_eq!(page.status, StatusCode::OK);
    for text in [
        "private MCP registry",
        "href=\"/signin\"",
        "http://localhost:8080/mcp/GATEWAY",
        "http://localhost:8080/agents/AGENT/mcp",
        "http://localhost:8080/install/ENTRY",
        "<code>9090</code>",
        "href=\"/readyz\"",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    let other = site.browser().get("/install/none").await;
    assert_eq!(
        other.status,
        StatusCode::SEE_OTHER,
        "whatever there is, it is for those who are signed in"
    );
    let mut signed_in = site.browser();
    signed_in.get("/signin?return=%2Finstall%2Ftime").await;
    signed_in.sign_in(ALICE, &json!({})).await;
    let install = signed_in.get("/install/time").await;
    for name in [
        header::CONTENT_SECURITY_POLICY,
        header::CACHE_CONTROL,
        header::REFERRER_POLICY,
        header::X_CONTENT_TYPE_OPTIONS,
    ] {
        assert_eq!(page.headers[&name], install.headers[&name], "{name}");
    }
    let same = signed_in.send(root(Method::GET, BROWSER)).await;
    assert_eq!(same.body, page.body, "it shows nothing about the signed-in person");
}

#[tokio::test]
async fn head_and_clients_that_take_anything_get_the_page_too() {
    let site = site().await;
    let head = site.browser().send(root(Method::HEAD, BROWSER)).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
    assert!(head.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    assert!(site.browser().send(root(Method::GET, "*/*")).await.has("<html"));
}

#[tokio::test]
async fn an_mcp_client_at_the_root_gets_the_paths_of_endpoints() {
    let site = site().await;
    for (method, accept) in [
        (Method::GET, "application/json"),
        (Method::GET, "text/event-stream"),
        (Method::POST, "application/json, text/event-stream"),
        (Method::DELETE, "*/*"),
    ] {
        let answer = site.browser().send(root(method.clone(), accept)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {accept}");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["jsonrpc"], "2.0");
        assert_eq!(body["error"]["data"]["error"], "not_an_endpoint");
        let endpoints = &body["error"]["data"]["mcp_endpoints"];
        assert_eq!(endpoints[0], "http://localhost:8080/mcp/GATEWAY");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("http://localhost:8080/mcp/GATEWAY"), "{message}");
    }
}
