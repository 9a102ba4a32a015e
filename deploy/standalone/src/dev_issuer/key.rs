//! The issuer's ES256 signing keys: the current one, and the previous one, whose tokens are still valid.

use std::path::Path;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::keys::{self, KeyFileError};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// PKCS#8, DER.
const FILE: &str = "dev-issuer.key";
/// The previous key.
const PREVIOUS: &str = "dev-issuer.previous.key";

/// Signs tokens.
pub(super) struct SigningKey {
    encoding: EncodingKey,
    header: Header,
    jwks: Vec<Value>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.header.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Opens the key of this data folder, and creates it if there is none. If two processes do this at the same time,
    /// both get the same key.
    pub(super) fn open(data_dir: &Path) -> Result<Self, KeyFileError> {
        if let Some(key) = Self::existing(data_dir)? {
            return Ok(key);
        }
        let path = data_dir.join(FILE);
        keys::create(&path, &generate()?)?;
        Self::existing(data_dir)?.ok_or_else(|| KeyFileError::Io {
            path,
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// The key of this data folder; `None` if there is none.
    pub(super) fn existing(data_dir: &Path) -> Result<Option<Self>, KeyFileError> {
        let Some(mut key) = read(&data_dir.join(FILE))? else {
            return Ok(None);
        };
        // After an interrupted rotation, both files contain the same key.
        if let Some(previous) = read(&data_dir.join(PREVIOUS))?
            && previous.header.kid != key.header.kid
        {
            key.jwks.extend(previous.jwks);
        }
        Ok(Some(key))
    }

    /// Replaces the current key. Its tokens stay valid unless `revoke` is set. If interrupted at any point, valid
    /// tokens stay valid, and the rotation can be repeated.
    pub(super) fn rotate(data_dir: &Path, revoke: bool) -> Result<(), KeyFileError> {
        let (path, before) = (data_dir.join(FILE), data_dir.join(PREVIOUS));
        let Some(present) = keys::read(&path)? else {
            return Ok(());
        };
        if !revoke {
            keys::replace(&before, &present)?;
        }
        keys::replace(&path, &generate()?)?;
        if revoke {
            keys::remove(&before)?;
        }
        Ok(())
    }

    /// The id of the current key, and of the previous one if there is one.
    pub(super) fn ids(&self) -> Vec<String> {
        let id = |jwk: &Value| jwk["kid"].as_str().unwrap_or_default().to_owned();
        self.jwks.iter().map(id).collect()
    }

    fn parse(der: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        // SEC 1, section 2.3.3: 0x04, then x and y of 32 bytes each.
        let point = pair.public_key().as_ref();
        let (x, y) = point.get(1..65)?.split_at(32);
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        let kid = thumbprint(&x, &y);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
        let header = Header {
            kid: Some(kid),
            ..Header::new(Algorithm::ES256)
        };
        Some(Self {
            encoding: EncodingKey::from_ec_der(der),
            header,
            jwks: vec![jwk],
        })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.encoding)
            .expect("the key was parsed, and claims are plain data")
    }

    /// The public keys of valid tokens.
    pub(super) fn public_jwks(&self) -> &[Value] {
        &self.jwks
    }
}

/// The thumbprint of a key (RFC 7638, section 3): the required members in this order, without spaces.
fn thumbprint(x: &str, y: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
    )))
}

fn read(path: &Path) -> Result<Option<SigningKey>, KeyFileError> {
    let Some(der) = keys::read(path)? else { return Ok(None) };
    let key = SigningKey::parse(&der).ok_or_else(|| KeyFileError::Damaged {
        path: path.to_owned(),
        what: "it is not a P-256 key in PKCS#8 (delete it to get a new one: tokens of the old key become invalid)",
    })?;
    Ok(Some(key))
}

fn generate() -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| KeyFileError::Random)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn concurrent_processes_create_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_owned();
        assert!(SigningKey::existing(&data).unwrap().is_none());
        let ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| SigningKey::open(&data).unwrap().header.kid))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| id.is_some() && *id == ids[0]));
        let names: Vec<_> = fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [FILE], "no temporary file is left");
        assert_eq!(
            fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn refuses_an_exposed_and_a_damaged_key() {
        let dir = tempfile::tempdir().unwrap();
        SigningKey::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            SigningKey::open(dir.path()),
            Err(KeyFileError::Exposed { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(matches!(
            SigningKey::open(dir.path()),
            Err(KeyFileError::Damaged { .. })
        ));
    }

    #[test]
    fn the_previous_key_is_valid_until_the_next_rotation() {
        let dir = tempfile::tempdir().unwrap();
        SigningKey::rotate(dir.path(), false).unwrap();
        assert!(
            SigningKey::existing(dir.path()).unwrap().is_none(),
            "there is no key to rotate"
        );
        let ids = |key: Result<SigningKey, KeyFileError>| key.unwrap().ids();
        let first = ids(SigningKey::open(dir.path()));
        SigningKey::rotate(dir.path(), false).unwrap();
        let second = ids(SigningKey::open(dir.path()));
        assert_eq!(second[1..], first);
        SigningKey::rotate(dir.path(), false).unwrap();
        let third = ids(SigningKey::open(dir.path()));
        assert_eq!(third[1..], second[..1]);
        // After an interruption between the two files, nothing is lost and the rotation can be repeated.
        fs::copy(dir.path().join(FILE), dir.path().join(PREVIOUS)).unwrap();
        assert_eq!(ids(SigningKey::open(dir.path())), third[..1]);
        SigningKey::rotate(dir.path(), true).unwrap();
        let last = ids(SigningKey::open(dir.path()));
        assert_eq!(last.len(), 1);
        assert_ne!(last[..], third[..1]);
    }
}
