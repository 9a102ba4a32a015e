//! How every store encodes a value: one JSON object, since some stores accept nothing else.
//!
//! Secrets are in base64: the parser makes no unescaped copy of them, and they may contain any character.

mod secret;
mod tokens;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::{
    secret::{Digest, Secret},
    tokens::{EncodedClient, EncodedTokens, EncodedUnrevoked},
};
use crate::domain::{
    authorization::{
        grant::{Tokens, Unrevoked},
        registered::Registered,
    },
    destination::Agreed,
    ports::StoreError,
    record::{Field, Record, Value},
    replay::{Answer, Answers, Request},
    summary::{StoredField, Summary},
};

/// Without tokens and clients. A value without them keeps this format, so that an earlier program still reads it.
const WITHOUT_TOKENS: u32 = 1;
/// A program refuses any other format: it would lose what it does not know when it writes the value again.
const FORMAT: u32 = 2;

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
    /// Of a tombstone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unrevoked: Vec<EncodedUnrevoked>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<EncodedTokens>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    clients: Vec<EncodedClient>,
}

impl EncodedRecord {
    fn format(&self) -> u32 {
        if self.tokens.is_none() && self.clients.is_empty() {
            WITHOUT_TOKENS
        } else {
            FORMAT
        }
    }
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
        format: WITHOUT_TOKENS,
        erased_time: None,
        unrevoked: Vec::new(),
        record: None,
    };
    match value {
        Value::Erased { time, unrevoked } => {
            encoded.erased_time = Some(time);
            if !unrevoked.is_empty() {
                encoded.format = FORMAT;
            }
            encoded.unrevoked = unrevoked.into_iter().map(EncodedUnrevoked::from).collect();
        }
        Value::Record(record) => {
            let record = EncodedRecord::from(record);
            encoded.format = record.format();
            encoded.record = Some(record);
        }
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
        Ok(encoded) if is_known(encoded.format) => encoded,
        Ok(Encoded { format, .. }) => return Err(unknown(format)),
        Err(error) => {
            return Err(match serde_json::from_slice(bytes) {
                Ok(Head { format }) if !is_known(format) => unknown(format),
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
        (Some(record), None) if record.format() <= encoded.format => Ok(Value::Record(record.into())),
        (Some(_), None) => Err(StoreError::Corrupt(
            "it has tokens, which its format does not have".to_owned(),
        )),
        (None, Some(time)) => Ok(Value::Erased {
            time,
            unrevoked: encoded.unrevoked.into_iter().map(Unrevoked::from).collect(),
        }),
        _ => Err(StoreError::Corrupt("it is neither a record nor a tombstone".to_owned())),
    }
}

fn is_known(format: u32) -> bool {
    (WITHOUT_TOKENS..=FORMAT).contains(&format)
}

fn unknown(format: u32) -> StoreError {
    StoreError::Corrupt(format!(
        "it has format {format}, and this program knows formats {WITHOUT_TOKENS} to {FORMAT}: a newer Chandlery wrote it"
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
            tokens: (!record.tokens.is_empty()).then(|| record.tokens.into()),
            clients: record.clients.into_iter().map(EncodedClient::from).collect(),
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
            tokens: encoded.tokens.map(Tokens::from).unwrap_or_default(),
            clients: encoded.clients.into_iter().map(Registered::from).collect(),
        }
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
    use secrecy::ExposeSecret as _;

    use super::*;

    /// Values of this form are in stores: a change of it is another format.
    #[test]
    fn the_form_stays_as_it_is() {
        let record = r#"{"format":1,"record":{"generation":2,"bound_destination":"https://example.com","agreed":{"description":"home","parts":[]},"fields":{"token":{"generation":1,"update_time":7,"value":"c2VjcmV0AMO8"}},"answers":[{"user":"u","request_id":"00000000-0000-0000-0000-000000000001","digest":"0909090909090909090909090909090909090909090909090909090909090909","time":7,"summary":{"name":"installations/a/credential","generation":1,"fields":{"token":{"generation":1,"update_time":7}},"missing":[],"bound_destination":"","present_destination":"","bound_description":"","present_description":""}}]}}"#;
        let installation = concat!(
            r#"{"format":2,"record":{"generation":2,"bound_destination":"https://example.com","agreed":null,"fields":{},"answers":[],"tokens":{"#,
            r#""number":3,"grant":{"server":{"issuer":"https://as.example.com","endpoints":null},"client_id":"c","authentication":null,"#,
            r#""resource":"https://example.com/mcp","scopes":["read"],"#,
            r#""basis":"0909090909090909090909090909090909090909090909090909090909090909","access":"YWNjZXNz","expire_time":9,"#,
            r#""refresh":"cmVmcmVzaA==","account":"alice","connect_time":7,"refresh_time":8},"#,
            r#""lease":{"holder":"00000000-0000-0000-0000-000000000001","until":10},"failure":"no","demanded":["write"],"#,
            r#""pending":[{"state":"0909090909090909090909090909090909090909090909090909090909090909","verifier":"dmVyaWZpZXI=","#,
            r#""server":{"issuer":"","endpoints":{"authorization":"https://a","token":"https://t","revocation":""}},"client_id":"c","#,
            r#""authentication":{"basic":"c2VjcmV0"},"resource":"","scopes":[],"redirect_uri":"https://g/oauth/callback","user":"u","#,
            r#""destination":"https://example.com","expire_time":11}]}}}"#
        );
        let entry = concat!(
            r#"{"format":2,"record":{"generation":0,"bound_destination":"","agreed":null,"fields":{},"answers":[],"clients":["#,
            r#"{"issuer":"https://as.example.com","redirect_uri":"https://g/oauth/callback","client_id":"one","authentication":"none","expire_time":null},"#,
            r#"{"issuer":"https://as.example.com","redirect_uri":"https://h","client_id":"two","authentication":{"post":"c2VjcmV0"},"expire_time":7},"#,
            r#"{"issuer":"i","redirect_uri":"r","client_id":"three","authentication":{"private_key":{"key":"c2VjcmV0","id":"k"}},"expire_time":null}]}}"#
        );
        for encoded in [record, r#"{"format":1,"erased_time":7}"#, installation, entry] {
            let value = decode(encoded.as_bytes()).unwrap();
            if let Value::Record(record) = &value
                && let Some(field) = record.fields.get("token")
            {
                assert_eq!(field.value.expose_secret(), "secret\0ü");
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
            (r#"{"format":3,"more":"canary"}"#.to_owned(), "newer"),
            (r#"{"format":0,"erased_time":7}"#.to_owned(), "newer"),
            (
                r#"{"format":1,"record":{"generation":1,"bound_destination":"","agreed":null,"answers":[],"fields":{},"tokens":{"number":1,"grant":null,"lease":null,"failure":null,"demanded":[],"pending":[]}}}"#.to_owned(),
                "its format does not have",
            ),
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
