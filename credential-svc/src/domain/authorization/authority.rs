//! What a caller's token may do: all that an authorization server could decide by when it exchanges the token.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// Claims that tell a token from the next one that a client gets for the same person (RFC 7519, section 4.1; OpenID Connect Core 1.0, sections 2
/// and 3.1.3.6). Each other one may decide what the token is exchanged for: scopes, groups, the client, how the person signed in.
const OF_ONE_TOKEN: [&str; 7] = ["exp", "nbf", "iat", "jti", "nonce", "at_hash", "c_hash"];

/// Equal for tokens that may do the same. A token that cannot be read has an authority of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Authority([u8; 32]);

impl Authority {
    /// Of a JWT that gateway-svc verified.
    pub(crate) fn of(token: &SecretString, is_id_token: bool) -> Self {
        let token = token.expose_secret();
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(&[u8::from(is_id_token)]);
        let payload = token.split('.').nth(1).unwrap_or_default();
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap_or_default();
        // As they are written: two numbers that are parsed alike may differ.
        match serde_json::from_slice::<BTreeMap<String, &RawValue>>(&payload) {
            Ok(claims) => {
                for (name, value) in claims {
                    if !OF_ONE_TOKEN.contains(&name.as_str()) {
                        add(name.as_bytes());
                        add(value.get().as_bytes());
                    }
                }
            }
            Err(_) => add(token.as_bytes()),
        }
        Self(digest.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn authority(changes: &[(&str, Value)], is_id_token: bool) -> Authority {
        let mut claims = json!({
            "iss": "https://idp", "sub": "alice", "aud": ["chandlery", "tool"], "exp": 2, "iat": 1, "jti": "a", "scope": "read write",
            "groups": ["staff"],
        });
        for (name, value) in changes {
            claims[name] = value.clone();
        }
        let token = format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        Authority::of(&token.into(), is_id_token)
    }

    #[test]
    fn the_next_token_of_a_client_may_do_the_same() {
        let next = [
            ("exp", json!(9)),
            ("iat", json!(8)),
            ("nbf", json!(8)),
            ("jti", json!("b")),
            ("nonce", json!("n")),
        ];
        assert_eq!(authority(&next, false), authority(&[], false));
    }

    #[test]
    fn what_may_decide_an_exchange_makes_another_authority() {
        let first = authority(&[], false);
        for (name, value) in [
            ("scope", json!("read")),
            ("scp", json!(["read"])),
            ("groups", json!([])),
            ("aud", json!("chandlery")),
            ("azp", json!("another-client")),
            ("acr", json!("1")),
            ("tenant", json!(12_345_678)),
        ] {
            assert_ne!(authority(&[(name, value)], false), first, "{name}");
        }
        assert_ne!(authority(&[], true), first);
    }

    #[test]
    fn a_token_that_cannot_be_read_is_like_no_other() {
        let of = |token: &str| Authority::of(&token.into(), false);
        assert_eq!(of("a"), of("a"));
        for other in ["b", "a.b.c", "a.W10.c", "a.e30.c"] {
            assert_ne!(of("a"), of(other), "{other}");
        }
    }
}
