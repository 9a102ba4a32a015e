//! People call a server of another organization with the token of their own identity provider: it gives an identity assertion (ID-JAG), which
//! the server's authorization server, Keycloak, exchanges for a token. The identity provider is the test issuer of identity assertions,
//! since Keycloak issues none.
//!
//! Tools: keycloak

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel, token_exchange_credential::Flow};
use integration_tests::{
    Stack,
    caller::reason,
    issuer::{
        Bound, CLIENT, Issuer,
        assertions::{self, Target},
    },
    keycloak::{ASSERTER, Keycloak, claims},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;
use tonic::Code;

fn client(id: &str, secret_field: &str) -> r::OAuthClient {
    r::OAuthClient {
        client_id: id.to_owned(),
        secret_field: secret_field.to_owned(),
        authentication: ClientAuthentication::ClientSecretBasic.into(),
        ..r::OAuthClient::default()
    }
}

/// An entry with a client at both servers.
fn entry(issuer: &Issuer, keycloak: &Keycloak, upstream: &RecordingUpstream) -> r::Entry {
    let model = r::TokenExchangeCredential {
        authorization_server: Some(walk::issuer(issuer.issuer())),
        client: Some(client(CLIENT.0, "own")),
        scopes: vec!["email".to_owned()],
        flow: Some(Flow::IdentityAssertion(r::IdentityAssertionFlow {
            resource_authorization_server: Some(walk::issuer(keycloak.issuer())),
            resource_client: Some(client(ASSERTER.0, "theirs")),
            ..r::IdentityAssertionFlow::default()
        })),
        ..r::TokenExchangeCredential::default()
    };
    r::Entry {
        credential_model: Some(CredentialModel::TokenExchange(model)),
        install_fields: vec![walk::stored_secret("own"), walk::stored_secret("theirs")],
        ..walk::remote(&upstream.url())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_of_the_identity_provider_becomes_a_token_of_keycloak() {
    let bound = Bound::new().await;
    let keycloak = Keycloak::start_for(&bound.issuer()).await;
    let upstream = RecordingUpstream::start().await;
    let target = Target {
        audience: keycloak.issuer().to_owned(),
        client: ASSERTER.0.to_owned(),
        resource: upstream.url(),
    };
    let issuer = Issuer::start(
        bound,
        Box::new(move |keys, asked| assertions::grant(keys, asked, &target)),
    );
    let stack = Stack::builder().issuers(&issuer.issuers()).start().await;
    let admin = stack.admin();
    admin.gateway("team").await;
    for (id, secret) in [("tool", ASSERTER.1), ("broken", "not-the-secret")] {
        admin.publish(id, entry(&issuer, &keycloak, &upstream)).await;
        let secrets = [("own", CLIENT.1), ("theirs", secret)];
        admin.put_entry_secrets(id, &secrets).await.expect("an admin may");
    }
    let alice = stack.caller(Some(issuer.token("alice")));
    alice.install_and_discover("tool").await;
    admin.assign("team", "tool", "echo").await;

    let mcp = stack.mcp("team", &alice).await;
    for _ in 0..3 {
        assert_eq!(mcp.call_text("tool__echo", json!({"text": "x"})).await, "x");
    }
    let call = upstream.last_call();
    let sent = call.values("authorization").join("");
    let sent = sent.strip_prefix("Bearer ").expect("a bearer token");
    let said = claims(sent);
    assert_eq!(
        (&said["iss"], &said["aud"], &said["preferred_username"], &said["azp"]),
        (
            &json!(keycloak.issuer()),
            &json!("tool"),
            &json!("alice"),
            &json!(ASSERTER.0)
        ),
        "{said}"
    );
    assert_eq!(issuer.asked().len(), 1, "one token serves all calls of a person");

    // Whoever the identity provider gives no assertion for, and whoever Keycloak does not know.
    for name in ["bob", "carol"] {
        let person = stack.caller(Some(issuer.token(name)));
        let status = person.install_and_be_refused("tool").await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "CALLER_TOKEN_REFUSED"),
            "{name}: {status:?}"
        );
        assert!(status.message().contains("can give access"), "{name}: {status:?}");
    }
    let failed = alice.install_and_be_refused("broken").await;
    assert!(failed.message().contains("admin"), "{failed:?}");

    let lines = stack.lines().all().join("\n");
    for secret in [sent, alice.token(), CLIENT.1, ASSERTER.1, "not-the-secret"] {
        assert!(!lines.contains(secret), "a secret is in the log");
    }
    // Each assertion is a JWT of this type, and begins alike.
    let header = data_encoding::BASE64URL_NOPAD.encode(br#"{"typ":"oauth-id-jag+jwt""#);
    assert!(
        !lines.contains(&header[..header.len() - 2]),
        "an assertion is in the log"
    );
}
