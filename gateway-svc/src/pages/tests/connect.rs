//! Connecting an account: to the authorization server and back.

use contracts::{
    credential::ErrorReason,
    registry::{OAuthCredential, entry::CredentialModel},
};
use service_kit::status::{Reason, StatusBuilder};
use tonic::{Code, Status};

use super::{browser::Answer, *};

const PROGRESS: &str = "/install/time/progress/uid-1";
const CODE: &str = "c0de+canary";

/// An entry whose installations are connected to accounts, and that needs nothing else.
async fn site_with_accounts(public_url: &str) -> Site {
    let site = Site::start(public_url).await;
    {
        let mut world = site.services.world();
        let entry = Entry {
            name: "entries/time".to_owned(),
            lifecycle: EntryLifecycle::Approved.into(),
            server: Some(Server::Remote(RemoteServer {
                url: "https://time.example.com/mcp".to_owned(),
                ..RemoteServer::default()
            })),
            credential_model: Some(CredentialModel::Oauth(OAuthCredential::default())),
            ..Entry::default()
        };
        world.entries.insert(entry.name.clone(), entry);
        world.present_destination = "https://time.example.com".to_owned();
        world.authorization_url = "https://as.example.com/authorize?a=1&state=".to_owned();
    }
    site
}

/// Alice has it installed, and looks at it.
async fn installed(site: &Site) -> (browser::Browser<'_>, Answer) {
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let page = browser.get("/install/time").await;
    assert!(page.has("you connect an account"), "{}", page.body);
    let state = page.state();
    let form = [("state", state.as_str()), ("scope", "me")];
    let done = browser.post("/install/time", &form).await;
    assert_eq!(done.location(), PROGRESS);
    let page = browser.get(PROGRESS).await;
    (browser, page)
}

async fn begin(browser: &mut browser::Browser<'_>, page: &Answer) -> Answer {
    let state = page.state();
    let path = "/install/time/connect/uid-1";
    assert!(page.has(path), "{}", page.body);
    browser.post(path, &[("state", &state)]).await
}

fn came_back(with: &str) -> String {
    format!("/oauth/callback?code={}&{with}", CODE.replace('+', "%2B"))
}

/// Follows to the page that says why nothing was connected.
async fn told(browser: &mut browser::Browser<'_>, sent: &Answer) -> Answer {
    assert_eq!(sent.status, StatusCode::SEE_OTHER);
    assert_eq!(sent.headers[header::REFERRER_POLICY], "no-referrer");
    let location = sent.location();
    assert!(
        location.starts_with("/oauth/problem?p=") && !location.contains("canary"),
        "{location}"
    );
    browser.get(location).await
}

fn refusal(code: Code, reason: ErrorReason, text: &str) -> Status {
    StatusBuilder::new(code, Reason::of(reason, ErrorReason::as_str_name), text).build()
}

#[tokio::test]
async fn connects_an_account_and_shows_it() {
    let site = site_with_accounts("http://localhost:8080").await;
    let (mut browser, page) = installed(&site).await;
    assert!(
        page.has("No account is connected.") && !page.has("Disconnect"),
        "{}",
        page.body
    );

    let sent = begin(&mut browser, &page).await;
    let to = "https://as.example.com/authorize?a=1&state=state-1";
    assert_eq!(sent.status, StatusCode::OK);
    assert_eq!(sent.headers["refresh"], format!("0;url={to}"));
    assert_eq!(sent.headers[header::REFERRER_POLICY], "no-referrer");
    assert!(sent.has("as.example.com") && sent.has("Go on"), "{}", sent.body);
    {
        let world = site.services.world();
        let started = &world.started[0];
        assert_eq!(
            (started.installation.as_str(), started.destination.as_str()),
            ("installations/uid-1", "https://time.example.com"),
            "what was shown is agreed to"
        );
    }

    let back = browser
        .get(&came_back("state=state-1&iss=https%3A%2F%2Fas.example.com"))
        .await;
    assert_eq!((back.status, back.location()), (StatusCode::SEE_OTHER, PROGRESS));
    assert_eq!(back.headers[header::REFERRER_POLICY], "no-referrer");
    {
        let world = site.services.world();
        let finished = &world.finished[0];
        assert_eq!(
            (
                finished.code.as_str(),
                finished.state.as_str(),
                finished.issuer.as_str()
            ),
            (CODE, "state-1", "https://as.example.com")
        );
        assert_eq!(finished.redirect_uri, "http://localhost:8080/oauth/callback");
    }
    for path in [PROGRESS, "/install/time"] {
        let page = browser.get(path).await;
        for text in [
            "alice-at-mail",
            "https://as.example.com",
            "read write",
            "2023-11-14 22:13 UTC",
            "it is renewed before that",
            "Connect again",
        ] {
            assert!(page.has(text), "{path}: {text} in {}", page.body);
        }
    }

    // Once only.
    let again = browser.get(&came_back("state=state-1")).await;
    assert!(told(&mut browser, &again).await.has("does not belong to this browser"));
    assert_eq!(site.services.world().finished.len(), 1);

    let state = browser.get(PROGRESS).await.state();
    let done = browser
        .post("/install/time/disconnect/uid-1", &[("state", &state)])
        .await;
    assert_eq!(done.location(), PROGRESS);
    assert!(browser.get(PROGRESS).await.has("No account is connected."));
}

