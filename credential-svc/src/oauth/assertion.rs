//! Assertions by which a client authenticates (RFC 7523, section 3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::domain::authorization::servers::ServerError;

/// How long an assertion is valid: the request, and clocks that differ.
const VALID: Duration = Duration::from_secs(120);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// An assertion of the client for `audience`, signed with a key in PEM: RS256 or ES256, as the key is.
pub(super) fn assertion(
    client: &str,
    audience: &str,
    key: &SecretString,
    key_id: Option<String>,
    now: SystemTime,
) -> Result<SecretString, ServerError> {
    let pem = key.expose_secret().as_bytes();
    let (algorithm, key) = match EncodingKey::from_ec_pem(pem) {
        Ok(key) => (Algorithm::ES256, key),
        Err(_) => (
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(pem).map_err(|_| unusable())?,
        ),
    };
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims {
        iss: client,
        sub: client,
        aud: audience,
        jti: service_kit::random::uuid().to_string(),
        iat: seconds(now),
        exp: seconds(now + VALID),
    };
    let header = Header {
        kid: key_id,
        ..Header::new(algorithm)
    };
    // The cause could describe the key.
    let signed = encode(&header, &claims, &key).map_err(|_| unusable())?;
    Ok(signed.into())
}

fn unusable() -> ServerError {
    ServerError::Unusable(
        "the client's private key cannot be used: enter an RSA key of at least 2,048 bits or an EC key of curve P-256, in PEM (PKCS #8)".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::{KeyPair as RsaKeyPair, KeySize},
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    use data_encoding::BASE64;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::Value;

    use super::*;

    fn pem(der: &[u8]) -> SecretString {
        let body = BASE64.encode(der);
        let lines: Vec<_> = body
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        )
        .into()
    }

    fn sign(key: &SecretString, now: SystemTime) -> Result<SecretString, ServerError> {
        assertion("us", "https://as.example.com", key, Some("k1".to_owned()), now)
    }

    fn verify(signed: &SecretString, algorithm: Algorithm, key: &DecodingKey) -> Value {
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["https://as.example.com"]);
        validation.validate_exp = false;
        let decoded = decode::<Value>(signed.expose_secret(), key, &validation).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
        decoded.claims
    }

    #[test]
    fn signs_with_rsa_and_p256() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let signed = sign(&pem(der.as_ref()), now).unwrap();
        let claims = verify(
            &signed,
            Algorithm::RS256,
            &DecodingKey::from_rsa_der(rsa.public_key().as_ref()),
        );
        assert_eq!(
            (claims["iss"].as_str(), claims["sub"].as_str()),
            (Some("us"), Some("us"))
        );
        assert_eq!(
            (claims["iat"].as_u64(), claims["exp"].as_u64()),
            (Some(1_800_000_000), Some(1_800_000_120))
        );

        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = pem(ec.to_pkcs8v1().unwrap().as_ref());
        let verifying = DecodingKey::from_ec_der(ec.public_key().as_ref());
        let ids = [(); 2].map(|()| verify(&sign(&key, now).unwrap(), Algorithm::ES256, &verifying)["jti"].clone());
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn says_what_key_is_required() {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        for key in [
            pem(p384.to_pkcs8v1().unwrap().as_ref()),
            pem(b"nonsense"),
            "hunter2".into(),
        ] {
            let error = sign(&key, UNIX_EPOCH).unwrap_err().to_string();
            assert!(error.contains("P-256") && !error.contains("hunter2"), "{error}");
        }
    }
}
