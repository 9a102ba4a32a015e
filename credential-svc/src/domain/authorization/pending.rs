//! Sign-ins that have begun. Nothing of them leaves this service but the `state`, which says whose they are.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{plan::Server, servers::Authentication};

/// How long a sign-in may take.
pub(crate) const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How many an owner has; the oldest goes.
const MAX: usize = 4;
/// Random bytes of a state, and of a verifier.
const RANDOM: usize = 32;

/// A sign-in that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// SHA-256 of the state; of that hash, while the sign-in is finished.
    pub(crate) state: [u8; 32],
    /// Of PKCE (RFC 7636).
    pub(crate) verifier: SecretString,
    pub(crate) server: Server,
    pub(crate) client_id: String,
    /// As `Grant::authentication`.
    pub(crate) authentication: Option<Authentication>,
    /// Empty: none was sent.
    pub(crate) resource: String,
    /// Those that were asked for.
    pub(crate) scopes: Vec<String>,
    pub(crate) redirect_uri: String,
    /// The person, and nobody else may finish it.
    pub(crate) user: String,
    /// Where the tokens may go, as it was shown to the person.
    pub(crate) destination: String,
    /// Microseconds since 1970.
    pub(crate) expire_time: i64,
}

/// With a sign-in more, and without those that have expired.
pub(crate) fn with(pending: &[Pending], now: i64, new: Pending) -> Vec<Pending> {
    let mut kept: Vec<Pending> = pending.iter().filter(|one| one.expire_time > now).cloned().collect();
    kept.drain(..kept.len().saturating_sub(MAX - 1));
    kept.push(new);
    kept
}

/// A new state for an installation: its uid and random bytes.
pub(crate) fn new_state(uid: &str) -> SecretString {
    let random = Zeroizing::new(service_kit::random::bytes::<RANDOM>());
    let bytes = Zeroizing::new([uid.as_bytes(), &random[..]].concat());
    encoded(&bytes)
}

/// The uid in a state; `None`: no installation has it.
pub(crate) fn uid_of(state: &str) -> Option<String> {
    let mut bytes = BASE64URL_NOPAD.decode(state.as_bytes()).ok()?;
    bytes.truncate(bytes.len().checked_sub(RANDOM)?);
    String::from_utf8(bytes).ok()
}

/// What is kept of a state.
pub(crate) fn hash(state: &str) -> [u8; 32] {
    sha256(state.as_bytes())
}

/// What is kept in place of the hash of a state while its sign-in is finished: no state has it.
pub(crate) fn taken(hash: &[u8; 32]) -> [u8; 32] {
    sha256(hash)
}

/// A new verifier (RFC 7636, section 4.1).
pub(crate) fn new_verifier() -> SecretString {
    let random = Zeroizing::new(service_kit::random::bytes::<RANDOM>());
    encoded(&random[..])
}

/// The challenge of a verifier, S256.
pub(crate) fn challenge(verifier: &SecretString) -> String {
    BASE64URL_NOPAD.encode(&sha256(verifier.expose_secret().as_bytes()))
}

fn encoded(bytes: &[u8]) -> SecretString {
    let text = Zeroizing::new(BASE64URL_NOPAD.encode(bytes));
    SecretString::from(text.as_str())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_names_its_installation() {
        let states = ["a", "5c0e"].map(|uid| (uid, new_state(uid)));
        for (uid, state) in &states {
            assert_eq!(uid_of(state.expose_secret()).as_deref(), Some(*uid));
        }
        assert_ne!(new_state("a").expose_secret(), states[0].1.expose_secret());
        for wrong in ["", "YQ", "not base64!", "\u{202e}"] {
            assert_eq!(uid_of(wrong), None, "{wrong}");
        }
    }

    /// The example of RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
