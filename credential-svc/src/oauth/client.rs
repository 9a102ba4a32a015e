//! How a client authenticates (RFC 6749, section 2.3; OpenID Connect Core 1.0, section 9).

use std::time::SystemTime;

use bytes::Bytes;
use data_encoding::BASE64;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::{assertion::assertion, form::Form};
use crate::domain::authorization::servers::{Authentication, Client, Metadata, ServerError};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Adds what authenticates the client to the form, or to the headers.
pub(super) fn authenticate(
    client: &Client,
    metadata: &Metadata,
    now: SystemTime,
    form: &mut Form,
    headers: &mut HeaderMap,
) -> Result<(), ServerError> {
    match &client.authentication {
        Authentication::Basic(secret) => {
            let credentials = basic(&client.id, secret);
            let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(Zeroizing::new(
                format!("Basic {}", credentials.as_str()).into_bytes(),
            )))
            .expect("Base64 is printable");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            form.note(secret.clone());
            form.note(SecretString::from(credentials.as_str()));
            return Ok(());
        }
        Authentication::None => {}
        Authentication::Post(secret) => form.push("client_secret", secret.clone()),
        Authentication::PrivateKey { key, id } => {
            // The issuer, as draft-ietf-oauth-rfc7523bis has it: no other server may use the assertion.
            let audience = match metadata.issuer.as_str() {
                "" => &metadata.token_endpoint,
                issuer => issuer,
            };
            form.push("client_assertion_type", ASSERTION_TYPE);
            form.push(
                "client_assertion",
                assertion(&client.id, audience, key, id.clone(), now)?,
            );
        }
    }
    form.push("client_id", client.id.as_str());
    Ok(())
}

/// RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
fn basic(id: &str, secret: &SecretString) -> Zeroizing<String> {
    let secret = secret.expose_secret();
    let mut joined = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    joined.extend(byte_serialize(id.as_bytes()));
    joined.push(':');
    joined.extend(byte_serialize(secret.as_bytes()));
    Zeroizing::new(BASE64.encode(joined.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_encoded_before_they_are_joined() {
        let header = basic("a client:1", &"s+p/c %é:".into());
        let decoded = BASE64.decode(header.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(decoded).unwrap(),
            "a+client%3A1:s%2Bp%2Fc+%25%C3%A9%3A"
        );
    }
}
