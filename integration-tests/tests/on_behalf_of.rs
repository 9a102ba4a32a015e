//! People call with tokens of Entra, which gives tokens for the server on their behalf. The stand-in for Entra is of this crate, and takes
//! requests to the letter only.

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel, token_exchange_credential::Flow};
use integration_tests::{
    Stack,
    caller::reason,
    issuer::{
        Bound, CLIENT, Issuer,
        entra::{self, SCOPE, TOOL, WITHOUT_SECOND_FACTOR},
    },
    keycloak::claims,
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;
use tonic::Code;

fn entry(issuer: &Issuer, upstream: &RecordingUpstream) -> r::Entry {
    let model = r::TokenExchangeCredential {
        authorization_server: Some(walk::issuer(issuer.issuer())),
        client: Some(r::OAuthClient {
            client_id: CLIENT.0.to_owned(),
            secret_field: "secret".to_owned(),
            authentication: ClientAuthentication::ClientSecretPost.into(),
            ..r::OAuthClient::default()
        }),
        scopes: vec![SCOPE.to_owned()],
        flow: Some(Flow::OnBehalfOf(r::OnBehalfOfFlow {})),
        ..r::TokenExchangeCredential::default()
    };
    r::Entry {
        credential_model: Some(CredentialModel::TokenExchange(model)),
        install_fields: vec![walk::stored_secret("secret")],
        ..walk::remote(&upstream.url())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_person_calls_with_a_token_on_their_behalf() {
    let issuer = Issuer::start(Bound::new().await, Box::new(entra::grant));
    let stack = Stack::builder().issuers(&issuer.issuers()).start().await;
    let (admin, upstream) = (stack.admin(), RecordingUpstream::start().await);
    admin.gateway("team").await;
    for (id, secret) in [("tool", CLIENT.1), ("broken", "not-the-secret")] {
        admin.publish(id, entry(&issuer, &upstream)).await;
        admin
            .put_entry_secrets(id, &[("secret", secret)])
            .await
            .expect("an admin may");
    }
    let people: Vec<_> = ["alice", "bob"]
        .into_iter()
        .map(|name| (name, stack.caller(Some(issuer.token(name)))))
        .collect();
    for (_, person) in &people {
        person.install_and_discover("tool").await;
    }
    admin.assign("team", "tool", "echo").await;
    let mut sent = Vec::new();
    for (name, person) in &people {
        let client = stack.mcp("team", person).await;
        assert_eq!(client.call_text("tool__echo", json!({"text": "x"})).await, "x");
        let call = upstream.last_call();
        let token = call.values("authorization").join("");
        let token = token.strip_prefix("Bearer ").expect("a bearer token").to_owned();
        let said = claims(&token);
        assert_eq!((&said["sub"], &said["aud"]), (&json!(name), &json!(TOOL)), "{said}");
        sent.push(token);
    }
    assert_eq!(issuer.asked().len(), 2, "one token serves all calls of a person");

    // Who must sign in again with a second factor is told so; that the client's secret is wrong is an admin's matter.
    let carol = stack.caller(Some(issuer.token(WITHOUT_SECOND_FACTOR)));
    let status = carol.install_and_be_refused("tool").await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "CALLER_TOKEN_REFUSED"),
        "{status:?}"
    );
    let failed = people[0].1.install_and_be_refused("broken").await;
    assert!(failed.message().contains("admin"), "{failed:?}");

    let lines = stack.lines().all().join("\n");
    sent.extend(people.iter().map(|(_, person)| person.token().to_owned()));
    for secret in sent.iter().map(String::as_str).chain([CLIENT.1, "not-the-secret"]) {
        assert!(!lines.contains(secret), "a secret is in the log");
    }
}
