//! An MCP client gets its authorization: the facade's endpoints, and a browser between them.

use axum::{body::Body, http::Request};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;
use url::{Url, form_urlencoded};

use super::{
    browser::{Answer, Browser},
    *,
};
use crate::{
    domain::{ConsumerKind, ConsumerRef},
    facade::AccessTokens,
};

const REDIRECT: &str = "http://127.0.0.1:33418/callback";
const RESOURCE: &str = "http://localhost:8080/mcp/default";
const VERIFIER: &str = "a-verifier-of-a-client-that-is-long-enough-for-it";

/// Asks an endpoint for programs.
async fn ask(site: &Site, request: Request<Body>) -> (StatusCode, Value) {
    let response = site.router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn register(site: &Site, metadata: &Value) -> (StatusCode, Value) {
    let request = Request::post("/oauth/register").body(Body::from(metadata.to_string()));
    ask(site, request.unwrap()).await
}

async fn client(site: &Site) -> String {
    let metadata = json!({ "client_name": "Example <editor>", "redirect_uris": [REDIRECT] });
    let (status, registered) = register(site, &metadata).await;
    assert_eq!(status, StatusCode::CREATED);
    registered["client_id"].as_str().unwrap().to_owned()
}

async fn form(site: &Site, path: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body));
    ask(site, request.unwrap()).await
}

/// A valid request with these parameters in place of its own; an empty one is left out.
fn authorize(client: &str, change: &[(&str, &str)]) -> String {
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(VERIFIER));
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("resource", RESOURCE),
        ("state", "s \"1\""),
    ];
    for (name, value) in change {
        parameters.retain(|(known, _)| known != name);
        parameters.push((name, value));
    }
    parameters.retain(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    format!("/oauth/authorize?{query}")
}

/// What is sealed in the form of the question.
fn request(question: &Answer) -> String {
    let (_, rest) = question
        .body
        .split_once(r#"name="request" value=""#)
        .expect("a question");
    rest.split('"').next().unwrap().to_owned()
}

/// Where a page sends the browser on.
fn onward(answer: &Answer) -> Url {
    let refresh = answer.headers["refresh"].to_str().unwrap();
    refresh.strip_prefix("0;url=").unwrap().parse().unwrap()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

/// Allows the client, and signs in: where the browser then is.
async fn allow(site: &Site, browser: &mut Browser<'_>, client: &str) -> Answer {
    let question = browser.get(&authorize(client, &[])).await;
    let fields = [("request", &*request(&question)), ("issuer", site.issuer.issuer())];
    let at_issuer = onward(&browser.post("/oauth/authorize", &fields).await);
    let callback = site.answer(&at_issuer, ALICE);
    browser.get(&callback).await
}

fn redeem<'a>(client: &'a str, code: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT),
        ("resource", RESOURCE),
    ]
}

