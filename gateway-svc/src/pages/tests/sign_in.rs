//! Signing in and out.

use super::*;

#[tokio::test]
async fn an_answer_to_another_request_signs_nobody_in() {
    let site = site().await;
    for change in [
        json!({ "nonce": "another" }),
        json!({ "aud": "another" }),
        json!({ "aud": [browser::CLIENT_ID], "azp": "another" }),
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
        // Between a token's header and its payload. The sealed text has no dots, but may have `eyJ`.
        assert!(!cookie.contains(".eyJ"), "no token in clear");
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
