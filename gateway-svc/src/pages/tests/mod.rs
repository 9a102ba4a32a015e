//! The pages, as a browser without JavaScript sees them.

mod browser;
mod fakes;

use std::{collections::HashSet, time::Duration};

use axum::http::{StatusCode, header};
use contracts::credential::{DestinationChange, DestinationPart, DestinationText};
use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, EntryLifecycle, InstallField, InstallFieldType,
    InstallationState, ReinstallRequired, RemoteServer, Team, entry::Server,
};
use serde_json::json;

use self::browser::Site;

const ALICE: &str = "alice@example.com";
const SECRET: &str = "s3cret-<value>";

async fn site() -> Site {
    let site = Site::start("http://localhost:8080").await;
    {
        let mut world = site.services.world();
        let field = |key: &str, title: &str, kind: InstallFieldType, required| InstallField {
            key: key.to_owned(),
            title: title.to_owned(),
            r#type: kind.into(),
            required,
            ..InstallField::default()
        };
        let entry = Entry {
            name: "entries/time".to_owned(),
            display_name: "Time <b>service</b>".to_owned(),
            description: "Tells the time.".to_owned(),
            lifecycle: EntryLifecycle::Approved.into(),
            server: Some(Server::Remote(RemoteServer {
                url: "https://time.example.com/mcp".to_owned(),
            })),
            install_fields: vec![
                field("api_key", "API key", InstallFieldType::Secret, true),
                field("zone", "Time zone", InstallFieldType::String, true),
            ],
            ..Entry::default()
        };
        world.entries.insert(entry.name.clone(), entry);
        world.present_destination = "https://time.example.com".to_owned();
        for (slug, members_manage) in [("blue", true), ("red", false)] {
            let name = format!("teams/{slug}");
            let team = Team {
                name: name.clone(),
                display_name: slug.to_uppercase(),
                members_manage_installations: Some(members_manage),
                ..Team::default()
            };
            world.teams.insert(name, (team, vec![ALICE.to_owned()]));
        }
    }
    site
}

