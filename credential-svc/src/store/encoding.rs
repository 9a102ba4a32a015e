//! How every store encodes a value: one JSON object, since some stores accept nothing else.
//!
//! Secrets are in base64: the parser makes no unescaped copy of them, and they may contain any character.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

use data_encoding::{BASE64, HEXLOWER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::{
    destination::Agreed,
    ports::StoreError,
    record::{Field, Record, Value},
    replay::{Answer, Answers, Request},
    summary::{StoredField, Summary},
};

/// A program refuses any other format: it would lose what it does not know when it writes the value again.
const FORMAT: u32 = 1;

/// The part that all formats have.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<EncodedRecord>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedRecord {
    generation: i64,
    bound_destination: String,
    agreed: Option<Agreed>,
    fields: BTreeMap<String, EncodedField>,
    answers: Vec<EncodedAnswer>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedField {
    generation: i64,
    update_time: i64,
    value: Secret,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedAnswer {
    user: String,
    request_id: Uuid,
    digest: Digest,
    time: i64,
    summary: Summary,
}

/// The encoding of a value, wiped when dropped.
pub(super) fn encode(value: Value) -> Zeroizing<Vec<u8>> {
    let mut encoded = Encoded {
        format: FORMAT,
        erased_time: None,
        record: None,
    };
    match value {
        Value::Erased { time } => encoded.erased_time = Some(time),
        Value::Record(record) => encoded.record = Some(record.into()),
    }
    // The exact capacity: a buffer that grows leaves copies in memory.
    let mut size = Count(0);
    let counted = serde_json::to_writer(&mut size, &encoded);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
    let written = counted.and_then(|()| serde_json::to_writer(&mut *bytes, &encoded));
    written.expect("a value is plain data with strings as keys");
    bytes
}

/// The value of an encoding.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, StoreError> {
    let encoded = match serde_json::from_slice::<Encoded>(bytes) {
        Ok(encoded) if encoded.format == FORMAT => encoded,
        Ok(Encoded { format, .. }) => return Err(unknown(format)),
        Err(error) => {
            return Err(match serde_json::from_slice(bytes) {
                Ok(Head { format }) if format != FORMAT => unknown(format),
                // Without what serde_json says of a field: it could repeat the value.
                _ => StoreError::Corrupt(format!(
                    "it is not an encoded value, at line {} column {}",
                    error.line(),
                    error.column()
                )),
            });
        }
    };
    match (encoded.record, encoded.erased_time) {
        (Some(record), None) => Ok(Value::Record(record.into())),
        (None, Some(time)) => Ok(Value::Erased { time }),
        _ => Err(StoreError::Corrupt("it is neither a record nor a tombstone".to_owned())),
    }
}

fn unknown(format: u32) -> StoreError {
    StoreError::Corrupt(format!(
        "it has format {format}, and this program knows format {FORMAT}: a newer Chandlery wrote it"
    ))
}

impl From<Record> for EncodedRecord {
    fn from(record: Record) -> Self {
        let field = |(key, field): (String, Field)| {
            let StoredField {
                generation,
                update_time,
            } = field.stored;
            let value = Secret(field.value);
            let encoded = EncodedField {
                generation,
                update_time,
                value,
            };
            (key, encoded)
        };
        let answer = |answer: &Answer| EncodedAnswer {
            user: answer.request.user.clone(),
            request_id: answer.request.id,
            digest: Digest(answer.request.digest),
            time: answer.time,
            summary: answer.summary.clone(),
        };
        Self {
            generation: record.generation,
            bound_destination: record.bound_destination,
            agreed: record.agreed,
            fields: record.fields.into_iter().map(field).collect(),
            answers: record.answers.iter().map(answer).collect(),
        }
    }
}

impl From<EncodedRecord> for Record {
    fn from(encoded: EncodedRecord) -> Self {
        let field = |(key, field): (String, EncodedField)| {
            let stored = StoredField {
                generation: field.generation,
                update_time: field.update_time,
            };
            let value = field.value.0;
            (key, Field { stored, value })
        };
        let answer = |answer: EncodedAnswer| Answer {
            request: Request {
                user: answer.user,
                id: answer.request_id,
                digest: answer.digest.0,
            },
            time: answer.time,
            summary: answer.summary,
        };
        Self {
            generation: encoded.generation,
            bound_destination: encoded.bound_destination,
            agreed: encoded.agreed,
            fields: encoded.fields.into_iter().map(field).collect(),
            answers: Answers::new(encoded.answers.into_iter().map(answer).collect()),
        }
    }
}

/// A secret in base64.
struct Secret(SecretString);

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
struct Digest([u8; 32]);

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

/// Counts what is written to it.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of this form are in stores: a change of it is another format.
    #[test]
    fn the_form_stays_as_it_is() {
        let record = r#"{"format":1,"record":{"generation":2,"bound_destination":"https://example.com","agreed":{"description":"home","parts":[]},"fields":{"token":{"generation":1,"update_time":7,"value":"c2VjcmV0AMO8"}},"answers":[{"user":"u","request_id":"00000000-0000-0000-0000-000000000001","digest":"0909090909090909090909090909090909090909090909090909090909090909","time":7,"summary":{"name":"installations/a/credential","generation":1,"fields":{"token":{"generation":1,"update_time":7}},"missing":[],"bound_destination":"","present_destination":"","bound_description":"","present_description":""}}]}}"#;
        for encoded in [record, r#"{"format":1,"erased_time":7}"#] {
            let value = decode(encoded.as_bytes()).unwrap();
            if let Value::Record(record) = &value {
                assert_eq!(record.fields["token"].value.expose_secret(), "secret\0ü");
            }
            let bytes = encode(value);
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), encoded);
            assert_eq!(bytes.len(), bytes.capacity(), "no buffer grew");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know_and_repeats_no_value() {
        let field = |value: &str| {
            format!(
                r#"{{"format":1,"record":{{"generation":1,"bound_destination":"","agreed":null,"answers":[],"fields":{{"token":{{"generation":1,"update_time":7,"value":{value}}}}}}}}}"#
            )
        };
        for (encoded, told) in [
            (r#"{"format":2,"more":"canary"}"#.to_owned(), "newer"),
            (
                r#"{"format":1,"erased_time":7,"more":"canary"}"#.to_owned(),
                "not an encoded value",
            ),
            (r#"{"format":1}"#.to_owned(), "neither a record"),
            ("canary".to_owned(), "not an encoded value"),
            (String::new(), "not an encoded value"),
            (field(r#""canary""#), "not an encoded value"),
            (field(r#""/w==""#), "not an encoded value"),
            (field("12345678"), "not an encoded value"),
        ] {
            let StoreError::Corrupt(message) = decode(encoded.as_bytes()).unwrap_err() else {
                panic!("{encoded}")
            };
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("canary") && !message.contains("1234"), "{message}");
        }
        assert!(decode(field(r#""Y2FuYXJ5""#).as_bytes()).is_ok());
    }
}
