//! Envelopes that an attacker on either side of the bridge could write.

use bolero::check;
use serde_json::Value;
use service_kit::fuzz::{ITERATIONS, weave};

use crate::{
    envelope::{Kind, Members, batch, error, fault, number, one_line},
    scan::Scan,
};

const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    " ",
    "\n",
    "\r",
    "null",
    "true",
    "1",
    "-1",
    "1.5",
    "1e400",
    "\"2.0\"",
    "\"jsonrpc\"",
    "\"id\"",
    "\"method\"",
    "\"params\"",
    "\"result\"",
    "\"error\"",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":1",
    "\"id\":\"a\"",
    "\"id\":null",
    "\"method\":\"tools/call\"",
    "\"params\":{\"_meta\":{\"progressToken\":1}}",
    "\"result\":{}",
    "\"p\\u0061rams\":{}",
    "\\u0000",
    "\\ud800",
    "\\",
    "{}",
    "[]",
    "\"a\":1",
    "\u{e9}",
    "\u{2028}",
    "\u{1f600}",
];

#[test]
fn envelopes_keep_their_meaning() {
    check!(name = "envelope")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            envelope(bytes);
            let woven = weave(bytes, &WORDS);
            envelope(woven.as_bytes());
            envelope(format!("{{\"jsonrpc\":\"2.0\",{woven}}}").as_bytes());
            envelope(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{woven}}}").as_bytes());
        });
}

fn envelope(bytes: &[u8]) {
    let Some(members) = Members::parse(bytes) else { return };
    let changed = members.with("id", "\"ours\"");
    let again = Members::parse(changed.as_bytes()).expect("it stays an object");
    if let Some(id) = again.get("id") {
        assert_eq!(id.get(), "\"ours\"");
    }
    assert_eq!(members.get("id").is_some(), again.get("id").is_some());
    for name in ["jsonrpc", "method", "params", "result", "error", "a"] {
        assert_eq!(
            members.get(name).map(|value| value.get()),
            again.get(name).map(|value| value.get())
        );
    }
    // As one line, it has the same meaning.
    let mut line = bytes.to_vec();
    one_line(&mut line);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let (before, after) = (
        serde_json::from_slice::<Value>(bytes),
        serde_json::from_slice::<Value>(&line),
    );
    if let Ok(before) = &before {
        assert_eq!(after.as_ref().ok(), Some(before));
    }
    let Ok(theirs) = before else { return };
    match members.kind() {
        Some(Kind::Request { method }) => {
            assert_eq!(theirs["method"], Value::from(method));
            assert!(theirs["id"].is_string() || theirs["id"].is_number(), "{theirs}");
        }
        Some(Kind::Notification { method }) => {
            assert_eq!(theirs["method"], Value::from(method));
            assert!(theirs.get("id").is_none());
        }
        Some(Kind::Response) => assert!(theirs.get("method").is_none() && theirs.get("id").is_some()),
        None => {}
    }
    let id = members.get("id").map_or("null", |id| id.get());
    let text = error(id, -1, &String::from_utf8_lossy(bytes));
    let answer: Value = serde_json::from_str(&text).expect("an error is JSON");
    assert_eq!(answer["error"]["message"], Value::from(String::from_utf8_lossy(bytes)));
}

/// The result of a scan does not depend on the parts in which the bytes arrive, and agrees with a parser wherever one succeeds.
#[test]
fn a_scan_agrees_with_a_parser() {
    check!(name = "scan")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            scan(bytes);
            let woven = weave(bytes, &WORDS);
            scan(woven.as_bytes());
            scan(format!("{{\"jsonrpc\":\"2.0\",{woven}}}").as_bytes());
            scan(format!("[{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1}},{woven}]").as_bytes());
            scan(format!("{{\"result\":{woven},\"id\":7,\"jsonrpc\":\"2.0\"}}").as_bytes());
            scan(format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{woven}}}").as_bytes());
        });
}

fn scan(bytes: &[u8]) {
    let mut whole = Scan::default();
    whole.push(bytes);
    let mut parts = Scan::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, others) = rest.split_at(usize::from(rest[0] % 7 + 1).min(rest.len()));
        parts.push(part);
        rest = others;
    }
    assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
    // Follows the word "it".
    assert!(fault(bytes).starts_with("is ") || fault(bytes).starts_with("has "));
    if let Ok(messages) = batch(bytes) {
        assert!(whole.is_closed() && whole.is_batch());
        let each = messages.iter().flat_map(|message| {
            let mut scan = Scan::default();
            scan.push(message.get().as_bytes());
            scan.answers().collect::<Vec<_>>()
        });
        assert_eq!(whole.answers().collect::<Vec<_>>(), each.collect::<Vec<_>>());
    }
    let Some(members) = Members::parse(bytes) else { return };
    assert!(whole.is_closed());
    if let Some(answers) = whole.answers().next() {
        assert_eq!(members.get("id").and_then(|id| number(id.get())), Some(answers));
        assert!(members.get("method").is_none());
    } else if members.kind() == Some(Kind::Response) {
        // It is not an id of the bridge.
        let id = members.get("id").map_or("", |id| id.get());
        assert!(number(id).is_none() || id.len() > 64, "{id}");
    }
}