#[tokio::test]
async fn a_client_gets_a_token_for_one_endpoint() {
    let site = site().await;
    let client = client(&site).await;
    let mut browser = site.browser();
    let question = browser.get(&authorize(&client, &[])).await;
    assert_eq!(question.status, StatusCode::OK);
    for shown in [
        "Example &lt;editor&gt;",
        "a program on this computer",
        "default",
        "Example SSO",
    ] {
        assert!(question.has(shown), "{shown}: {}", question.body);
    }
    let back = allow(&site, &mut browser, &client).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert_eq!(back.headers[header::REFERRER_POLICY], "no-referrer");
    let back: Url = back.location().parse().unwrap();
    assert!(back.as_str().starts_with(REDIRECT));
    assert_eq!(parameter(&back, "state").as_deref(), Some("s \"1\""));
    assert_eq!(parameter(&back, "iss").as_deref(), Some("http://localhost:8080/oauth"));
    let code = parameter(&back, "code").unwrap();
    assert!(!code.contains("code-"), "the identity provider's code is sealed");

    // None of these uses up the code.
    let other = register(&site, &json!({ "redirect_uris": ["https://other.example/cb"] }))
        .await
        .1;
    let other = other["client_id"].as_str().unwrap();
    for (field, value, error) in [
        (
            "code_verifier",
            "another-verifier-of-a-client-that-is-long-enough",
            "invalid_grant",
        ),
        ("code_verifier", "", "invalid_request"),
        ("client_id", other, "invalid_grant"),
        ("redirect_uri", "https://other.example/cb", "invalid_grant"),
        ("resource", "http://localhost:8080/mcp/other", "invalid_target"),
        ("resource", "http://localhost:8080/mcp/default/", "invalid_target"),
        ("code", "chc_forged", "invalid_grant"),
        ("grant_type", "password", "unsupported_grant_type"),
    ] {
        let mut fields = redeem(&client, &code);
        fields.iter_mut().find(|(name, _)| *name == field).unwrap().1 = value;
        let (status, refused) = form(&site, "/oauth/token", &fields).await;
        assert_eq!(
            (status, &refused["error"]),
            (StatusCode::BAD_REQUEST, &json!(error)),
            "{field}"
        );
    }
    let (status, tokens) = form(&site, "/oauth/token", &redeem(&client, &code)).await;
    assert_eq!(
        (status, &tokens["token_type"]),
        (StatusCode::OK, &json!("Bearer")),
        "{tokens}"
    );
    assert!(tokens["expires_in"].as_u64().unwrap() > 3_000);
    let opened = AccessTokens::new([9; 32].into())
        .open(tokens["access_token"].as_str().unwrap())
        .unwrap();
    let endpoint = |slug| ConsumerRef::new(ConsumerKind::Gateway, slug);
    assert!(opened.is_for(&endpoint("default")) && !opened.is_for(&endpoint("other")));
    // The issuer's access tokens are opaque: its ID token stands in.
    let claims = opened.token().expose_secret().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    assert_eq!(claims["email"], ALICE);

    let (status, again) = form(&site, "/oauth/token", &redeem(&client, &code)).await;
    assert_eq!(
        (status, &again["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
    );
}

#[tokio::test]
async fn a_code_is_for_a_minute() {
    let site = site().await;
    let client = client(&site).await;
    let back = allow(&site, &mut site.browser(), &client).await;
    let code = parameter(&back.location().parse().unwrap(), "code").unwrap();
    site.clock.advance(Duration::from_secs(60));
    let (_, refused) = form(&site, "/oauth/token", &redeem(&client, &code)).await;
    assert_eq!(refused["error"], "invalid_grant");
}

#[tokio::test]
async fn only_the_client_itself_is_answered() {
    let site = site().await;
    let client = client(&site).await;
    let mut browser = site.browser();
    // Whether the request is the client's is not certain: the browser stays here.
    for (change, why) in [
        (("redirect_uri", "https://evil.example/callback"), "not one of its own"),
        (("redirect_uri", "http://127.0.0.1:1/elsewhere"), "not one of its own"),
        (("redirect_uri", ""), "not one of its own"),
        (("client_id", "chi_forged"), "not registered"),
        (("client_id", ""), "client_id"),
        (("client_id", "https://10.0.0.1/client.json"), "client&#39;s id"),
    ] {
        let answer = browser.get(&authorize(&client, &[change])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{change:?}");
        assert!(
            answer.has(why) || answer.has("client's id"),
            "{change:?}: {}",
            answer.body
        );
        assert!(!answer.headers.contains_key(header::LOCATION));
    }
    let twice = format!("{}&redirect_uri=https://evil.example/", authorize(&client, &[]));
    assert_eq!(browser.get(&twice).await.status, StatusCode::BAD_REQUEST);
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("resource", ""), "invalid_target"),
        (("resource", "https://elsewhere.example/mcp/default"), "invalid_target"),
        (("resource", "http://localhost:8080/mcp/default/"), "invalid_target"),
        (("resource", "http://localhost:8080"), "invalid_target"),
    ] {
        let answer = browser.get(&authorize(&client, &[change])).await;
        let location: Url = answer.location().parse().unwrap();
        assert!(location.as_str().starts_with(REDIRECT));
        assert_eq!(parameter(&location, "error").as_deref(), Some(error), "{change:?}");
        assert_eq!(parameter(&location, "state").as_deref(), Some("s \"1\""));
        assert!(parameter(&location, "iss").is_some());
    }
    // A native application takes the port that is free.
    let port = authorize(&client, &[("redirect_uri", "http://127.0.0.1:50000/callback")]);
    assert_eq!(browser.get(&port).await.status, StatusCode::OK);
}

/// Anybody registers a client of their own.
#[tokio::test]
async fn no_link_leads_to_a_client_that_nobody_agreed_to() {
    let site = site().await;
    let evil = "https://evil.example/cb?a=b";
    let editor = "cursor://anysphere.cursor-mcp/oauth/callback";
    let (_, registered) = register(&site, &json!({ "redirect_uris": [evil, editor] })).await;
    let client = registered["client_id"].as_str().unwrap();
    let mut browser = site.browser();
    for (change, why) in [
        (("response_type", ""), "response_type must be code"),
        (("code_challenge", ""), "PKCE is required"),
        (("resource", ""), "resource must be the URL"),
        (("state", "ü"), "state must be"),
    ] {
        for (uri, destination) in [
            (evil, "evil.example"),
            (editor, "the program on this computer that opens cursor:// links"),
        ] {
            let answer = browser.get(&authorize(client, &[("redirect_uri", uri), change])).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri} {change:?}");
            for header in [header::LOCATION, header::REFRESH] {
                assert!(!answer.headers.contains_key(header), "{uri} {change:?}");
            }
            let back = format!(r#"rel="noreferrer">Go back to {destination}</a>"#);
            assert!(answer.has(why) && answer.has(&back), "{}", answer.body);
            let separator = if uri.contains('?') { "&amp;" } else { "?" };
            assert!(
                answer.has(&format!(r#"href="{uri}{separator}error="#)),
                "{}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_allowed_for_somebody_who_was_not_asked() {
    let site = site().await;
    let client = client(&site).await;
    let mut browser = site.browser();
    let sealed = request(&browser.get(&authorize(&client, &[])).await);
    let fields = [("request", &*sealed), ("issuer", site.issuer.issuer())];
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for headers in [&foreign[..], &[]] {
        let answer = browser.post_from("/oauth/authorize", &fields, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.set_cookies().is_empty());
    }
    let denied = browser.post("/oauth/authorize", &[("request", &*sealed)]).await;
    assert_eq!(parameter(&onward(&denied), "error").as_deref(), Some("access_denied"));

    let at_issuer = onward(&browser.post("/oauth/authorize", &fields).await);
    let callback = site.answer(&at_issuer, ALICE);
    // A person whom the attacker sends to the issuer comes back in their own browser.
    let victims = site.browser().get(&callback).await;
    assert_eq!(victims.status, StatusCode::BAD_REQUEST);
    // An answer of another issuer (RFC 9207).
    let (ours, _) = callback.split_once("&iss=").unwrap();
    let mixed_up = browser.get(&format!("{ours}&iss=https://evil.example")).await;
    assert_eq!(mixed_up.status, StatusCode::BAD_REQUEST);

    let at_issuer = onward(&browser.post("/oauth/authorize", &fields).await);
    let state = parameter(&at_issuer, "state").unwrap();
    let refused = format!(
        "/signin/callback?error=access_denied&state={state}&iss={}",
        site.issuer.issuer()
    );
    let back: Url = browser.get(&refused).await.location().parse().unwrap();
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"));

    site.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(
        browser.post("/oauth/authorize", &fields).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn registers_clients_without_keeping_them() {
    let site = site().await;
    let metadata = json!({
        "client_name": "Editor", "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback", REDIRECT],
        "grant_types": ["authorization_code"], "token_endpoint_auth_method": "client_secret_basic", "contacts": ["a@b"],
    });
    let (status, registered) = register(&site, &metadata).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(registered["redirect_uris"], metadata["redirect_uris"]);
    assert_eq!(
        registered["grant_types"],
        json!(["authorization_code", "refresh_token"])
    );
    assert_eq!(registered["token_endpoint_auth_method"], "none");
    assert!(registered["client_id"].as_str().unwrap().len() < 4 << 10);
    let long = format!("https://client.example/{}", "x".repeat(900));
    for (metadata, error) in [
        (
            json!({ "redirect_uris": ["http://client.example/cb"] }),
            "invalid_redirect_uri",
        ),
        (json!({ "redirect_uris": ["myapp://cb"] }), "invalid_redirect_uri"),
        (json!({ "client_name": "Editor" }), "invalid_redirect_uri"),
        (
            json!({ "redirect_uris": [long, long, long, long] }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": 1 }), "invalid_client_metadata"),
        (json!("text"), "invalid_client_metadata"),
    ] {
        let (status, refused) = register(&site, &metadata).await;
        assert_eq!(
            (status, &refused["error"]),
            (StatusCode::BAD_REQUEST, &json!(error)),
            "{metadata}"
        );
    }
}

#[tokio::test]
async fn says_what_clients_insist_on() {
    let site = site().await;
    for path in [
        "/.well-known/oauth-authorization-server/oauth",
        "/.well-known/openid-configuration/oauth",
        "/oauth/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        let (status, metadata) = ask(&site, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(metadata["issuer"], "http://localhost:8080/oauth");
        assert_eq!(
            metadata["authorization_endpoint"],
            "http://localhost:8080/oauth/authorize"
        );
        assert_eq!(
            metadata["registration_endpoint"],
            "http://localhost:8080/oauth/register"
        );
        assert_eq!(metadata["client_id_metadata_document_supported"], true);
        assert_eq!(metadata["token_endpoint_auth_methods_supported"], json!(["none"]));
        assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    }
}
