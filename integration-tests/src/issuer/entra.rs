//! The stand-in for Entra: the on-behalf-of flow of Microsoft's identity platform, as its documentation describes the request.

use serde_json::json;

use super::{AUDIENCE, Answer, Asked, CLIENT, Keys, differences};

/// The only scope that it grants.
pub const SCOPE: &str = "api://tool/.default";
/// For whom it issues tokens.
pub const TOOL: &str = "api://tool";
/// A person for whom it demands a second factor.
pub const WITHOUT_SECOND_FACTOR: &str = "carol";

/// A token for the tool, if the request is to the letter: no parameter but these, and the client in the form.
pub fn grant(keys: &Keys, asked: &Asked) -> Answer {
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("client_id", CLIENT.0),
        ("client_secret", CLIENT.1),
        ("assertion", ""),
        ("scope", SCOPE),
        ("requested_token_use", "on_behalf_of"),
    ];
    if asked.form.get("client_secret").is_some_and(|secret| secret != CLIENT.1) {
        return Err((
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided.".to_owned(),
        ));
    }
    match differences(&asked.form, &expected).as_str() {
        "" if asked.basic.is_none() => {}
        wrong => return Err(("invalid_request", format!("AADSTS900144: wrong or unexpected: {wrong}"))),
    }
    let person = keys.verified(&asked.form["assertion"], AUDIENCE);
    let person = person.ok_or_else(|| {
        let text = "AADSTS500131: Assertion audience does not match the Client app presenting the assertion.";
        ("invalid_grant", text.to_owned())
    })?;
    let name = person["sub"].as_str().unwrap_or_default();
    if name == WITHOUT_SECOND_FACTOR {
        let text = "AADSTS50076: You must use multi-factor authentication to access 'tool'.";
        return Err(("interaction_required", text.to_owned()));
    }
    let token = keys.access_token(name, TOOL);
    Ok(
        json!({"token_type": "Bearer", "scope": "api://tool/read", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token}),
    )
}
