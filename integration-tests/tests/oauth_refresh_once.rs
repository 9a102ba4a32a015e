//! Access tokens expire: they are refreshed before that, once however many people call, and the account stays connected through a restart, a
//! kill and an authorization server that is away. Where it is lost for good, the caller gets a link, and connecting again repairs it.
//!
//! Tools: node

use std::time::Duration;

use futures::future::join_all;
use integration_tests::{Caller, eventually, eventually_within, oauth::OAuthJourney};
use serde_json::{Value, json};

/// Alice's account is connected; her access tokens are valid for so many seconds. With her, and her installation's name.
async fn connected(ttl: u64) -> (OAuthJourney, Caller, String) {
    let journey = OAuthJourney::with_sign_in().await;
    journey.server.set(json!({"ttl": ttl})).await;
    let alice = journey.stack.member("alice");
    let installation = journey.install(&alice, "alice").await.name;
    journey.assign().await;
    (journey, alice, installation)
}

async fn refreshes(journey: &OAuthJourney) -> usize {
    journey.server.granted("refresh_token").await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_refresh_once() {
    let (journey, alice, _) = connected(3600).await;
    journey.works(&alice).await;
    // The server accepts the token no longer, which all calls learn at the same moment.
    journey.server.set(json!({"delay": 300})).await;
    let clients = join_all((0..50).map(|_| journey.stack.mcp("team", &alice))).await;
    journey.upstream.refuse_known_tokens();
    let answers = join_all(
        clients
            .iter()
            .map(|client| client.call("mail__echo", json!({"text": "x"}))),
    )
    .await;
    for answer in answers {
        assert_eq!(answer["result"]["content"][0]["text"], "x", "{answer}");
    }
    assert_eq!(refreshes(&journey).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refreshed_before_it_expires_and_survives_a_kill() {
    let (mut journey, alice, _) = connected(12).await;
    // Calls go on for longer than three tokens live, and none of them fails.
    eventually_refreshed_and_used(&journey, &alice, 3).await;
    journey.stack.kill().await;
    journey.stack.start_again().await;
    let alice = journey.stack.member("alice");
    journey.works(&alice).await;
    let seen = journey.server.seen().await;
    let refused = seen["token"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["ok"] == json!(false))
        .count();
    assert_eq!(refused, 0, "no refresh token was used twice: {seen}");
}

/// Until a call had the newest token, which is therefore stored, and is new: none is asked for soon. The count is read first: the call before it may
/// have begun a refresh in the background, whose token is issued, and not yet stored, when the count is right.
async fn eventually_refreshed_and_used(journey: &OAuthJourney, alice: &Caller, times: usize) {
    // One session: how many a person may begin is limited.
    let client = journey.stack.mcp("team", alice).await;
    eventually_within(Duration::from_secs(60), "the token is refreshed", || async {
        assert_eq!(client.call_text("mail__echo", json!({"text": "x"})).await, "x");
        let is_enough = refreshes(journey).await >= times;
        let is_used = journey.upstream.tokens().last() == Some(&journey.server.newest_token().await);
        (is_enough && is_used).then_some(())
    })
    .await;
}

/// The program is killed while it waits for a token: the next one waits for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_refresh_keeps_nobody_waiting() {
    let (mut journey, alice, _) = connected(3600).await;
    journey.works(&alice).await;
    journey.server.set(json!({"delay": 600_000})).await;
    asks_for_another_token(&journey, &alice, |seen| seen["waiting"] == json!(1)).await;
    journey.stack.kill().await;
    journey.server.set(json!({"delay": 0})).await;
    journey.stack.start_again().await;
    let alice = journey.stack.member("alice");
    journey.works(&alice).await;
}

/// The program is killed after the server has issued a token and before it got it: the refresh token is spent, and the one after it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_a_token_arrives_leads_to_the_link() {
    let (mut journey, alice, installation) = connected(3600).await;
    journey.works(&alice).await;
    journey.server.set(json!({"lag": 600_000})).await;
    asks_for_another_token(&journey, &alice, has_issued_another).await;
    journey.stack.kill().await;
    journey.server.set(json!({"lag": 0})).await;
    journey.stack.start_again().await;
    let alice = journey.stack.member("alice");
    is_lost(&journey, &alice, &installation, "invalid_grant").await;
    journey.connect(&alice, &installation, "alice").await;
    journey.works(&alice).await;
}

/// The program is stopped while the server takes longer for its answer than anything else that a stop waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_token_that_is_issued_only_once() {
    let (mut journey, alice, _) = connected(3600).await;
    journey.works(&alice).await;
    journey.server.set(json!({"lag": 9_500})).await;
    asks_for_another_token(&journey, &alice, has_issued_another).await;
    journey.stack.stop().await;
    journey.server.set(json!({"lag": 0})).await;
    journey.stack.start_again().await;
    let alice = journey.stack.member("alice");
    journey.works(&alice).await;
    assert_eq!(refreshes(&journey).await, 1, "what was on its way is in use");
}

