//! The token endpoint (RFC 6749, section 3.2).

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{
    account::account,
    answer,
    client::authenticate,
    fields::{Fields, split_scopes},
    form::Form,
    http::{Answer, Http, Reach, Request, Turn},
    text::readable,
};
use crate::domain::authorization::servers::{Client, Metadata, ServerError, TokenRequest, Tokens};

/// The largest answer that is read.
pub(super) const MAX_ANSWER: usize = 64 << 10;
/// The longest token that is accepted.
const MAX_TOKEN: usize = 16 << 10;
const YEAR: f64 = 365.0 * 24.0 * 60.0 * 60.0;

pub(super) async fn turn(http: &Http, metadata: &Metadata) -> Result<Turn, ServerError> {
    http.turn(Reach::of(metadata), "the token endpoint", &metadata.token_endpoint)
        .await
}

pub(super) async fn ask(
    http: &Http,
    turn: Turn,
    metadata: &Metadata,
    client: &Client,
    request: &TokenRequest,
    now: SystemTime,
) -> Result<Tokens, ServerError> {
    let mut form = Form::default();
    for (name, value) in &request.parameters {
        form.push(name, value.clone());
    }
    let answer = post(http, turn, metadata, client, &mut form, now).await?;
    read(&answer.origin, answer::read(&answer, &form)?)
}

/// Posts a form as the client.
pub(super) async fn post(
    http: &Http,
    turn: Turn,
    metadata: &Metadata,
    client: &Client,
    form: &mut Form,
    now: SystemTime,
) -> Result<Answer, ServerError> {
    let mut headers = HeaderMap::new();
    authenticate(client, metadata, now, form, &mut headers)?;
    let mut request = Request::post(form.body(), MAX_ANSWER);
    request.headers.extend(headers);
    http.send(turn, request).await
}

fn read(origin: &str, mut fields: Fields) -> Result<Tokens, ServerError> {
    let unusable = |why: &str| ServerError::Unusable(format!("{origin} {why}"));
    let issued_token_type = fields.text("issued_token_type").unwrap_or_default().to_owned();
    let kind = fields.text("token_type").unwrap_or_default().to_ascii_lowercase();
    let is_bearer = match kind.as_str() {
        "bearer" => true,
        // RFC 8693, section 2.2.1: what is issued may be no access token.
        "n_a" => !issued_token_type.is_empty(),
        _ => false,
    };
    if !is_bearer {
        return Err(unusable("issued a token that is not a Bearer token"));
    }
    let mut token = |name: &str| {
        let Some(token) = fields.secret(name) else {
            return Ok(None);
        };
        if token.expose_secret().len() > MAX_TOKEN {
            return Err(unusable("issued a token that is longer than 16 KiB"));
        }
        // RFC 6749, appendix A.12: it is sent in a header.
        if !token.expose_secret().bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(unusable("issued a token with characters that no token has"));
        }
        Ok(Some(token))
    };
    let access: Option<SecretString> = token("access_token")?;
    let refresh = token("refresh_token")?;
    let access = access.ok_or_else(|| unusable("answered with neither a token nor an error"))?;
    let scopes = match fields.get("scope") {
        Some(Value::String(scope)) => Some(split_scopes(scope)),
        // As a few servers have it.
        Some(Value::Array(_)) => Some(fields.scopes("scope")),
        _ => None,
    };
    Ok(Tokens {
        access,
        refresh,
        expires_in: fields.get("expires_in").and_then(expires_in),
        scopes,
        account: fields.text("id_token").and_then(account),
        issued_token_type: readable(&issued_token_type, 200),
    })
}

/// A number, or a text that is one. What is neither says nothing.
fn expires_in(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| !seconds.is_nan())?;
    Some(Duration::from_secs_f64(seconds.clamp(0.0, YEAR).floor()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(change: Value) -> Result<Tokens, ServerError> {
        let mut answer = json!({"access_token": "at", "token_type": "Bearer"});
        for (name, value) in change.as_object().unwrap() {
            answer[name] = value.clone();
        }
        let fields = Fields::parse(answer.to_string().as_bytes()).unwrap();
        read("https://as.example.com", fields)
    }

    #[test]
    fn no_token_is_valid_for_ever() {
        const ONE_YEAR: u64 = 365 * 24 * 60 * 60;
        for (given, expected) in [
            (json!(3600), Some(3600)),
            (json!(3599.9), Some(3599)),
            (json!(" 3600 "), Some(3600)),
            (json!(0), Some(0)),
            (json!(-1), Some(0)),
            (json!("-1e9"), Some(0)),
            (json!(1e300), Some(ONE_YEAR)),
            (json!(u64::MAX), Some(ONE_YEAR)),
            (json!("inf"), Some(ONE_YEAR)),
            (json!("NaN"), None),
            (json!("soon"), None),
            (json!([3600]), None),
            (json!(null), None),
        ] {
            let tokens = answer(json!({ "expires_in": given })).unwrap();
            assert_eq!(tokens.expires_in.map(|valid| valid.as_secs()), expected, "{given}");
        }
        assert_eq!(answer(json!({})).unwrap().expires_in, None);
    }

    #[test]
    fn takes_bearer_tokens() {
        for change in [
            json!({"token_type": "bearer"}),
            json!({"token_type": "N_A", "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag"}),
            json!({"refresh_token": null, "scope": null, "id_token": null}),
            json!({"access_token": "x".repeat(MAX_TOKEN)}),
        ] {
            assert!(answer(change.clone()).is_ok(), "{change}");
        }
        for change in [
            json!({"token_type": "DPoP"}),
            json!({"token_type": "N_A"}),
            json!({"token_type": null}),
            json!({"access_token": ""}),
            json!({"access_token": 7}),
            json!({"access_token": "a\r\nx-evil: 1"}),
            json!({"access_token": "é"}),
            json!({"refresh_token": "a\u{0}"}),
            json!({"access_token": "x".repeat(MAX_TOKEN + 1)}),
            json!({"refresh_token": "x".repeat(MAX_TOKEN + 1)}),
        ] {
            assert!(
                matches!(answer(change.clone()), Err(ServerError::Unusable(_))),
                "{change}"
            );
        }
    }

    #[test]
    fn takes_scopes_as_they_come() {
        let scopes = |scope: Value| answer(json!({ "scope": scope })).unwrap().scopes;
        let two = Some(vec!["r".to_owned(), "w".to_owned()]);
        assert_eq!(scopes(json!(" r  w")), two);
        assert_eq!(scopes(json!(["r", "w"])), two);
        assert_eq!(scopes(json!(7)), None);
        assert_eq!(scopes(json!("")), Some(Vec::new()));
    }
}
