//! How a credential is sent with each request.

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// How the primary credential, or a token, is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Injection {
    /// `Authorization: <value>`.
    Authorization,
    /// `Authorization: Bearer <value>`.
    Bearer,
    /// `<name>: <value>`.
    Header(String),
}

impl Injection {
    /// Name and value of the header.
    pub(crate) fn header(&self, value: &SecretString) -> (String, SecretString) {
        match self {
            Self::Authorization => ("authorization".to_owned(), value.clone()),
            Self::Bearer => ("authorization".to_owned(), bearer(value)),
            Self::Header(name) => (name.clone(), value.clone()),
        }
    }
}

/// RFC 6750, section 2.1.
fn bearer(value: &SecretString) -> SecretString {
    const SCHEME: &str = "Bearer ";
    let value = value.expose_secret();
    // The exact capacity: a buffer that grows leaves copies in memory.
    let mut header = Zeroizing::new(String::with_capacity(SCHEME.len() + value.len()));
    header.push_str(SCHEME);
    header.push_str(value);
    SecretString::from(header.as_str())
}
