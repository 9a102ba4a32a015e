//! A person, as identified by a token.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// How much the clocks of issuer and verifier may differ.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// Identifies a user in resource names: `users/{id}`. It is derived from issuer and subject, which together identify a
/// person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

impl UserId {
    const LEN: usize = 26;

    /// The id of a subject of an issuer. Every process derives the same id, without a look-up.
    pub fn of(issuer: &str, subject: &str) -> Self {
        let mut hash = Sha256::new();
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hash.update((issuer.len() as u64).to_be_bytes());
        hash.update(issuer);
        hash.update(subject);
        let mut id = BASE32_NOPAD.encode(&hash.finalize());
        id.truncate(Self::LEN);
        id.make_ascii_lowercase();
        Self(id)
    }

    /// Parses an id; `None` if it cannot be one.
    pub fn parse(id: &str) -> Option<Self> {
        let valid = id.len() == Self::LEN && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        valid.then(|| Self(id.to_owned()))
    }

    /// The id without the prefix `users/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `users/{id}`.
    pub fn resource_name(&self) -> String {
        format!("users/{}", self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person with a valid token; or a program, with one that it got for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Derived from `issuer` and `subject`.
    pub id: UserId,
    /// Whether it is a program.
    pub machine: bool,
    /// `iss` of the token.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
    /// `aud` of the token.
    pub audiences: Vec<String>,
    /// An attribute, not an identity.
    pub email: Option<String>,
    /// An attribute, not an identity.
    pub display_name: Option<String>,
    /// The groups in the token.
    pub groups: Vec<String>,
    /// Whether the configuration makes this user an admin.
    pub admin: bool,
    /// When the token expires.
    pub expires_at: SystemTime,
}

impl User {
    /// Whether the token has expired, so that a new request with it is refused.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at + LEEWAY <= now
    }
}
