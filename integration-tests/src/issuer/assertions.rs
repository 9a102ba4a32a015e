//! The test issuer of identity assertions: exchanges a person's token for an ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant,
//! section 4). Keycloak accepts such assertions, and issues none.

use serde_json::json;

use super::{AUDIENCE, Answer, Asked, CLIENT, Keys, differences};

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// For whom assertions are.
#[derive(Clone, Debug)]
pub struct Target {
    /// The issuer of the authorization server that accepts them.
    pub audience: String,
    /// The client there.
    pub client: String,
    /// What its tokens are for.
    pub resource: String,
}

/// An assertion, if the request is to the letter. A person is known at the other server as `NAME-at-partner`.
pub fn grant(keys: &Keys, asked: &Asked, target: &Target) -> Answer {
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ID_JAG),
        ("subject_token_type", ACCESS_TOKEN),
        ("subject_token", ""),
        ("audience", &target.audience),
        ("resource", &target.resource),
        ("scope", ""),
    ];
    if asked.basic != Some((CLIENT.0.to_owned(), CLIENT.1.to_owned())) {
        return Err(("invalid_client", "who are you?".to_owned()));
    }
    match differences(&asked.form, &expected).as_str() {
        "" => {}
        wrong => return Err(("invalid_request", format!("wrong or unexpected: {wrong}"))),
    }
    let person = keys.verified(&asked.form["subject_token"], AUDIENCE);
    let person = person.ok_or_else(|| ("invalid_grant", "the subject token is not valid".to_owned()))?;
    let name = person["sub"].as_str().unwrap_or_default();
    if name == "bob" {
        return Err(("access_denied", "Bob may not use this application.".to_owned()));
    }
    let claims = json!({
        "sub": format!("{name}-at-partner"), "aud": target.audience, "client_id": target.client, "resource": target.resource,
        "scope": asked.form["scope"],
    });
    let assertion = keys.sign("oauth-id-jag+jwt", &claims);
    Ok(json!({"access_token": assertion, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 240}))
}
