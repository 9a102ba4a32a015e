//! Bodies that pass, in pieces of several sizes.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use pretty_assertions::assert_eq;

use super::{Rules, Screen, events::Events, held::Held, hide_secret_kind, screen};
use crate::redact::Redactor;

/// As in `held.rs`.
const HELD: usize = 64 << 10;
const ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no s3cr3t-canary"}}"#;
const MASKED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no [redacted]"}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0", "id":1,"result":"s3cr3t-canary"}"#;
const MASKED_RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":"[redacted]"}"#;

fn rules(description: Option<&str>) -> Rules {
    Rules {
        redactor: Arc::new(Redactor::new(["s3cr3t-canary"])),
        description: description.map(str::to_owned),
    }
}

fn whole(description: Option<&str>) -> Screen {
    Screen::Whole(Held::new(rules(description)))
}

fn events(description: Option<&str>) -> Screen {
    Screen::Events(Box::new(Events::new(rules(description))))
}

/// What passes of the body, in pieces of each size.
fn passed(screen: impl Fn() -> Screen, body: &str) -> String {
    let passed = [1, 7, 1 << 20].map(|size| {
        let mut screen = screen();
        let mut out: Vec<u8> = body
            .as_bytes()
            .chunks(size)
            .flat_map(|piece| screen.push(piece))
            .collect();
        out.extend(screen.finish());
        String::from_utf8(out).unwrap()
    });
    let [first, others @ ..] = passed;
    others.iter().for_each(|other| assert_eq!(*other, first));
    first
}

#[test]
fn masks_errors_and_nothing_else() {
    assert_eq!(passed(|| whole(None), ERROR), MASKED);
    assert_eq!(passed(|| whole(None), &format!("{RESULT}\n")), format!("{RESULT}\n"));
    let stream = |message: &str, end: &str| {
        [": hello", "event: message", "id: 1"]
            .map(|line| format!("{line}{end}"))
            .concat()
            + &format!("data: {message}{end}{end}data: {RESULT}{end}{end}: end")
    };
    for end in ["\n", "\r", "\r\n"] {
        assert_eq!(passed(|| events(None), &stream(ERROR, end)), stream(MASKED, "\n"));
        assert_eq!(passed(|| events(None), &stream(RESULT, end)), stream(RESULT, "\n"));
    }
}

#[test]
fn masks_what_describes_the_server() {
    assert_eq!(passed(|| whole(Some("1")), RESULT), MASKED_RESULT);
    assert_eq!(passed(|| whole(Some("1")), ERROR), MASKED);
    assert_eq!(
        passed(|| events(Some("1")), &format!("data: {RESULT}\n\n")),
        format!("data: {MASKED_RESULT}\n\n")
    );
    let tools = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":["{}","KEY"]}}"#,
        "x".repeat(10 * HELD)
    );
    let (said, masked) = (
        tools.replace("KEY", "s3cr3t-canary"),
        tools.replace("KEY", "[redacted]"),
    );
    assert!(passed(|| whole(Some("1")), &said) == masked);
}

#[test]
fn a_description_that_is_too_long_does_not_pass() {
    let long = format!("[\"{}", "s3cr3t-canary ".repeat((17 << 20) / 14));
    for (mut screen, body, begins) in [
        (
            whole(Some("\"a\"")),
            long.clone(),
            r#"{"jsonrpc":"2.0","id":"a","error""#,
        ),
        (
            events(Some("\"a\"")),
            format!("data: {long}\ndata: s3cr3t-canary\n\n"),
            r#"data: {"jsonrpc":"2.0","id":"a","error""#,
        ),
    ] {
        let mut told = screen.push(body.as_bytes());
        told.extend(screen.finish());
        let told = String::from_utf8(told).unwrap();
        assert!(told.starts_with(begins) && !told.contains("s3cr3t"), "{}", told.len());
    }
}

/// As the specification reads it: one message in several lines, after a byte order mark.
#[test]
fn an_event_is_one_message() {
    let (start, end) = ERROR.split_at(24);
    let data = format!("\u{feff}data:{start}\ndata\n: comment\ndata: {end}\nid: 7\n\n");
    assert_eq!(
        passed(|| events(None), &data),
        format!(": comment\nid: 7\ndata: {MASKED}\n\n")
    );
    let lines = "data: {\ndata: \"jsonrpc\":\"2.0\", \"id\":1,\ndata\ndata: \"result\":{}}\n\n";
    assert_eq!(passed(|| events(None), lines), lines.replace("data\n", "data: \n"));
    // No field that means something.
    let other = format!("data: {RESULT}\n{ERROR}\ndatas: {ERROR}\n data: {ERROR}\nretry: 5\n\n");
    assert_eq!(passed(|| events(None), &other), format!("retry: 5\ndata: {RESULT}\n\n"));
}

#[test]
fn bare_json_in_a_stream_is_a_message() {
    for blank in ["", "\u{feff}", "\r\n \n", &" ".repeat(100)] {
        let told = passed(|| events(None), &format!("{blank}{ERROR}"));
        assert!(told.ends_with(MASKED) && !told.contains("s3cr3t"), "{told}");
    }
}

#[test]
fn a_media_type_has_no_secret() {
    let kept = |kind: &'static str| {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        hide_secret_kind(&mut headers, &rules(None).redactor);
        headers[CONTENT_TYPE] == kind
    };
    assert!(kept("text/html; charset=utf-8"));
    assert!(!kept("application/S3CR3T-canary"));
}

/// The body may be shorter than it says.
#[test]
fn a_stated_length_does_not_let_pass() {
    let stated = [("content-type", "application/json"), ("content-length", "70000")];
    let headers = stated
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    assert_eq!(passed(|| screen(&headers, rules(None)).unwrap(), ERROR), MASKED);
}

/// The gateway may read what is not a message to the bridge.
#[test]
fn what_is_not_read_as_a_message_is_masked_too() {
    let many: String = (0..1001).map(|n| format!(r#","{n}":0"#)).collect();
    let error = format!("{}{many}}}", &ERROR[..ERROR.len() - 1]);
    assert!(!passed(|| whole(None), &error).contains("s3cr3t"));
}

#[test]
fn what_is_long_passes_before_its_end() {
    let long = "x".repeat(HELD + 1);
    let mut body = whole(None);
    assert_eq!(body.push(long.as_bytes()), long.as_bytes());
    assert_eq!(body.push(b"yz"), b"yz");
    let mut stream = events(None);
    assert_eq!(
        stream.push(format!("data: {long}").as_bytes()),
        format!("data: {long}").as_bytes()
    );
    assert_eq!(stream.push(b"yz\n"), b"yz");
    assert_eq!(stream.push(b"id: 1\ndata: end\n\n"), b"\nid: 1\ndata: end\n\n");
    assert_eq!(
        stream.push(format!("data: {ERROR}\n\n").as_bytes()),
        format!("data: {MASKED}\n\n").as_bytes()
    );
}
