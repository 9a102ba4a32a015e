//! Authorization codes that wait for their exchange (RFC 6749, section 4.1; PKCE, RFC 7636).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Person;

const TTL: Duration = Duration::from_secs(60);
/// The limit of codes that wait. Honest use of one machine stays below it.
const MAX: usize = 1_000;

/// What an authorization code grants.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) person: Person,
    pub(super) redirect_uri: String,
    pub(super) code_challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) granted_at: SystemTime,
}

/// The codes that have not been exchanged.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<HashMap<String, Grant>>);

impl Grants {
    /// Returns a code for this grant; `None` if there are too many.
    pub(super) fn add(&self, grant: Grant) -> Option<String> {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = grant.granted_at;
        grants.retain(|_, other| other.is_fresh(now));
        if grants.len() >= MAX {
            return None;
        }
        let code = BASE64URL_NOPAD.encode(&service_kit::random::bytes::<32>());
        grants.insert(code.clone(), grant);
        Some(code)
    }

    /// Exchanges a code. It can be used only once, even if the verifier or redirect URI is wrong.
    pub(super) fn redeem(&self, code: &str, redirect_uri: &str, verifier: &str, now: SystemTime) -> Option<Grant> {
        let grant = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(code)?;
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier));
        let fits: bool = challenge.as_bytes().ct_eq(grant.code_challenge.as_bytes()).into();
        (fits && grant.redirect_uri == redirect_uri && grant.is_fresh(now)).then_some(grant)
    }
}

impl Grant {
    fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(self.granted_at).is_ok_and(|age| age < TTL)
    }
}
