//! Bob opens the link of a call that failed, in Chromium: he installs, signs in at the authorization server, and sees his account when he is
//! back. His next call works. He disconnects, and connects another account.
//!
//! Tools: node, chromium

use integration_tests::{
    Caller, Stack,
    oauth::OAuthJourney,
    script::{node_command, run},
    tools::Tool,
};
use serde_json::{Value, json};

/// What the page says after Bob has done this.
async fn browse(journey: &OAuthJourney, action: &str, account: &str) -> Value {
    let mut command = node_command("connect_page.mjs");
    command.args([&journey.stack.url("/install/mail?gateway=team"), action]);
    command
        .env("CHROMIUM", Tool::Chromium.path())
        .envs([("LOGIN", "bob"), ("ACCOUNT", account)])
        .env("CODE", code(&journey.stack));
    let seen = run(command).await.json();
    assert!(seen["failure"].is_null(), "{}\n{}", seen["failure"], seen["html"]);
    assert_eq!(seen["violations"], json!([]));
    seen
}

/// With which people sign in at the development issuer.
fn code(stack: &Stack) -> String {
    let lines = stack.lines().all();
    let line = lines.iter().find(|line| line.contains("with the code"));
    let line = line.expect("the banner names it").trim();
    line.rsplit(' ').next().expect("the last word").to_owned()
}

fn detail(seen: &Value, term: &str) -> String {
    let details = seen["details"].as_array().expect("a list");
    let found = details.iter().find(|detail| detail[0] == term);
    let found = found.unwrap_or_else(|| panic!("{term}: {seen}"));
    found[1].as_str().unwrap_or_default().to_owned()
}

/// His call, until the tools of the account that he has connected are known.
async fn works(journey: &OAuthJourney, bob: &Caller) {
    let request = contracts::registry::ListInstallationsRequest {
        entry: "entries/mail".to_owned(),
        user: "users/me".to_owned(),
        ..Default::default()
    };
    let mine = bob.installations().list_installations(request).await;
    let mine = mine.expect("they are his").into_inner().installations;
    bob.until_ready(&mine[0].name).await;
    journey.assign().await;
    journey.works(bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bob_connects_an_account_and_another() {
    let journey = OAuthJourney::with_sign_in().await;
    journey.server.set(json!({"account": "?"})).await;
    let bob = journey.stack.member("bob");

    let seen = browse(&journey, "connect", "bob-at-mail").await;
    assert_eq!(detail(&seen, "Account"), "bob-at-mail@tool.example");
    assert_eq!(detail(&seen, "Authorization server"), journey.server.issuer());
    assert!(detail(&seen, "Scopes").contains("read"), "{seen}");
    let expires = detail(&seen, "Token expires");
    assert!(expires.contains(" UTC; it is renewed before that"), "{expires}");
    assert_eq!(seen["buttons"], json!(["Connect again", "Disconnect"]));
    assert!(
        seen["url"]
            .as_str()
            .is_some_and(|url| url.contains("/install/mail/progress/")),
        "{}",
        seen["url"]
    );
    let server = journey.server.issuer().trim_start_matches("http://");
    assert!(
        seen["hosts"]
            .as_array()
            .is_some_and(|hosts| hosts.contains(&json!(server))),
        "{}",
        seen["hosts"]
    );
    works(&journey, &bob).await;
    for token in journey.upstream.tokens() {
        assert!(!seen["html"].to_string().contains(&token), "a token is on the page");
    }

    let seen = browse(&journey, "disconnect", "").await;
    assert!(seen["text"].to_string().contains("No account is connected."), "{seen}");
    assert_eq!(seen["buttons"], json!(["Connect"]));
    let answer = journey.call(&bob).await;
    let error = &answer["result"]["structuredContent"]["error"];
    assert_eq!(error, "credential_required", "{answer}");

    let seen = browse(&journey, "connect", "bob-elsewhere").await;
    assert_eq!(detail(&seen, "Account"), "bob-elsewhere@tool.example");
    journey.works(&bob).await;
    assert_eq!(journey.upstream.callers(), ["bob-at-mail", "bob-elsewhere"]);
    journey.keeps_out_of_the_log(&[]);
}
