//! Whose forms are taken.

use super::*;

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

/// A form of somebody who has not signed in, or that another site sends, is refused before any of it is read.
#[tokio::test]
async fn a_form_is_read_only_if_its_sender_may_send_it() {
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
    assert!(refused.has("The form is too large"));
}
