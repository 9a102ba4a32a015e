//! The JSON-RPC envelope. Its content is forwarded byte for byte.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The codes of JSON-RPC 2.0 for messages that cannot be read.
pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;

/// Members of an object, and messages of a batch.
const MOST: usize = 1000;

/// A JSON object: its members in order, their values unparsed.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A message's role, from the members it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request { method: String },
    Notification { method: String },
    Response,
}

impl<'a> Members<'a> {
    /// Parses an object. `None`: it is something else, has too many members, or has one twice, of which parsers use different ones.
    pub(crate) fn parse(json: &'a [u8]) -> Option<Self> {
        let members: Self = serde_json::from_slice(json).ok()?;
        let twice = |(i, (name, _)): (usize, &(Cow<'_, str>, _))| members.0[..i].iter().any(|(other, _)| other == name);
        let unique = members.0.len() <= MOST && !members.0.iter().enumerate().any(twice);
        unique.then_some(members)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// The member as an object.
    pub(crate) fn object(&self, name: &str) -> Option<Members<'a>> {
        Members::parse(self.get(name)?.get().as_bytes())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The message's role. `None`: it is not a JSON-RPC 2.0 message.
    pub(crate) fn kind(&self) -> Option<Kind> {
        if self.string("jsonrpc").as_deref() != Some("2.0") {
            return None;
        }
        let id = self.get("id");
        match (self.get("method"), id) {
            (Some(_), Some(id)) => {
                // MCP forbids null as a request's id.
                let valid = !matches!(id.get().as_bytes().first(), Some(b'n' | b't' | b'f' | b'[' | b'{'));
                valid.then_some(Kind::Request {
                    method: self.string("method")?,
                })
            }
            (Some(_), None) => Some(Kind::Notification {
                method: self.string("method")?,
            }),
            (None, Some(_)) => (self.get("result").is_some() != self.get("error").is_some()).then_some(Kind::Response),
            (None, None) => None,
        }
    }

    /// The object with the value of `name` replaced.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let length: usize = self.0.iter().map(|(n, v)| n.len() + v.get().len() + 4).sum();
        let mut out = String::with_capacity(length + value.len() + 2);
        for (i, (member, old)) in self.0.iter().enumerate() {
            out.push(if i == 0 { '{' } else { ',' });
            out.push_str(&serde_json::to_string(member).expect("a string is JSON"));
            out.push(':');
            out.push_str(if member == name { value } else { old.get() });
        }
        out.push_str(if self.0.is_empty() { "{}" } else { "}" });
        out
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(4);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

/// The messages of a batch (MCP 2025-03-26), unparsed.
///
/// # Errors
/// If it is something else, or has more than [`MOST`]; of an array, only this is an error of its data.
pub(crate) fn batch(json: &[u8]) -> Result<Vec<&RawValue>, serde_json::Error> {
    struct Batch<'a>(Vec<&'a RawValue>);

    struct Array;
    impl<'de> Visitor<'de> for Array {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut messages = Vec::new();
            while let Some(message) = array.next_element()? {
                if messages.len() == MOST {
                    return Err(A::Error::custom("too long"));
                }
                messages.push(message);
            }
            Ok(messages)
        }
    }
    impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_seq(Array).map(Batch)
        }
    }
    serde_json::from_slice::<Batch<'_>>(json).map(|batch| batch.0)
}

/// Replaces line ends, which JSON allows only between tokens, so that the message is one line of stdio and one field of SSE.
pub(crate) fn one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Parses an id of the bridge. Some servers return numbers as strings, or as floating-point numbers.
pub(crate) fn number(json: &str) -> Option<u64> {
    let digits = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'))
        .unwrap_or(json);
    if let Ok(number) = digits.parse() {
        return Some(number);
    }
    // Below this, each integer has an exact floating-point representation.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let number: f64 = serde_json::from_str(json).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both bounds are checked"
    )]
    (number.fract() == 0.0 && (0.0..EXACT).contains(&number)).then_some(number as u64)
}

/// Why a text is not a valid answer, or no batch of messages; follows the word "it".
pub(crate) fn fault(json: &[u8]) -> String {
    let Ok(text) = str::from_utf8(json) else {
        return "is not UTF-8".to_owned();
    };
    let not_json = |error: serde_json::Error| format!("is not valid JSON (column {})", error.column());
    if text.trim_start().starts_with('[') {
        return match batch(json) {
            Err(error) if error.is_data() => format!("has more than {MOST} messages"),
            Err(error) => not_json(error),
            Ok(_) => "is in a batch itself".to_owned(),
        };
    }
    match serde_json::from_str::<Members<'_>>(text) {
        Err(error) => return not_json(error),
        Ok(members) if members.0.len() > MOST => return format!("has more than {MOST} members"),
        Ok(_) => {}
    }
    let Some(message) = Members::parse(json) else {
        return "has a member twice".to_owned();
    };
    if message.string("jsonrpc").as_deref() != Some("2.0") {
        return "is not JSON-RPC 2.0".to_owned();
    }
    match (message.get("result"), message.get("error")) {
        (Some(_), Some(_)) => "has both a result and an error".to_owned(),
        _ => "has neither a result nor an error".to_owned(),
    }
}

/// A JSON-RPC error. `id` is JSON.
pub(crate) fn error(id: &str, code: i32, message: &str) -> String {
    let message = serde_json::to_string(message).expect("a string is JSON");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn keeps_everything_except_what_it_replaces() {
        let json =
            br#"{"jsonrpc":"2.0", "id" : "a", "result": {"n": 12345678901234567890123, "x":[1, 2]}, "extra":1.0}"#;
        let members = Members::parse(json).unwrap();
        assert_eq!(members.kind(), Some(Kind::Response));
        assert_eq!(
            members.with("id", "7"),
            r#"{"jsonrpc":"2.0","id":7,"result":{"n": 12345678901234567890123, "x":[1, 2]},"extra":1.0}"#
        );
    }

    #[test]
    fn distinguishes_roles() {
        let kind = |json: &str| Members::parse(json.as_bytes()).and_then(|m| m.kind());
        let method = "m".to_owned();
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#),
            Some(Kind::Request { method: method.clone() })
        );
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","method":"m"}"#),
            Some(Kind::Notification { method })
        );
        for bad in [
            "[]",
            "1",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":2}"#,
        ] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn parses_ids_of_the_bridge() {
        for json in ["17", "\"17\"", "17.0", "1.7e1"] {
            assert_eq!(number(json), Some(17), "{json}");
        }
        for json in [
            "17.5", "-1", "null", "true", "\"\"", "\"a\"", "\"", "1e300", "[17]", "NaN", "",
        ] {
            assert_eq!(number(json), None, "{json}");
        }
    }

    #[test]
    fn parses_deep_nesting_without_recursion() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{}{}}}"#,
            "[".repeat(1_000_000),
            "]".repeat(1_000_000)
        );
        assert_eq!(
            Members::parse(deep.as_bytes()).and_then(|m| m.kind()),
            Some(Kind::Response)
        );
    }
}