fn has_issued_another(seen: &Value) -> bool {
    let issued = seen["token"].as_array().expect("a list").last().expect("a sign-in");
    issued["grant_type"] == json!("refresh_token")
}

/// The upstream refuses the token. Returns when the authorization server has seen that another is asked for.
async fn asks_for_another_token(journey: &OAuthJourney, alice: &Caller, has_seen: impl Fn(&Value) -> bool) {
    journey.upstream.refuse_known_tokens();
    let client = journey.stack.mcp("team", alice).await;
    let call = tokio::spawn(async move { client.call("mail__echo", json!({"text": "x"})).await });
    eventually("another token is asked for", || async {
        has_seen(&journey.server.seen().await).then_some(())
    })
    .await;
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_marks_nothing() {
    let (journey, alice, installation) = connected(3600).await;
    journey.works(&alice).await;
    journey.server.set(json!({"fault": {"status": 503}})).await;
    journey.upstream.refuse_known_tokens();
    let answer = journey.call(&alice).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let connection = alice
        .credential(&installation)
        .await
        .connection
        .expect("it is connected");
    assert_eq!(connection.failure, "", "a fault that passes marks nothing");
    alice.until_ready(&installation).await;
    journey.server.set(json!({"fault": null})).await;
    eventually("calls succeed again", || async {
        let answer = journey.call(&alice).await;
        (answer["result"]["isError"] != true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_lost_is_connected_again_from_the_link() {
    let (journey, alice, installation) = connected(3600).await;
    journey.works(&alice).await;
    let gone = json!({"error": "invalid_grant", "error_description": "The account was closed."});
    journey
        .server
        .set(json!({"fault": {"status": 400, "body": gone}}))
        .await;
    journey.upstream.refuse_known_tokens();
    is_lost(&journey, &alice, &installation, "The account was closed.").await;

    journey.server.set(json!({"fault": null})).await;
    journey.connect(&alice, &installation, "alice").await;
    journey.works(&alice).await;
}

/// The caller gets the link, and the owner of the installation sees the reason.
async fn is_lost(journey: &OAuthJourney, alice: &Caller, installation: &str, why: &str) {
    let answer = journey.call(alice).await;
    let said = &answer["result"]["structuredContent"];
    assert_eq!(said["error"], "credential_expired", "{answer}");
    assert_eq!(
        said["install_url"],
        json!(journey.stack.url("/install/mail?gateway=team")),
        "{answer}"
    );
    let connection = alice.credential(installation).await.connection.expect("it says why");
    assert!(connection.failure.contains(why), "{connection:?}");
    let shown = eventually("the owner sees it", || async {
        let installation = alice.installation(installation).await.expect("its owner may");
        let condition = installation
            .conditions
            .into_iter()
            .find(|condition| condition.reason == "REAUTHENTICATION_REQUIRED")?;
        Some(condition)
    })
    .await;
    assert!(shown.message.contains(why), "{shown:?}");
}