/// What an account must do again, and what it lacks.
#[tokio::test]
async fn says_why_an_account_must_be_connected_again() {
    let site = site_with_accounts("http://localhost:8080").await;
    let (mut browser, _) = installed(&site).await;
    let connection = contracts::credential::Connection {
        failure: "the authorization server has ended the access".to_owned(),
        demanded_scopes: vec!["mail.write".to_owned()],
        ..Default::default()
    };
    let name = "installations/uid-1".to_owned();
    site.services.world().connections.insert(name, connection);
    let page = browser.get(PROGRESS).await;
    for text in [
        "The authorization server has ended the access.",
        "does not have these scopes: <span class=\"wrap\">mail.write</span>",
        "Connect again",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    // Whoever has not agreed to a new destination connects nothing to it.
    site.services.world().secrets.insert(
        "installations/uid-1".to_owned(),
        (Default::default(), "https://old.example.com".to_owned()),
    );
    let page = browser.get(PROGRESS).await;
    assert!(page.has("agree to what has changed") && !page.has("/install/time/connect/uid-1"));
}

/// A code that somebody else's browser brings is not used.
#[tokio::test]
async fn a_foreign_browser_finishes_nothing() {
    let site = site_with_accounts("http://localhost:8080").await;
    let (mut alice, page) = installed(&site).await;
    begin(&mut alice, &page).await;

    // Alice again, in another browser.
    let mut elsewhere = site.browser();
    elsewhere.sign_in(ALICE, &json!({})).await;
    let mut mallory = site.browser();
    for browser in [&mut elsewhere, &mut mallory] {
        let sent = browser.get(&came_back("state=state-1")).await;
        let page = told(browser, &sent).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST);
        assert!(page.has("does not belong to this browser") && page.has("Nothing was changed"));
    }
    for (query, text) in [
        ("state=state-2", "does not belong to this browser"),
        ("state=state-1&code=other", "no answer of an authorization server"),
        ("", "no answer of an authorization server"),
    ] {
        let sent = alice.get(&came_back(query)).await;
        assert!(told(&mut alice, &sent).await.has(text), "{query}");
    }
    assert!(site.services.world().finished.is_empty());

    // The same browser, where somebody else has signed in meanwhile, or nobody is any more.
    alice.sign_in("bob@example.com", &json!({})).await;
    let sent = alice.get(&came_back("state=state-1")).await;
    assert!(told(&mut alice, &sent).await.has("Somebody else has signed in"));
    alice.sign_in(ALICE, &json!({})).await;
    let page = alice.get(PROGRESS).await;
    begin(&mut alice, &page).await;
    alice.cookies.retain(|name, _| name.contains("chandlery_connect"));
    let sent = alice.get(&came_back("state=state-2")).await;
    let page = told(&mut alice, &sent).await;
    assert!(page.has("Your session has ended") && page.has("/signin?return=%2Finstall%2Ftime%2Fprogress%2Fuid-1"));
    assert!(site.services.world().finished.is_empty());
    assert!(alice.cookies.is_empty(), "what was begun is over: {:?}", alice.cookies);
    let forged = alice.get("/oauth/problem?p=forged").await;
    assert_eq!(forged.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn says_who_can_do_what_where_nothing_was_connected() {
    let site = site_with_accounts("http://localhost:8080").await;
    let (mut browser, page) = installed(&site).await;
    use ErrorReason::*;
    for (code, reason, text) in [
        (Code::FailedPrecondition, AuthorizationDenied, "Access was not allowed"),
        (Code::FailedPrecondition, AuthorizationStateInvalid, "no longer valid"),
        (
            Code::FailedPrecondition,
            AuthorizationServerRefused,
            "An admin must change the entry",
        ),
        (
            Code::Unavailable,
            AuthorizationServerUnavailable,
            "Neither you nor Chandlery is at fault",
        ),
        (
            Code::Unavailable,
            AuthorizationServerBusy,
            "Many requests wait for the authorization server",
        ),
        (Code::Aborted, DestinationStale, "The destination has changed"),
        (Code::Unavailable, RegistryUnavailable, "temporarily unavailable"),
        (Code::PermissionDenied, PermissionDenied, "This cannot be connected"),
        (Code::Internal, Internal, "Internal error"),
    ] {
        site.services.world().refuse_authorization = Some(refusal(code, reason, "it says <this>"));
        let refused = begin(&mut browser, &page).await;
        assert!(
            refused.has(text) && !refused.headers.contains_key("refresh"),
            "{text}: {}",
            refused.body
        );

        begin(&mut browser, &page).await;
        let state = format!("state-{}", site.services.world().started.len());
        site.services.world().refuse_authorization = Some(refusal(code, reason, "it says <this>"));
        let query = format!("/oauth/callback?error=access_denied&error_description=no&state={state}");
        let sent = browser.get(&query).await;
        let told = told(&mut browser, &sent).await;
        assert!(told.has(text) && told.has(PROGRESS), "{text}: {}", told.body);
        let finished = site.services.world().finished.last().cloned().unwrap();
        assert_eq!(
            (
                finished.error.as_str(),
                finished.error_description.as_str(),
                finished.code.as_str()
            ),
            ("access_denied", "no", "")
        );
    }
    let denied = refusal(Code::FailedPrecondition, AuthorizationDenied, "it says <this>");
    site.services.world().refuse_authorization = Some(denied);
    assert!(
        begin(&mut browser, &page)
            .await
            .has("It says &lt;this&gt;. Nothing was changed.")
    );
}

#[tokio::test]
async fn only_the_openers_own_page_connects() {
    let site = site_with_accounts("http://localhost:8080").await;
    let (mut browser, page) = installed(&site).await;
    let path = "/install/time/connect/uid-1";
    let state = page.state();
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    let forged = browser.post_from(path, &[("state", &state)], &foreign).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    for (path, state) in [(path, "x"), ("/install/time/connect/uid-2", state.as_str()), (path, "")] {
        let forged = browser.post(path, &[("state", state)]).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN, "{path} {state}");
    }
    assert_eq!(browser.get(path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(site.services.world().started.is_empty());
    // credential-svc checks where the browser is sent. A script would run here.
    site.services.world().authorization_url = "javascript:alert(1)//".to_owned();
    let refused = begin(&mut browser, &page).await;
    assert!(
        refused.has("no web page") && !refused.headers.contains_key("refresh"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn authorization_servers_find_the_client_where_it_says_it_is() {
    let site = Site::start("https://tools.example.com/chandlery/").await;
    let document = site.browser().get("/oauth/client/Ab_1-.json").await;
    assert_eq!(document.headers[header::CONTENT_TYPE], "application/json");
    assert!(
        document.headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("max-age")
    );
    assert!(document.body.len() <= 5 << 10, "authorization servers read no more");
    let read: serde_json::Value = serde_json::from_str(&document.body).unwrap();
    let public = "https://tools.example.com/chandlery";
    assert_eq!(
        read,
        json!({
            "client_id": format!("{public}/oauth/client/Ab_1-.json"),
            "client_name": "Chandlery",
            "client_uri": public,
            "redirect_uris": [format!("{public}/oauth/callback/Ab_1-")],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        })
    );
    let long = format!("/oauth/client/{}.json", "x".repeat(65));
    for path in [
        "/oauth/client/a%22b.json",
        "/oauth/client/.json",
        "/oauth/client/a",
        "/oauth/client.json",
        &long,
    ] {
        assert_eq!(site.browser().get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let site = Site::start("http://localhost:8080").await;
    let missing = site.browser().get("/oauth/client/a.json").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.has("is not https"), "{}", missing.body);
}
