//! A form whose values are secrets: wiped when it was sent, and known so that no message repeats them.

use bytes::Bytes;
use masking::{Needles, mask};
use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::http::Body;

/// Parameters whose values are no secret. All others are.
const PUBLIC: [&str; 11] = [
    "actor_token_type",
    "audience",
    "client_assertion_type",
    "client_id",
    "grant_type",
    "redirect_uri",
    "requested_token_type",
    "requested_token_use",
    "resource",
    "scope",
    "subject_token_type",
];

/// The body of a request.
#[derive(Debug, Default)]
pub(super) struct Form {
    fields: Vec<(&'static str, SecretString)>,
    /// What is sent elsewhere in the request.
    others: Vec<SecretString>,
}

impl Form {
    pub(super) fn push(&mut self, name: &'static str, value: impl Into<SecretString>) {
        self.fields.push((name, value.into()));
    }

    /// Notes a secret that is sent in a header.
    pub(super) fn note(&mut self, secret: SecretString) {
        self.others.push(secret);
    }

    pub(super) fn body(&self) -> Body {
        // Room for all of it: a string that grows leaves copies behind.
        let most = |(name, value): &(&str, SecretString)| name.len() + 3 * value.expose_secret().len() + 2;
        let mut encoded = form_urlencoded::Serializer::new(String::with_capacity(self.fields.iter().map(most).sum()));
        for (name, value) in &self.fields {
            encoded.append_pair(name, value.expose_secret());
        }
        Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: Bytes::from_owner(Zeroizing::new(encoded.finish().into_bytes())),
        }
    }

    /// The text without this request's secrets, which some servers repeat in their errors.
    pub(super) fn redact(&self, text: &str) -> String {
        let secrets = self.fields.iter().filter(|(name, _)| !PUBLIC.contains(name));
        let secrets = secrets.map(|(_, value)| value).chain(&self.others);
        let needles = Needles::new(secrets.map(SecretString::expose_secret));
        mask(text, "[secret]", &[&needles], 0).unwrap_or_else(|| text.to_owned())
    }
}
