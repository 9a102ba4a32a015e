//! What `vaultrs` has no request for, and the parts of Vault's answers that are used.

use data_encoding::BASE64;
use rustify::{
    Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Writes an encoding as the version after `expected`. It is one string in base64: OpenBao refuses JSON of more than 1,000 strings, which
/// an encoding can have, and what needs no escapes is read and written without copies.
pub(super) struct Write<'a> {
    pub(super) path: String,
    pub(super) expected: i64,
    pub(super) encoded: &'a [u8],
}

impl Endpoint for Write<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let head = format!(r#"{{"options":{{"cas":{}}},"data":{{"value":""#, self.expected);
        let tail = r#""}}"#;
        let length = BASE64.encode_len(self.encoded.len());
        let mut body = Vec::with_capacity(head.len() + length + tail.len());
        body.extend(head.as_bytes());
        body.resize(head.len() + length, 0);
        BASE64.encode_mut(self.encoded, &mut body[head.len()..]);
        body.extend(tail.as_bytes());
        Ok(Some(body))
    }
}

/// Lets Vault keep one version of a value, and refuse writes without check-and-set. Answered with 404 where there is no value.
pub(super) struct KeepOne {
    pub(super) path: String,
}

impl Endpoint for KeepOne {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::PATCH
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(Some(br#"{"max_versions":1,"cas_required":true}"#.to_vec()))
    }
}

/// Encrypts or decrypts with a key of the Transit engine, which never leaves Vault.
pub(super) struct Crypt<'a> {
    pub(super) path: String,
    /// `plaintext`, in base64, or `ciphertext`.
    pub(super) field: &'static str,
    pub(super) value: &'a str,
    /// In base64. What is encrypted with one context is decrypted with no other.
    pub(super) context: String,
}

impl Endpoint for Crypt<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let (field, value, context) = (self.field, self.value, &self.context);
        let body = format!(r#"{{"{field}":"{value}","associated_data":"{context}"}}"#);
        Ok(Some(body.into_bytes()))
    }
}

/// The answer to [`Crypt`] with a plaintext.
#[derive(Deserialize)]
pub(super) struct Encrypted {
    pub(super) ciphertext: String,
}

/// The answer to [`Crypt`] with a ciphertext.
#[derive(Deserialize)]
pub(super) struct Decrypted<'a> {
    pub(super) plaintext: &'a str,
}

/// The part of an answer that most of them have.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// A version of a value. Its data is missing where somebody deleted or destroyed it.
#[derive(Deserialize)]
pub(super) struct Version<'a> {
    #[serde(borrow)]
    pub(super) data: Option<Kept<'a>>,
    pub(super) metadata: About,
}

#[derive(Deserialize)]
pub(super) struct Kept<'a> {
    /// `None`: others have written it.
    pub(super) value: Option<&'a str>,
}

#[derive(Deserialize)]
pub(super) struct About {
    pub(super) version: i64,
    pub(super) destroyed: bool,
}

#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<String>,
}

/// The settings of a secrets engine that decide whether it keeps what it should, and only that.
#[derive(Deserialize)]
pub(super) struct Engine {
    pub(super) max_versions: u64,
    pub(super) delete_version_after: String,
}

/// The answer to a login or a renewal.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) auth: Auth,
}

#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: String,
    /// Seconds; 0: it does not end.
    pub(super) lease_duration: u64,
    pub(super) renewable: bool,
}

/// What Vault says of a token.
#[derive(Deserialize)]
pub(super) struct TokenState {
    /// Seconds; 0: it does not end.
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// The encoding that was written.
pub(super) fn decoded(value: &str) -> Option<Zeroizing<Vec<u8>>> {
    let length = BASE64.decode_len(value.len()).ok()?;
    let mut encoded = Zeroizing::new(vec![0; length]);
    let length = BASE64.decode_mut(value.as_bytes(), &mut encoded).ok()?;
    encoded.truncate(length);
    Some(encoded)
}