#[tokio::test]
async fn installs_from_the_link() {
    let site = site().await;
    let mut browser = site.browser();
    let sent = browser.get("/install/time?gateway=default").await;
    assert_eq!(sent.location(), "/signin?return=%2Finstall%2Ftime%3Fgateway%3Ddefault");
    let back = browser.sign_in(ALICE, &json!({})).await;
    assert_eq!((back.status, back.location()), (StatusCode::SEE_OTHER, "/install/time"));

    let page = browser.get("/install/time?gateway=default").await;
    assert_eq!(page.status, StatusCode::OK);
    for text in [
        ALICE,
        "Example SSO",
        "came through the gateway",
        "https://time.example.com",
        "API key",
        "Time &lt;b&gt;service",
        "The team BLUE",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    assert!(!page.has("The team RED"), "its members may not install for it");
    let csp = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(csp.starts_with("default-src 'none'") && csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"));
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");

    let state = page.state();
    let wrong = browser
        .post(
            "/install/time?gateway=default",
            &[("state", &state), ("scope", "me"), ("secret.api_key", SECRET)],
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.has("Enter Time zone.") && wrong.has("href=\"#field-zone\"") && wrong.has("<title>Error: "));
    assert!(!wrong.has("s3cret"), "secrets are never echoed");

    let form = [
        ("state", wrong.state()),
        ("scope", "me".into()),
        ("secret.api_key", SECRET.into()),
        ("value.zone", "UTC".into()),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for _ in 0..2 {
        let done = browser.post("/install/time?gateway=default", &form).await;
        assert_eq!(
            (done.status, done.location()),
            (StatusCode::SEE_OTHER, "/install/time/progress/uid-1?gateway=default")
        );
    }
    {
        let world = site.services.world();
        assert_eq!(world.installations.len(), 1);
        assert_eq!(world.installations[0].values["zone"], "UTC");
        assert_eq!(world.secrets["installations/uid-1"].0["api_key"], SECRET);
        assert_eq!(
            world.request_ids.iter().collect::<HashSet<_>>().len(),
            2,
            "one create and one put, whatever was sent twice"
        );
    }
    let progress = browser.get("/install/time/progress/uid-1?gateway=default").await;
    assert!(progress.has("Refresh this page") && progress.has("data-outcome=\"working\""));

    become_ready(&site);
    let progress = browser.get("/install/time/progress/uid-1?gateway=default").await;
    assert!(
        progress.has("Ready: 3 tools. Go back to where you came from and retry your call."),
        "{}",
        progress.body
    );
    let events = browser.get("/install/time/progress/uid-1/events").await;
    assert!(
        events.has("event: progress") && events.has("event: end"),
        "{}",
        events.body
    );
    assert!(browser.get("/install/other/progress/uid-1").await.status == StatusCode::NOT_FOUND);
}

fn become_ready(site: &Site) {
    let mut world = site.services.world();
    let installation = &mut world.installations[0];
    installation.set_state(InstallationState::Ready);
    installation.conditions = [ConditionType::CredentialReady, ConditionType::ToolsDiscovered]
        .map(|kind| Condition {
            r#type: kind.into(),
            status: ConditionStatus::True.into(),
            observed_generation: installation.generation,
            ..Condition::default()
        })
        .to_vec();
}

/// Installs for Alice; the page of what she has then.
async fn installed(site: &Site) -> browser::Browser<'_> {
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let state = browser.get("/install/time").await.state();
    let form = [
        ("state", state.as_str()),
        ("scope", "me"),
        ("secret.api_key", SECRET),
        ("value.zone", "UTC"),
    ];
    assert_eq!(browser.post("/install/time", &form).await.status, StatusCode::SEE_OTHER);
    browser
}

#[tokio::test]
async fn takes_no_form_from_elsewhere() {
    let site = site().await;
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let state = browser.get("/install/time").await.state();
    let mut mallory = site.browser();
    mallory.sign_in("mallory@example.com", &json!({})).await;
    let foreign = mallory.get("/install/time").await.state();
    let other = if state.as_bytes()[40] == b'A' { "B" } else { "A" };
    let tampered = format!("{}{other}{}", &state[..40], &state[41..]);

    let ours = [("origin", "http://localhost:8080")];
    for (state, headers) in [
        (state.as_str(), vec![]),
        (&state, vec![("origin", "http://evil.example")]),
        (&state, vec![("origin", "null")]),
        (
            &state,
            vec![("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
        ),
        (
            &state,
            vec![("origin", "http://localhost:8080"), ("sec-fetch-site", "same-site")],
        ),
        (&foreign, ours.to_vec()),
        (&tampered, ours.to_vec()),
        ("", ours.to_vec()),
    ] {
        let form = [
            ("state", state),
            ("scope", "me"),
            ("secret.api_key", SECRET),
            ("value.zone", "UTC"),
        ];
        let answer = browser.post_from("/install/time", &form, &headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
        assert!(answer.has("Open the page again"));
    }
    assert!(site.services.world().installations.is_empty());
    let form = [
        ("state", state.as_str()),
        ("scope", "me"),
        ("secret.api_key", SECRET),
        ("value.zone", "UTC"),
    ];
    assert_eq!(
        browser.post_from("/install/time", &form, &ours).await.status,
        StatusCode::SEE_OTHER
    );
    let form = [("state", state.as_str())];
    let rebound = [("origin", "http://localhost:8080"), ("host", "evil.example")];
    assert_eq!(
        browser.post_from("/install/time", &form, &rebound).await.status,
        StatusCode::MISDIRECTED_REQUEST
    );
    let out = browser
        .post_from(
            "/signout",
            &[("return", "/install/time")],
            &[("origin", "http://evil.example")],
        )
        .await;
    assert_eq!(out.status, StatusCode::FORBIDDEN);
    assert!(!browser.cookies.is_empty());
    let out = browser.post("/signout", &[("return", "/install/time")]).await;
    assert!(out.status == StatusCode::OK && browser.cookies.is_empty());
}

#[tokio::test]
async fn signs_nobody_in_by_an_answer_to_something_else() {
    let site = site().await;
    for change in [
        json!({ "nonce": "another" }),
        json!({ "aud": "another" }),
        json!({ "aud": [fakes::CLIENT_ID], "azp": "another" }),
        json!({ "iss": "https://another.example" }),
        json!({ "exp": 1 }),
    ] {
        let mut browser = site.browser();
        let answer = browser.sign_in(ALICE, &change).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{change}");
        assert!(browser.cookies.is_empty(), "{change}: {:?}", browser.cookies);
    }
    // RFC 9207: the issuer's metadata promises that its answers say whose they are.
    for from in [None, Some("https://another.example")] {
        let mut browser = site.browser();
        let answer = browser.sign_in_answered(ALICE, &json!({}), from).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{from:?}");
        assert!(browser.cookies.is_empty(), "{from:?}: {:?}", browser.cookies);
    }
    let mut browser = site.browser();
    browser.get("/signin?return=/install/time&here=1").await;
    assert_eq!(
        browser.get("/signin/callback?code=x&state=forged").await.status,
        StatusCode::BAD_REQUEST
    );
    let cookie = browser.cookies.keys().next().unwrap().clone();
    assert_eq!(
        browser.get("/signin/callback?code=x&state=").await.status,
        StatusCode::BAD_REQUEST
    );
    assert!(browser.cookies.contains_key(&cookie), "the sign-in under way goes on");
    assert!(browser.get("/install/time").await.status == StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn keeps_the_token_sealed_and_no_longer_than_it_lasts() {
    let site = Site::start("https://tools.example.com/chandlery").await;
    let mut browser = site.browser();
    let groups: Vec<String> = (0..300).map(|n| format!("group-{n}")).collect();
    let back = browser.sign_in(ALICE, &json!({ "groups": groups })).await;
    assert_eq!(back.location(), "/chandlery/install/time");
    let session: Vec<&String> = browser
        .set
        .iter()
        .filter(|cookie| cookie.contains("chandlery_session"))
        .collect();
    assert!(session.len() > 1, "a long token is spread over cookies");
    for cookie in session {
        assert!(cookie.starts_with("__Host-") && cookie.len() < 4096);
        for part in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/;", "Max-Age=3"] {
            assert!(cookie.contains(part), "{part}");
        }
        assert!(!cookie.contains("eyJ"), "no token in clear");
    }
    assert_eq!(
        browser.get("/install/nothing").await.status,
        StatusCode::NOT_FOUND,
        "signed in"
    );
    site.clock.advance(Duration::from_secs(3601));
    assert_eq!(browser.get("/install/nothing").await.status, StatusCode::SEE_OTHER);
    let late = browser.post("/install/nothing", &[("state", "x")]).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
    assert!(late.has("Your session has ended") && late.has("/chandlery/signin?return=%2Finstall%2Fnothing"));
    assert!(browser.cookies.is_empty());
}

#[tokio::test]
async fn goes_on_where_the_credential_was_refused() {
    let site = site().await;
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let state = browser.get("/install/time").await.state();
    site.services.world().refuse_put = Some(fakes::bad_field("values[0].value", "must be visible ASCII"));
    let form = [
        ("state", state.as_str()),
        ("scope", "me"),
        ("secret.api_key", SECRET),
        ("value.zone", "UTC"),
    ];
    let refused = browser.post("/install/time", &form).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused.has("API key: Must be visible ASCII.") && refused.has("You have this installed"),
        "{}",
        refused.body
    );
    let form = [
        ("state", refused.state()),
        ("secret.api_key", "better".into()),
        ("value.zone", "UTC".into()),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(browser.post("/install/time", &form).await.status, StatusCode::SEE_OTHER);
    let world = site.services.world();
    assert_eq!(
        (
            world.installations.len(),
            world.secrets["installations/uid-1"].0["api_key"].as_str()
        ),
        (1, "better")
    );
}

#[tokio::test]
async fn confirms_a_changed_destination_without_typing_again() {
    let site = site().await;
    let mut browser = installed(&site).await;
    site.services.world().present_destination = "https://elsewhere.example.com".to_owned();
    let page = browser.get("/install/time").await;
    assert!(page.has("The destination has changed") && page.has("https://elsewhere.example.com"));
    let state = page.state();
    let form = [("state", state.as_str()), ("value.zone", "UTC")];
    assert_eq!(
        browser.post("/install/time", &form).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let agreed = [("state", state.as_str()), ("value.zone", "UTC"), ("confirm", "yes")];
    site.services.world().present_destination = "https://third.example.com".to_owned();
    let changed_again = browser.post("/install/time", &agreed).await;
    assert!(changed_again.has("changed again while you looked"));
    site.services.world().present_destination = "https://elsewhere.example.com".to_owned();
    assert_eq!(
        browser.post("/install/time", &agreed).await.status,
        StatusCode::SEE_OTHER
    );
    let world = site.services.world();
    let (secrets, bound) = &world.secrets["installations/uid-1"];
    assert_eq!(
        (secrets["api_key"].as_str(), bound.as_str()),
        (SECRET, "https://elsewhere.example.com")
    );
}

/// What runs has changed: what exactly is shown, as text whatever it holds, and nothing goes along without a word.
#[tokio::test]
async fn shows_what_has_changed_and_asks() {
    let site = site().await;
    let mut browser = installed(&site).await;
    let text = |text: &str, omitted_bytes| {
        Some(DestinationText {
            text: text.to_owned(),
            omitted_bytes,
            sha256: "5e8f".to_owned(),
        })
    };
    {
        let mut world = site.services.world();
        world.present_destination = "code:v1:aa".to_owned();
        world.changes = vec![
            DestinationChange {
                part: DestinationPart::Environment.into(),
                name: "NODE_OPTIONS".to_owned(),
                before: None,
                after: text("<script>alert(1)</script>", 0),
            },
            DestinationChange {
                part: DestinationPart::File.into(),
                name: ".npmrc".to_owned(),
                before: text("registry=good", 0),
                after: text("registry=evil", 77),
            },
        ];
    }
    let page = browser.get("/install/time").await;
    for shown in [
        "What runs has changed",
        "<caption>What has changed since you agreed</caption>",
        "Environment variable <code>NODE_OPTIONS</code>",
        "not there",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "registry=good",
        "registry=evil",
        "and 77 more bytes",
        "It gets nothing unless you agree.",
    ] {
        assert!(page.has(shown), "{shown} in {}", page.body);
    }
    assert!(!page.has("<script>alert"));
    let form = [("state", page.state()), ("value.zone", "UTC".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = browser.post("/install/time", &form).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.has("Agree to what has changed") && refused.has("aria-describedby=\"consent confirm-error\""));
    let agreed = [&form[..], &[("confirm", "yes")]].concat();
    assert_eq!(
        browser.post("/install/time", &agreed).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(site.services.world().secrets["installations/uid-1"].1, "code:v1:aa");
}

/// Somebody else's values are shown as such. Values of one's own end that, together with the word on the rest.
#[tokio::test]
async fn takes_ones_own_values_instead_of_somebody_elses() {
    let site = site().await;
    let mut browser = installed(&site).await;
    {
        let mut world = site.services.world();
        if let Some(secrets) = world.secrets.get_mut("installations/uid-1") {
            secrets.1 = "code:v1:aa".to_owned();
        }
        world.present_destination = "code:v1:aa#values=3:bb".to_owned();
    }
    let page = browser.get("/install/time").await;
    assert!(page.has("Somebody else has changed your settings"), "{}", page.body);
    let state = page.state();
    let form = [("state", state.as_str()), ("value.zone", "CET"), ("confirm", "yes")];
    // Changed in the middle of it, to something that was not shown.
    site.services.world().present_after_update = Some("code:v1:cc".to_owned());
    assert!(
        browser
            .post("/install/time", &form)
            .await
            .has("changed again while you looked")
    );
    {
        let mut world = site.services.world();
        world.present_destination = "code:v1:aa#values=3:bb".to_owned();
        world.present_after_update = Some("code:v1:aa".to_owned());
        world.installations[0].values.clear();
    }
    assert_eq!(browser.post("/install/time", &form).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.services.world().secrets["installations/uid-1"].1, "code:v1:aa");
}

/// Values that were agreed to are not what a later question is about.
#[tokio::test]
async fn says_what_has_changed_since_the_last_answer() {
    let site = site().await;
    let mut browser = installed(&site).await;
    let (code, values) = ("What runs has changed", "has changed your settings");
    for (bound, present, about) in [
        ("code:v1:aa#values=3:bb", "code:v1:cc#values=3:bb", [true, false]),
        ("code:v1:aa#values=3:bb", "code:v1:aa#values=4:dd", [false, true]),
        ("code:v1:aa#values=3:bb", "code:v1:cc#values=4:dd", [true, true]),
    ] {
        {
            let mut world = site.services.world();
            if let Some(secrets) = world.secrets.get_mut("installations/uid-1") {
                secrets.1 = bound.to_owned();
            }
            world.present_destination = present.to_owned();
        }
        let page = browser.get("/install/time").await;
        assert_eq!([page.has(code), page.has(values)], about, "{present} in {}", page.body);
    }
}

#[tokio::test]
async fn asks_for_what_a_changed_entry_needs_and_nothing_else() {
    let site = site().await;
    let mut browser = installed(&site).await;
    site.services.world().installations[0].reinstall_required = Some(ReinstallRequired {
        reason: "FIELD_REQUIRED".to_owned(),
        message: "zone is needed".to_owned(),
        fields: vec!["zone".to_owned()],
    });
    // Where it would go now is asked once it runs what the entry is now.
    site.services.world().present_destination = "https://behind.example.com".to_owned();
    let page = browser.get("/install/time").await;
    assert!(!page.has("The destination has changed"));
    assert!(page.has("The entry asks for this now.") && page.has("Leave this empty to keep it."));
    let state = page.state();
    let form = [("state", state.as_str()), ("secret.api_key", ""), ("value.zone", "CET")];
    assert_eq!(browser.post("/install/time", &form).await.status, StatusCode::SEE_OTHER);
    let world = site.services.world();
    assert_eq!(world.installations[0].values["zone"], "CET");
    assert!(world.installations[0].reinstall_required.is_none());
    assert_eq!(world.secrets["installations/uid-1"].0["api_key"], SECRET);
}

#[tokio::test]
async fn installs_for_a_team_only_where_the_opener_may() {
    let site = site().await;
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let state = browser.get("/install/time").await.state();
    for (scope, status) in [
        ("teams/red", StatusCode::UNPROCESSABLE_ENTITY),
        ("teams/unknown", StatusCode::UNPROCESSABLE_ENTITY),
        ("", StatusCode::UNPROCESSABLE_ENTITY),
        ("teams/blue", StatusCode::SEE_OTHER),
    ] {
        let form = [
            ("state", state.as_str()),
            ("scope", scope),
            ("secret.api_key", SECRET),
            ("value.zone", "UTC"),
        ];
        assert_eq!(browser.post("/install/time", &form).await.status, status, "{scope}");
    }
    let pending = browser.get("/install/time").await;
    assert!(
        pending.has("The team BLUE has this installed"),
        "what needs repair comes first"
    );
    become_ready(&site);
    let page = browser.get("/install/time").await;
    assert!(
        page.has("This installs for") && page.has("The team BLUE</a>: It is ready."),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn tells_what_is_not_there_from_what_cannot_be_installed() {
    let site = site().await;
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    for path in [
        "/install/unknown",
        "/install/..%2F",
        "/install/time?installation=uid-9",
        "/install/time/progress/uid-9",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.has("There is nothing here for you"));
    }
    site.services
        .world()
        .entries
        .get_mut("entries/time")
        .unwrap()
        .set_lifecycle(EntryLifecycle::Deprecated);
    let page = browser.get("/install/time").await;
    assert!(page.has("This cannot be installed") && !page.has("<form class=\"install\""));
    let large = "x".repeat(9 << 20);
    let answer = browser.post("/install/time", &[("secret.api_key", &large)]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// Whoever has not signed in, or whose form another site sends, is refused without a byte of the form being read.
#[tokio::test]
async fn a_form_is_read_only_for_whoever_may_send_it() {
    let site = site().await;
    let own = [("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
    let mut stranger = site.browser();
    let refused = stranger.post_without_end("/install/time", &own).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);

    let mut alice = site.browser();
    alice.get("/install/time").await;
    alice.sign_in(ALICE, &json!({})).await;
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for path in ["/install/time", "/signout"] {
        let refused = alice.post_without_end(path, &foreign).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    let large = [own[0], own[1], ("content-length", "8388609")];
    let refused = alice.post_without_end("/install/time", &large).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(refused.has("That was too much"));
}

/// A copy of the cookies is worth nothing once their owner has signed out.
#[tokio::test]
async fn signing_out_ends_the_session_wherever_its_cookies_are() {
    let site = site().await;
    let (mut alice, mut elsewhere) = (site.browser(), site.browser());
    alice.get("/install/time").await;
    alice.sign_in(ALICE, &json!({})).await;
    elsewhere.get("/install/time").await;
    elsewhere.sign_in(ALICE, &json!({})).await;
    let mut thief = site.browser();
    thief.cookies = alice.cookies.clone();
    assert_eq!(thief.get("/install/time").await.status, StatusCode::OK);
    assert_eq!(alice.post("/signout", &[]).await.status, StatusCode::OK);
    let refused = thief.get("/install/time").await;
    assert!(refused.location().starts_with("/signin?"), "{}", refused.body);
    assert_eq!(
        elsewhere.get("/install/time").await.status,
        StatusCode::OK,
        "another session"
    );
}
