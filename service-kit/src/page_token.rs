//! Opaque page tokens: a keyset position, sealed and bound to the request it belongs to (AIP-158).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use data_encoding::BASE64URL_NOPAD;
use rand::RngCore as _;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};

use crate::status::{Reason, StatusBuilder};

/// Seals and opens page tokens. All replicas of a service share the key.
#[derive(Debug)]
pub struct PageTokens {
    key: LessSafeKey,
}

impl PageTokens {
    /// With a key of 32 random bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
        Self {
            key: LessSafeKey::new(key),
        }
    }

    /// Seals a position. `binding` is everything that selects and orders the list: RPC, parent, filter, caller.
    pub fn seal(&self, binding: &str, position: &impl Serialize) -> String {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = serde_json::to_vec(position).expect("positions are plain data");
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(binding), &mut sealed)
            .expect("a position is short");
        let mut token = nonce.to_vec();
        token.append(&mut sealed);
        BASE64URL_NOPAD.encode(&token)
    }

    /// Opens a token; `None` for the empty one, which asks for the first page.
    pub fn open<T: DeserializeOwned>(&self, binding: &str, token: &str) -> Result<Option<T>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        self.unseal(binding, token).map(Some).ok_or_else(|| {
            StatusBuilder::new(
                Code::InvalidArgument,
                Reason::PAGE_TOKEN_INVALID,
                "page_token was not made for this request: ask for the first page with an empty one",
            )
            .build()
        })
    }

    fn unseal<T: DeserializeOwned>(&self, binding: &str, token: &str) -> Option<T> {
        let mut token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (nonce, sealed) = token.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(binding), sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed_for_the_same_request() {
        let tokens = PageTokens::new(&[7; 32]);
        let token = tokens.seal("ListEntries", &(42_i64, "a".to_owned()));
        assert_eq!(
            tokens.open::<(i64, String)>("ListEntries", &token).unwrap(),
            Some((42, "a".to_owned()))
        );
        assert_eq!(tokens.open::<(i64, String)>("ListEntries", "").unwrap(), None);
        for (binding, token) in [
            ("ListTeams", token.as_str()),
            ("ListEntries", "AAAA"),
            ("ListEntries", "ü"),
            ("ListEntries", &token[..20]),
        ] {
            let refused = tokens.open::<(i64, String)>(binding, token).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
}
