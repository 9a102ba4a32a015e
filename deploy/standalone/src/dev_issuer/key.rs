//! The issuer's signing key, ES256, in a file that only its owner reads.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// PKCS#8, DER.
const FILE: &str = "dev-issuer.key";

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The file system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the key, so others may have it.
    #[error("{} can be read by other users: anybody who did can sign in as anyone. Delete it and start again, or chmod it to 600", .0.display())]
    Exposed(PathBuf),
    /// Not a key.
    #[error("{} is not a P-256 key in PKCS#8. Delete it to have a new one made; tokens made with the old one end", .0.display())]
    Malformed(PathBuf),
}

/// Signs tokens.
pub(super) struct SigningKey {
    encoding: EncodingKey,
    header: Header,
    jwk: Value,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.header.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key of this data directory, made if there is none. Two processes that do so at once end up with the same key.
    pub(super) fn open(data_dir: &Path) -> Result<Self, OpenError> {
        if let Some(key) = Self::existing(data_dir)? {
            return Ok(key);
        }
        let path = data_dir.join(FILE);
        create(data_dir, &path)?;
        Self::existing(data_dir)?.ok_or_else(|| OpenError::Io {
            path,
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// The key of this data directory; `None` where there is none.
    pub(super) fn existing(data_dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = data_dir.join(FILE);
        let Some(der) = read(&path)? else { return Ok(None) };
        Self::parse(&der).map(Some).ok_or(OpenError::Malformed(path))
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
            jwk,
        })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.encoding)
            .expect("the key was parsed, and claims are plain data")
    }

    pub(super) fn public_jwk(&self) -> &Value {
        &self.jwk
    }
}

/// RFC 7638, section 3: the required members in this order, without spaces.
fn thumbprint(x: &str, y: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
    )))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let fail = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::Exposed(path.to_owned()));
    }
    fs::read(path).map(Some).map_err(fail)
}

/// Writes a new key beside the file and gives it its name only if nobody else has: the file is whole or absent.
fn create(data_dir: &Path, path: &Path) -> Result<(), OpenError> {
    let fail = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(fail)?;
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| fail(io::Error::other("no key could be made")))?;
    // Temporary files are made with mode 600.
    let mut file = tempfile::Builder::new()
        .prefix(".dev-issuer.")
        .tempfile_in(data_dir)
        .map_err(fail)?;
    file.write_all(key.as_ref()).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(fail(error.error)),
    }
    fs::File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_key_once_even_for_many_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new");
        assert!(SigningKey::existing(&data).unwrap().is_none());
        assert!(!data.exists(), "to look for a key makes nothing");
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
    fn refuses_a_key_that_others_read_and_one_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        SigningKey::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::open(dir.path()), Err(OpenError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(matches!(SigningKey::open(dir.path()), Err(OpenError::Malformed(_))));
    }
}
