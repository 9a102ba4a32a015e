//! Messages, session handles and ids of events as an attacker sends them.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bolero::check;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::Value;
use service_kit::fuzz::{ITERATIONS, split, weave};

use super::{
    media::{accepts, content_is_json},
    resumable::{Place, Resumable},
    rpc::{Kind, Message},
    session::Sessions,
};
use crate::{
    domain::{ConsumerKind, ConsumerRef},
    json::RPC_MEMBERS,
    upstream::{Profile, Revision},
};

const WORDS: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    " ",
    "null",
    "true",
    "1",
    "-1",
    "1.5",
    "1e5",
    "\"2.0\"",
    "\"jsonrpc\"",
    "\"id\"",
    "\"method\"",
    "\"params\"",
    "\"result\"",
    "\"error\"",
    "\"Jsonrpc\"",
    "\"ID\"",
    "\"Method\"",
    "\"param\u{17f}\"",
    "\"p\\u0061rams\"",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":1",
    "\"id\":\"a\"",
    "\"id\":null",
    "\"method\":\"tools/call\"",
    "\"method\":\"ping\"",
    "\"params\":{}",
    "\"params\":{\"name\":\"x\",\"arguments\":{}}",
    "\"result\":{}",
    "\"error\":{\"code\":1,\"message\":\"m\"}",
    "\"_meta\":{}",
    "\"a\":1",
    "\\u0000",
    "\\ud800",
    "{}",
    "[]",
    "-",
    "\\",
    "\u{e9}",
    "\u{1f600}",
    "\n",
    "\"\":0",
];

#[test]
fn messages_are_what_serde_json_reads_in_them() {
    check!(name = "rpc_message")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                message(text);
            }
            let woven = weave(bytes, &WORDS);
            message(&woven);
            message(&format!("{{\"jsonrpc\":\"2.0\",{woven}}}"));
            message(&format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{woven}}}"
            ));
        });
}

fn message(text: &str) {
    let parsed = match Message::parse(text) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            let answer: Value =
                serde_json::from_slice(&malformed.error.under(malformed.id)).expect("an answer is JSON");
            let id = &answer["id"];
            assert!(id.is_null() || id.is_string() || id.is_number(), "{text:?}: {answer}");
            return;
        }
    };
    let theirs: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("only we take {text:?}: {error}"));
    assert_eq!(theirs["jsonrpc"], "2.0");
    match &parsed.kind {
        Kind::Request { id, method } => {
            assert_eq!(theirs["method"], Value::from(method.as_ref()));
            assert_eq!(theirs["id"], serde_json::from_str::<Value>(id).expect("an id is JSON"));
        }
        Kind::Notification { method } => {
            assert_eq!(theirs["method"], Value::from(method.as_ref()));
            assert!(theirs.get("id").is_none());
        }
        Kind::Response {
            id,
            outcome: (name, value),
        } => {
            assert!(theirs.get("method").is_none());
            assert_eq!(theirs["id"], serde_json::from_str::<Value>(id).expect("an id is JSON"));
            assert_eq!(
                theirs[name],
                serde_json::from_str::<Value>(value).expect("a value is JSON")
            );
        }
    }
    if let Some(params) = &parsed.params {
        let members: serde_json::Map<String, Value> = params
            .iter()
            .map(|(name, value)| (name.to_owned(), serde_json::from_str(value).expect("a value is JSON")))
            .collect();
        assert_eq!(theirs["params"], Value::Object(members));
    }
    for (name, value) in &parsed.extra {
        assert!(
            !RPC_MEMBERS.iter().any(|known| known.eq_ignore_ascii_case(name)),
            "{text:?}"
        );
        assert_eq!(
            theirs[name.as_ref()],
            serde_json::from_str::<Value>(value).expect("a value is JSON")
        );
    }
}

#[test]
fn session_handles_open_for_whom_they_were_made_and_no_others() {
    let sessions = AssertUnwindSafe(Sessions::new([1; 32]));
    let (now, gateway) = (
        UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        ConsumerRef::new(ConsumerKind::Gateway, "g"),
    );
    let open = |handle: &str, subject: &str, now: SystemTime| sessions.open(handle, subject, &gateway, now);
    check!(name = "session_handle")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                assert_eq!(open(text, "users/a", now), None);
            }
            let encoded = data_encoding::BASE64URL_NOPAD.encode(bytes);
            assert_eq!(open(&encoded, "users/a", now), None);

            let (subject, change) = split(bytes);
            let subject = format!("users/{}", data_encoding::HEXLOWER.encode(subject));
            let handle = sessions.seal(Revision::LATEST, true, &Profile::default(), &subject, &gateway, now);
            assert!(open(&handle, &subject, now).is_some());
            let mut changed = handle.clone().into_bytes();
            for pair in change.chunks_exact(2) {
                let at = usize::from(pair[0]) % changed.len();
                changed[at] = pair[1] & 0x7f;
            }
            let changed = String::from_utf8(changed).expect("it is ASCII");
            assert_eq!(
                open(&changed, &subject, now).is_some(),
                changed == handle,
                "{handle} {changed}"
            );
        });
}

#[test]
fn media_types_are_read_without_falling_over() {
    let words = [
        "application/json",
        "text/event-stream",
        "*/*",
        "*",
        "/",
        ",",
        ";",
        "q=0",
        " ",
        "\t",
        "application/*",
        "TEXT",
        "\"",
    ];
    check!(name = "media_types")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for value in [bytes, weave(bytes, &words).as_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(value) else {
                    continue;
                };
                let headers = HeaderMap::from_iter([(ACCEPT, value.clone()), (CONTENT_TYPE, value.clone())]);
                let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
                if content_is_json(&headers) {
                    assert!(text.contains("application/json"), "{text}");
                }
                if accepts(&headers, "text/event-stream") {
                    assert!(
                        ["text/event-stream", "text/*", "*/*"]
                            .iter()
                            .any(|range| text.contains(range)),
                        "{text}"
                    );
                }
            }
        });
}

#[test]
fn ids_of_events_name_one_place() {
    let own = AssertUnwindSafe(Resumable::new("0123abcd".to_owned()));
    let words = [
        "0123abcd",
        "-",
        "0",
        "1",
        "f",
        "ffffffffffffffff",
        "+",
        "_",
        " ",
        "\u{661}",
    ];
    check!(name = "last_event_id")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for text in [String::from_utf8_lossy(bytes).into_owned(), weave(bytes, &words)] {
                let parts: Vec<&str> = text.split('-').collect();
                let expected = match parts[..] {
                    [replica, stream, number] => numbers(stream, number).map(|(stream, number)| match replica {
                        "0123abcd" => Place::Here { stream, number },
                        _ => Place::Elsewhere,
                    }),
                    _ => None,
                };
                assert_eq!(own.place(&text), expected, "{text:?}");
            }
        });
}

/// Two numbers in hexadecimal digits.
fn numbers(one: &str, other: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let digits = text.chars().map(|digit| digit.to_digit(16).map(u64::from));
        let read = |number: u64, digit: Option<u64>| number.checked_mul(16)?.checked_add(digit?);
        (!text.is_empty())
            .then(|| digits.into_iter().try_fold(0, read))
            .flatten()
    };
    Some((number(one)?, number(other)?))
}
