//! Secrets and digests in an encoding.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use zeroize::Zeroizing;

/// A secret in base64.
pub(super) struct Secret(pub(super) SecretString);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.0.expose_secret().as_bytes();
        let mut text = Zeroizing::new(vec![0; BASE64.encode_len(value.len())]);
        BASE64.encode_mut(value, &mut text);
        serializer.serialize_str(std::str::from_utf8(&text).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(InBase64)
    }
}

struct InBase64;

impl de::Visitor<'_> for InBase64 {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret in base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        let broken = || E::custom("a secret is not in base64");
        let length = BASE64.decode_len(text.len()).map_err(|_| broken())?;
        let mut value = Zeroizing::new(vec![0; length]);
        let length = BASE64.decode_mut(text.as_bytes(), &mut value).map_err(|_| broken())?;
        let value = std::str::from_utf8(&value[..length]).map_err(|_| broken())?;
        Ok(Secret(SecretString::from(value)))
    }
}

/// A digest in hexadecimal digits.
pub(super) struct Digest(pub(super) [u8; 32]);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| de::Error::custom("a digest has 32 bytes"))
    }
}
