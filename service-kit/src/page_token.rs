//! Opaque page tokens: an encrypted keyset position, bound to the request it belongs to (AIP-158).

use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};

use crate::{
    keys::{Ring, Sealing},
    status::{Reason, StatusBuilder},
};

/// Encrypts and decrypts page tokens. All replicas of a service share the keys.
#[derive(Debug)]
pub struct PageTokens {
    sealing: Sealing,
}

impl PageTokens {
    /// Uses the keys of a ring.
    pub fn new(keys: impl Into<Ring>) -> Self {
        Self {
            sealing: Sealing::new(&keys.into()),
        }
    }

    /// Makes the token of a position. `binding` is everything that selects and orders the list: RPC, parent, filter,
    /// caller.
    pub fn seal(&self, binding: &str, position: &impl Serialize) -> String {
        let position = serde_json::to_vec(position).expect("positions are plain data");
        BASE64URL_NOPAD.encode(&self.sealing.seal(binding.as_bytes(), &position))
    }

    /// Decrypts a token. Returns `None` for the empty token, which requests the first page.
    pub fn open<T: DeserializeOwned>(&self, binding: &str, token: &str) -> Result<Option<T>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        self.unseal(binding, token)
            .map(Some)
            .ok_or_else(|| refuse("page_token was not made for this request: ask for the first page with an empty one"))
    }

    fn unseal<T: DeserializeOwned>(&self, binding: &str, token: &str) -> Option<T> {
        let token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (_, plain) = self.sealing.open(binding.as_bytes(), &token)?;
        serde_json::from_slice(&plain).ok()
    }
}

/// The status for a token whose position is in the list no more.
pub fn gone() -> Status {
    refuse("what page_token continues from is gone: ask for the first page with an empty one")
}

fn refuse(why: &str) -> Status {
    StatusBuilder::new(Code::InvalidArgument, Reason::PAGE_TOKEN_INVALID, why).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_tokens_of_the_same_request() {
        let tokens = PageTokens::new([7; 32]);
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

    #[test]
    fn opens_no_other_token() {
        let tokens = PageTokens::new([7; 32]);
        // A second key, because a coverage-guided fuzzer could learn the tokens that are compared below.
        let others = PageTokens::new([8; 32]);
        bolero::check!(name = "page_token")
            .with_iterations(crate::fuzz::ITERATIONS)
            .for_each(|bytes: &[u8]| {
                let open = |token: &str, binding: &str| tokens.open::<Vec<u8>>(binding, token);
                for text in [
                    String::from_utf8_lossy(bytes).into_owned(),
                    BASE64URL_NOPAD.encode(bytes),
                ] {
                    match others.open::<Vec<u8>>("ListEntries", &text) {
                        Ok(opened) => assert!(opened.is_none() && text.is_empty()),
                        Err(refused) => assert_eq!(refused.code(), Code::InvalidArgument),
                    }
                }
                let (position, change) = crate::fuzz::split(bytes);
                let token = tokens.seal("ListEntries", &position);
                assert_eq!(open(&token, "ListEntries").unwrap().as_deref(), Some(position));
                assert!(open(&token, "ListEntries\nb").is_err());
                let mut changed = token.clone().into_bytes();
                for pair in change.chunks_exact(2) {
                    let at = usize::from(pair[0]) % changed.len();
                    changed[at] = pair[1] & 0x7f;
                }
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(
                    open(&changed, "ListEntries").is_ok(),
                    changed == token,
                    "{token} {changed}"
                );
            });
    }
}
