//! A team's installation calls with one token for machines, which Chandlery requests with the client's secret or key, shares among the team,
//! and requests again when the server no longer accepts it.
//!
//! Tools: node

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel};
use data_encoding::BASE64URL_NOPAD;
use integration_tests::{
    Stack,
    authorization_server::{AuthorizationServer, MACHINE_SECRET},
    eventually,
    upstream::protected::ProtectedUpstream,
    walk,
};
use serde_json::{Value, json};

struct Journey {
    stack: Stack,
    upstream: ProtectedUpstream,
    server: AuthorizationServer,
}

impl Journey {
    /// With an entry `crm`, whose client authenticates in this way, installed by the team `sales`.
    async fn start(
        client: &str,
        authentication: ClientAuthentication,
        secret: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let (listener, resource) = ProtectedUpstream::bind().await;
        let server = AuthorizationServer::start(&resource, environment).await;
        let upstream = ProtectedUpstream::start(listener, &resource, server.issuer()).await;
        let stack = Stack::start().await;
        let (admin, ann) = (stack.admin(), stack.member_of("ann", &["sales"]));
        let model = r::ClientCredentialsCredential {
            authorization_server: Some(walk::issuer(server.issuer())),
            client: Some(r::OAuthClient {
                client_id: client.to_owned(),
                secret_field: "secret".to_owned(),
                authentication: authentication.into(),
                ..r::OAuthClient::default()
            }),
            scopes: vec!["read".to_owned()],
            resource,
            ..r::ClientCredentialsCredential::default()
        };
        let entry = r::Entry {
            credential_model: Some(CredentialModel::ClientCredentials(model)),
            install_fields: vec![walk::stored_secret("secret")],
            ..walk::remote(upstream.url())
        };
        admin.publish("crm", entry).await;
        admin
            .put_entry_secrets("crm", &[("secret", secret)])
            .await
            .expect("an admin may");
        let issuer = ann.me().await.issuer;
        admin.team("sales", vec![walk::group(&issuer, "sales")]).await;
        ann.install("crm", Some("teams/sales"), &[]).await;
        admin.gateway("team").await;
        admin.assign("team", "crm", "echo").await;
        Self {
            stack,
            upstream,
            server,
        }
    }

    async fn call(&self, name: &str) -> Value {
        let person = self.stack.member_of(name, &["sales"]);
        let client = self.stack.mcp("team", &person).await;
        client.call("crm__echo", json!({"text": "x"})).await
    }

    async fn works_for(&self, names: &[&str]) {
        for name in names {
            let answer = self.call(name).await;
            assert_eq!(answer["result"]["content"][0]["text"], "x", "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_team_shares_one_token() {
    let journey = Journey::start(
        "machine-basic",
        ClientAuthentication::ClientSecretBasic,
        MACHINE_SECRET,
        &[],
    )
    .await;
    journey.works_for(&["ann", "ben", "ann"]).await;
    assert_eq!(journey.upstream.callers(), ["machine-basic"; 3]);
    assert_eq!(journey.server.granted("client_credentials").await, 1);

    // The server forgets the token: the next call gets another one, and does not fail.
    journey.upstream.refuse_known_tokens();
    journey.works_for(&["ben"]).await;
    assert_eq!(journey.server.granted("client_credentials").await, 2);

    // While the authorization server is away, the token that is valid serves.
    journey.server.set(json!({"fault": {"status": 503}})).await;
    journey.works_for(&["ann"]).await;
    journey.upstream.refuse_known_tokens();
    let answer = journey.call("ann").await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    journey.server.set(json!({"fault": null})).await;
    eventually("calls succeed again", || async {
        let answer = journey.call("ann").await;
        (answer["result"]["isError"] != true).then_some(())
    })
    .await;
    let lines = journey.stack.lines().all().join("\n");
    for secret in journey
        .upstream
        .tokens()
        .iter()
        .map(String::as_str)
        .chain([MACHINE_SECRET])
    {
        assert!(!lines.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_goes_in_the_body() {
    let journey = Journey::start(
        "machine-post",
        ClientAuthentication::ClientSecretPost,
        MACHINE_SECRET,
        &[],
    )
    .await;
    journey.works_for(&["ann"]).await;
    assert_eq!(journey.upstream.callers(), ["machine-post"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_in_place_of_a_secret() {
    let (key, jwks) = key();
    let environment = [("MACHINE_JWKS", jwks.as_str())];
    let journey = Journey::start("machine-jwt", ClientAuthentication::PrivateKeyJwt, &key, &environment).await;
    journey.works_for(&["ann"]).await;
    assert_eq!(journey.upstream.callers(), ["machine-jwt"]);
}

/// A new key for ES256: PKCS #8 in PEM, and a JWK set with its public part.
fn key() -> (String, String) {
    let pair = rcgen::KeyPair::generate().expect("randomness");
    let public = pair.public_key_raw();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
        "x": BASE64URL_NOPAD.encode(&public[1..33]),
        "y": BASE64URL_NOPAD.encode(&public[33..65]),
    });
    (pair.serialize_pem(), json!({"keys": [jwk]}).to_string())
}
