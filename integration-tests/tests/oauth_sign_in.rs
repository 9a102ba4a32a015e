//! Bob connects his account at a server that requires OAuth 2.1: he is sent to its authorization server, comes back, and his calls carry his
//! token. Nothing is configured on the entry: the server names its authorization server, where Chandlery registers itself.
//!
//! Tools: node

use integration_tests::{
    caller::{help_links, refused},
    oauth::OAuthJourney,
};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn each_person_calls_with_their_own_account() {
    let journey = OAuthJourney::with_sign_in().await;
    let (alice, bob) = (journey.stack.member("alice"), journey.stack.member("bob"));
    let installed = journey.install(&alice, "alice-at-mail").await;
    journey.assign().await;

    // Bob's call says what is missing, and where he connects.
    let answer = journey.call(&bob).await;
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "credential_required",
        "{answer}"
    );
    journey.install(&bob, "bob-at-mail").await;
    journey.works(&alice).await;
    journey.works(&bob).await;
    assert_eq!(journey.upstream.callers(), ["alice-at-mail", "bob-at-mail"]);

    let connection = alice
        .credential(&installed.name)
        .await
        .connection
        .expect("an account is connected");
    assert_eq!(connection.account, "alice-at-mail@tool.example");
    assert_eq!(connection.issuer, journey.server.issuer());
    assert_eq!(connection.resource, journey.upstream.url());
    assert!(connection.scopes.contains(&"read".to_owned()), "{connection:?}");
    assert!(
        connection.refreshable && connection.expire_time.is_some(),
        "{connection:?}"
    );
    let seen = journey.server.seen().await;
    assert_eq!(seen["registrations"], 1, "one client for the entry: {seen}");
    for asked in seen["authorizations"].as_array().expect("a list") {
        assert_eq!(asked["code_challenge_method"], "S256", "{asked}");
        assert_eq!(asked["resource"], journey.upstream.url(), "{asked}");
    }
    journey.keeps_out_of_the_log(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_finished_once_and_by_the_person_who_started_it() {
    let journey = OAuthJourney::with_sign_in().await;
    let (alice, mallory) = (journey.stack.member("alice"), journey.stack.member("mallory"));
    let installation = alice
        .create_installation("mail", None, &[])
        .await
        .expect("a member may");
    let redirected = journey.redirected(&alice, &installation.name).await;

    let invalid = "AUTHORIZATION_STATE_INVALID";
    refused(
        mallory.finish_authorization(&redirected).await,
        Code::FailedPrecondition,
        invalid,
    );
    let foreign = redirected.replace("iss=http%3A%2F%2F127.0.0.1", "iss=http%3A%2F%2F127.0.0.2");
    assert_ne!(foreign, redirected);
    let mixed_up = alice.finish_authorization(&foreign).await;
    refused(mixed_up, Code::FailedPrecondition, invalid);

    let redirected = journey.redirected(&alice, &installation.name).await;
    let done = alice.finish_authorization(&redirected).await.expect("it is finished");
    assert!(done.connection.is_some(), "{done:?}");
    refused(
        alice.finish_authorization(&redirected).await,
        Code::FailedPrecondition,
        invalid,
    );
    let still = alice.credential(&installation.name).await;
    assert!(still.connection.is_some_and(|connection| connection.failure.is_empty()));

    journey.server.set(json!({"account": null})).await;
    let redirected = journey.redirected(&alice, &installation.name).await;
    let denied = alice.finish_authorization(&redirected).await;
    refused(denied, Code::FailedPrecondition, "AUTHORIZATION_DENIED");
    let still = alice.credential(&installation.name).await;
    assert!(
        still.connection.is_some(),
        "a refusal leaves the account that is connected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_scopes_are_asked_for_when_the_server_demands_them() {
    let journey = OAuthJourney::with_sign_in().await;
    let alice = journey.stack.member("alice");
    let installed = journey.install(&alice, "alice").await;
    journey.assign().await;
    journey.upstream.require_scope("echo", "write");

    let request = contracts::gateway::CallToolRequest {
        parent: "gateways/team".to_owned(),
        exposed_name: "mail__echo".to_owned(),
        arguments_json: r#"{"text":"x"}"#.to_owned(),
    };
    let status = refused(
        alice.tools().call_tool(request).await,
        Code::FailedPrecondition,
        "SCOPE_REQUIRED",
    );
    assert!(status.message().contains("write"), "{status:?}");
    assert_eq!(help_links(&status), [journey.stack.url("/install/mail?gateway=team")]);

    let connected = journey.connect(&alice, &installed.name, "alice").await;
    let seen = journey.server.seen().await;
    let asked = seen["authorizations"]
        .as_array()
        .and_then(|all| all.last()?["scope"].as_str());
    let asked: Vec<_> = asked.expect("scopes are asked for").split(' ').collect();
    assert!(asked.contains(&"read") && asked.contains(&"write"), "{asked:?}");
    let connection = connected.connection.expect("an account is connected");
    assert!(connection.scopes.contains(&"write".to_owned()), "{connection:?}");
    journey.works(&alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_revoked_when_the_account_is_disconnected() {
    let journey = OAuthJourney::with_sign_in().await;
    let alice = journey.stack.member("alice");
    let installed = journey.install(&alice, "alice").await;
    journey.assign().await;
    journey.call(&alice).await;
    let request = contracts::credential::DeleteInstallationCredentialRequest {
        installation: installed.name.clone(),
    };
    let deleted = alice.credentials().delete_installation_credential(request).await;
    assert!(deleted.expect("its owner may").into_inner().connection.is_none());
    let seen = journey.server.seen().await;
    assert!(seen["revocations"].as_u64() > Some(0), "{seen}");
    let answer = journey.call(&alice).await;
    assert_eq!(
        answer["result"]["structuredContent"]["error"], "credential_required",
        "{answer}"
    );
}
