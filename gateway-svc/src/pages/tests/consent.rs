//! Whether stored secrets may go where they would go now.

use super::*;

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

/// What runs has changed: the differences are shown, escaped, and no secret is sent without consent.
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

/// Values that another person set are shown as such, until the owner sets them and consents to the rest.
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
    let lost = "incomplete:code:v1:cc#values=4:dd".to_owned();
    site.services.world().secrets.get_mut("installations/uid-1").unwrap().1 = lost;
    let page = browser.get("/install/time").await;
    assert!(
        page.has("A part of your credential is lost") && !page.has(code),
        "{}",
        page.body
    );
}
