//! Installing from a link.

use super::*;

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
    let empty = browser
        .post("/install/time?gateway=default", &[("state", &state), ("scope", "me")])
        .await;
    let place = |text: &str| empty.body.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(
        place("href=\"#field-zone\"") < place("href=\"#field-api_key\""),
        "errors have the order of the form"
    );
    let state = empty.state();
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

/// The installation itself has no part in it.
#[tokio::test]
async fn says_that_the_server_of_all_installations_does_not_run() {
    let site = site().await;
    let mut browser = installed(&site).await;
    become_ready(&site);
    assert!(browser.get("/install/time").await.has("It is ready."));
    let transport = StreamableHttpTransport {
        tenancy: Tenancy::Shared.into(),
        ..StreamableHttpTransport::default()
    };
    let failed = Condition {
        r#type: ConditionType::RuntimeReady.into(),
        status: ConditionStatus::False.into(),
        message: "it exited at once".to_owned(),
        ..Condition::default()
    };
    {
        let mut world = site.services.world();
        let entry = world.entries.get_mut("entries/time").unwrap();
        entry.server = Some(Server::SelfHosted(SelfHostedServer {
            transport: Some(Transport::StreamableHttp(transport)),
            ..SelfHostedServer::default()
        }));
        entry.conditions.push(failed);
    }
    let page = browser.get("/install/time").await;
    assert!(
        page.has("It is not working.") && page.has("an admin must repair it. It exited at once."),
        "{}",
        page.body
    );
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
        assert!(answer.has("Not found"));
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
