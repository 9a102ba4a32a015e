//! Texts as an attacker writes them: what is parsed here means the same to serde_json.

use std::borrow::Cow;

use bolero::check;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use service_kit::fuzz::{ITERATIONS, weave};

use super::{JsonError, Object, check as alike, elements, push_string, unescape};

/// Parts of JSON texts, and what parsers read differently.
const WORDS: [&str; 64] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    " ",
    "\n",
    "\t",
    "\r",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.5",
    "1e5",
    "1E+400",
    "0e99999",
    "123456789012345678901234567890",
    ".",
    "e",
    "-",
    "+",
    "00",
    "\\u0041",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\n",
    "\\\"",
    "\\\\",
    "\\/",
    "\\x",
    "\"a\"",
    "\"a\":",
    "\"id\":",
    "\"method\":",
    "\"params\":",
    "\"p\\u0061rams\":",
    "\"Params\":",
    "\"jsonrpc\":\"2.0\"",
    "\"__proto__\":",
    "{}",
    "[]",
    "\"\"",
    "{\"a\":1}",
    "[1,2]",
    "[[[[[[[[[[",
    "]]]]]]]]]]",
    "{\"a\":{\"a\":{\"a\":",
    "}}}",
    "\u{e9}",
    "\u{1f600}",
    "\"a\\u0062\"",
    "12",
    "3.",
    "NaN",
    "Infinity",
];

/// The members of an object in their order, as serde_json reads them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Map).map(Self)
    }
}

#[test]
fn objects_are_read_as_serde_json_reads_them() {
    check!(name = "json_object")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                same_object(text);
            }
            let woven = weave(bytes, &WORDS);
            same_object(&woven);
            // Random words are seldom an object.
            same_object(&format!("{{\"a\":{woven}}}"));
            same_object(&format!("{{\"a\":1,{woven}:2}}"));
        });
}

fn same_object(text: &str) {
    let both = Object::parse(text).ok().filter(|_| alike(text).is_ok());
    let at_once = Object::parse_alike(text).ok();
    assert_eq!(
        at_once.map(|object| object.into_members().collect::<Vec<_>>()),
        both.map(|object| object.into_members().collect()),
        "{text:?}"
    );
    let theirs = serde_json::from_str::<Members<'_>>(text);
    match (Object::parse(text), theirs) {
        (Ok(ours), Ok(theirs)) => {
            let ours: Vec<(&str, &str)> = ours.iter().collect();
            let theirs: Vec<(&str, &str)> = theirs
                .0
                .iter()
                .map(|(name, value)| (name.as_str(), value.get()))
                .collect();
            assert_eq!(ours, theirs, "{text:?}");
            again(&ours);
        }
        (Ok(_), Err(error)) => panic!("only we take {text:?}: {error}"),
        (Err(JsonError::Duplicate), Ok(theirs)) => {
            let mut names: Vec<&String> = theirs.0.iter().map(|(name, _)| name).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert!(names.len() < all, "{text:?}");
        }
        (Err(JsonError::TooDeep | JsonError::TooMany), _) | (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("only serde_json takes {text:?}: {error}"),
    }
}

/// Written again from its parts, an object is the same.
fn again(members: &[(&str, &str)]) {
    let mut text = b"{".to_vec();
    for (index, (name, value)) in members.iter().enumerate() {
        text.extend(if index > 0 { "," } else { "" }.bytes());
        push_string(&mut text, name);
        text.push(b':');
        text.extend(value.bytes());
    }
    text.push(b'}');
    let text = String::from_utf8(text).expect("it is made of texts");
    let object = Object::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(object.iter().collect::<Vec<_>>(), members);
    for (name, value) in members {
        assert_eq!(object.get(name), Some(*value));
    }
}

#[test]
fn serde_json_accepts_what_is_accepted_here() {
    check!(name = "json_alike")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let woven = weave(bytes, &WORDS);
            for text in [woven.as_str(), &format!("[{woven}]"), &format!("{{\"a\":{woven}}}")] {
                let theirs = serde_json::from_str::<Value>(text);
                match (alike(text), &theirs) {
                    (Ok(()), Err(error)) => panic!("only we take {text:?}: {error}"),
                    (Err(JsonError::Duplicate | JsonError::TooDeep | JsonError::TooMany), _) => {}
                    (Err(error), Ok(_)) => panic!("only serde_json takes {text:?}: {error}"),
                    _ => {}
                }
                // The parts of an array, and nothing else.
                if let Ok(parts) = elements(text, usize::MAX) {
                    let theirs: Vec<&RawValue> = serde_json::from_str(text).expect("it is an array");
                    assert_eq!(parts, theirs.iter().map(|part| part.get()).collect::<Vec<_>>());
                }
            }
        });
}

#[test]
fn texts_are_unescaped_as_serde_json_does() {
    check!(name = "json_string")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let text = format!("\"{}\"", weave(bytes, &WORDS));
            if let Ok(theirs) = serde_json::from_str::<String>(&text) {
                assert_eq!(unescape(&text), Some(Cow::Owned(theirs.clone())));
                let mut out = Vec::new();
                push_string(&mut out, &theirs);
                assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(theirs));
            }
        });
}

/// Parsers that ignore case, and those that normalize, would read the known name.
#[test]
fn names_that_only_look_known_are_found() {
    check!(name = "json_names")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let known = ["params", "method", "id"];
            let name = weave(
                bytes,
                &[
                    "p", "a", "r", "m", "s", "P", "A", "R", "M", "S", "i", "I", "d", "D", "_", "-", " ", "\u{212a}",
                    "\u{131}",
                ],
            );
            let text = format!("{{{}:1}}", Value::from(name.as_str()));
            let Ok(object) = Object::parse(&text) else {
                panic!("{text}")
            };
            let taken = known.iter().any(|known| {
                let by_case = name.to_lowercase() == *known || name.to_uppercase() == known.to_uppercase();
                let by_letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                by_case || (name.is_ascii() && by_letters.eq_ignore_ascii_case(known))
            });
            if taken && !known.contains(&name.as_str()) {
                assert!(object.lookalike(&known).is_some(), "{name:?}");
            }
            if known.contains(&name.as_str()) {
                assert_eq!(object.lookalike(&known), None);
            }
        });
}
