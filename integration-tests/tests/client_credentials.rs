//! A team's installation calls with one token for machines, which Chandlery requests with the client's secret or key, shares among the team,
//! and requests again when the server no longer accepts it.
//!
//! Tools: node

use contracts::registry::{self as r, ClientAuthentication, entry::CredentialModel};
use data_encoding::BASE64URL_NOPAD;
use integration_tests::{authorization_server::MACHINE_SECRET, eventually, oauth::OAuthJourney, walk};
use serde_json::{Value, json};

/// With an entry whose client authenticates in this way, installed by the team `sales`.
async fn installed(
    client: &str,
    authentication: ClientAuthentication,
    secret: &str,
    environment: &[(&str, &str)],
) -> OAuthJourney {
    let journey = OAuthJourney::start(environment).await;
    let (admin, ann) = (journey.stack.admin(), journey.stack.member_of("ann", &["sales"]));
    let model = r::ClientCredentialsCredential {
        authorization_server: Some(walk::issuer(journey.server.issuer())),
        client: Some(r::OAuthClient {
            client_id: client.to_owned(),
            secret_field: "secret".to_owned(),
            authentication: authentication.into(),
            ..r::OAuthClient::default()
        }),
        scopes: vec!["read".to_owned()],
        resource: journey.upstream.url().to_owned(),
        ..r::ClientCredentialsCredential::default()
    };
    let model = CredentialModel::ClientCredentials(model);
    journey.publish(model, vec![walk::stored_secret("secret")]).await;
    let stored = admin.put_entry_secrets("mail", &[("secret", secret)]).await;
    stored.expect("an admin may");
    let issuer = ann.me().await.issuer;
    admin.team("sales", vec![walk::group(&issuer, "sales")]).await;
    ann.install("mail", Some("teams/sales"), &[]).await;
    journey.assign().await;
    journey
}

/// The response to a call of a member of the team.
async fn call(journey: &OAuthJourney, name: &str) -> Value {
    journey.call(&journey.stack.member_of(name, &["sales"])).await
}

async fn works_for(journey: &OAuthJourney, names: &[&str]) {
    for name in names {
        journey.works(&journey.stack.member_of(name, &["sales"])).await;
    }
}

/// With a client secret by Basic authentication.
async fn installed_with_basic() -> OAuthJourney {
    installed(
        "machine-basic",
        ClientAuthentication::ClientSecretBasic,
        MACHINE_SECRET,
        &[],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_team_shares_one_token() {
    let journey = installed_with_basic().await;
    works_for(&journey, &["ann", "ben", "ann"]).await;
    assert_eq!(journey.upstream.callers(), ["machine-basic"; 3]);
    assert_eq!(journey.server.granted("client_credentials").await, 1);

    // The server forgets the token: the next call gets another one, and does not fail.
    journey.upstream.refuse_known_tokens();
    works_for(&journey, &["ben"]).await;
    assert_eq!(journey.server.granted("client_credentials").await, 2);
    journey.keeps_out_of_the_log(&[MACHINE_SECRET]);
}

/// With a token that no other has replaced: what replaces a rejected one is itself not replaced for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_serves_while_the_authorization_server_is_away() {
    let journey = installed_with_basic().await;
    works_for(&journey, &["ann"]).await;
    journey.server.set(json!({"fault": {"status": 503}})).await;
    works_for(&journey, &["ann"]).await;
    journey.upstream.refuse_known_tokens();
    let answer = call(&journey, "ann").await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    journey.server.set(json!({"fault": null})).await;
    eventually("calls succeed again", || async {
        let answer = call(&journey, "ann").await;
        (answer["result"]["isError"] != true).then_some(())
    })
    .await;
    journey.keeps_out_of_the_log(&[MACHINE_SECRET]);
}

/// The caller is told to follow the link, and an admin, who can put it right, finds the reason there.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_learns_why_there_is_no_token() {
    let journey = installed_with_basic().await;
    works_for(&journey, &["ann"]).await;
    let admin = journey.stack.admin();
    let request = r::ListInstallationsRequest {
        entry: "entries/mail".to_owned(),
        ..r::ListInstallationsRequest::default()
    };
    let all = admin.installations().list_installations(request).await;
    let installation = all.expect("an admin may").into_inner().installations.remove(0).name;
    let store = async |secret: &str| {
        let stored = admin.put_entry_secrets("mail", &[("secret", secret)]).await;
        stored.expect("an admin may");
    };
    store("another-secret").await;
    let answer = call(&journey, "ann").await;
    let said = &answer["result"]["structuredContent"];
    assert_eq!(said["error"], "credential_expired", "{answer}");
    let connection = admin
        .credential(&installation)
        .await
        .connection
        .expect("a token was issued");
    assert!(connection.refusal.contains("invalid_client"), "{connection:?}");
    assert!(!connection.refusal.contains("another-secret"), "{connection:?}");

    store(MACHINE_SECRET).await;
    eventually("calls succeed again", || async {
        let answer = call(&journey, "ann").await;
        (answer["result"]["isError"] != true).then_some(())
    })
    .await;
    let connection = admin
        .credential(&installation)
        .await
        .connection
        .expect("a token was issued");
    assert_eq!(connection.refusal, "");
    journey.keeps_out_of_the_log(&[MACHINE_SECRET, "another-secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_goes_in_the_body() {
    let journey = installed(
        "machine-post",
        ClientAuthentication::ClientSecretPost,
        MACHINE_SECRET,
        &[],
    )
    .await;
    works_for(&journey, &["ann"]).await;
    assert_eq!(journey.upstream.callers(), ["machine-post"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_in_place_of_a_secret() {
    let (key, jwks) = key();
    let environment = [("MACHINE_JWKS", jwks.as_str())];
    let journey = installed("machine-jwt", ClientAuthentication::PrivateKeyJwt, &key, &environment).await;
    works_for(&journey, &["ann"]).await;
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
