//! People call with the token of their organization's identity provider, Keycloak, which exchanges it for a token that the server accepts: one
//! for each person, and nobody connects anything.
//!
//! Tools: keycloak

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel, token_exchange_credential::Flow};
use futures::future::join_all;
use integration_tests::{
    Stack,
    caller::reason,
    keycloak::{EXCHANGER, Keycloak, claims},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;
use tonic::Code;

struct Journey {
    keycloak: Keycloak,
    stack: Stack,
    upstream: RecordingUpstream,
}

impl Journey {
    async fn start() -> Self {
        let keycloak = Keycloak::start().await;
        let stack = Stack::builder().issuers(&keycloak.issuers()).start().await;
        Self {
            keycloak,
            stack,
            upstream: RecordingUpstream::start().await,
        }
    }

    /// An entry whose tokens are for `audience`, installed by a team that everybody belongs to.
    async fn publish(&self, id: &str, audience: &str, secret: &str) {
        let admin = self.stack.admin();
        let model = r::TokenExchangeCredential {
            authorization_server: Some(walk::issuer(self.keycloak.issuer())),
            client: Some(r::OAuthClient {
                client_id: EXCHANGER.0.to_owned(),
                secret_field: "secret".to_owned(),
                authentication: ClientAuthentication::ClientSecretBasic.into(),
                ..r::OAuthClient::default()
            }),
            flow: Some(Flow::Exchange(r::TokenExchangeFlow {
                audience: audience.to_owned(),
                ..r::TokenExchangeFlow::default()
            })),
            ..r::TokenExchangeCredential::default()
        };
        let entry = r::Entry {
            credential_model: Some(CredentialModel::TokenExchange(model)),
            install_fields: vec![walk::stored_secret("secret")],
            ..walk::remote(&self.upstream.url())
        };
        admin.publish(id, entry).await;
        admin
            .put_entry_secrets(id, &[("secret", secret)])
            .await
            .expect("an admin may");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_person_gets_a_token_of_their_own() {
    let journey = Journey::start().await;
    let stack = &journey.stack;
    stack.admin().gateway("team").await;
    journey.publish("tool", "tool", EXCHANGER.1).await;
    journey.publish("broken", "tool", "not-the-secret").await;
    let mut people = Vec::new();
    for name in ["alice", "bob"] {
        let token = journey.keycloak.token(name).await;
        let person = stack.caller(Some(token));
        person.install_and_discover("tool").await;
        people.push(person);
    }
    stack.admin().assign("team", "tool", "echo").await;
    let arguments = json!({"text": "x"});
    for (name, person) in ["alice", "bob"].iter().zip(&people) {
        let client = stack.mcp("team", person).await;
        assert_eq!(client.call_text("tool__echo", arguments.clone()).await, "x");
        let call = journey.upstream.last_call();
        let sent = call.values("authorization")[0]
            .strip_prefix("Bearer ")
            .expect("a bearer token")
            .to_owned();
        assert_ne!(sent, person.token(), "the caller's own token stays here");
        let claims = claims(&sent);
        assert_eq!(
            (&claims["preferred_username"], &claims["aud"]),
            (&json!(name), &json!("tool")),
            "{claims}"
        );
        let lines = stack.lines().all().join("\n");
        assert!(
            !lines.contains(&sent) && !lines.contains(EXCHANGER.1),
            "a secret is in the log"
        );
    }

    // One token serves all calls of a person.
    let client = stack.mcp("team", &people[0]).await;
    journey.upstream.forget();
    join_all((0..20).map(|_| client.call_text("tool__echo", arguments.clone()))).await;
    let sent: std::collections::HashSet<_> = journey
        .upstream
        .calls()
        .iter()
        .map(|call| call.values("authorization").join(""))
        .collect();
    assert_eq!(sent.len(), 1);

    // The client's secret is wrong: an admin's matter, not the caller's.
    let failed = people[0].install_and_be_refused("broken").await;
    assert!(
        failed.message().contains("admin") && !failed.message().contains("not-the-secret"),
        "{failed:?}"
    );

    // A caller with a token of the development issuer has none that Keycloak exchanges, or gets.
    let stranger = stack.member("carol");
    let status = stranger.install_and_be_refused("tool").await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "CALLER_TOKEN_REQUIRED"),
        "{status:?}"
    );
}
