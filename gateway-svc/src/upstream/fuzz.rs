//! What hostile upstreams send.

use bolero::check;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use service_kit::fuzz::{ITERATIONS, pieces, split, weave};

use super::{
    message::{Message, Outgoing},
    push_event,
    sse::Events,
};

const LIMIT: usize = 1 << 20;

#[test]
fn events_are_the_same_however_the_stream_is_cut() {
    let words = [
        "data",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "data: ",
        "data:{}",
        "event: message",
        "event",
        "event: ping",
        "id: 1",
        "retry: 5",
        ": ping",
        "\u{feff}",
        "data:\n",
    ];
    check!(name = "sse")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let (cuts, rest) = split(bytes);
            for stream in [rest, weave(rest, &words).as_bytes()] {
                let whole = events(&[stream]);
                assert_eq!(whole, reference(stream), "{stream:?}");
                assert_eq!(events(&pieces(stream, cuts)), whole, "{stream:?} {cuts:?}");
                let single: Vec<&[u8]> = stream.chunks(1).collect();
                assert_eq!(events(&single), whole, "{stream:?}");
                assert!(whole.iter().map(Bytes::len).sum::<usize>() <= stream.len());
            }
        });
}

fn events(pieces: &[&[u8]]) -> Vec<Bytes> {
    let (mut events, mut found) = (Events::default(), Vec::new());
    for piece in pieces {
        events.push(Bytes::copy_from_slice(piece), LIMIT).expect("it is short");
        while let Some(event) = events.next() {
            found.push(event);
        }
        // What was looked through is not looked through again with the next piece: else a stream that drips costs its square.
        assert_eq!(events.unsearched(), 0);
    }
    found
}

/// WHATWG HTML, section 9.2.6, word for word, as far as it is about messages.
fn reference(stream: &[u8]) -> Vec<Bytes> {
    let mut rest = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut data, mut kind, mut found): (Vec<u8>, Vec<u8>, _) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = &rest[..end];
        rest = &rest[end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
        if line.is_empty() {
            data.pop();
            let kind = std::mem::take(&mut kind);
            if !data.is_empty() && matches!(kind.as_slice(), b"" | b"message") {
                found.push(Bytes::from(std::mem::take(&mut data)));
            }
            data.clear();
            continue;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        if field == b"event" {
            kind = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        }
        if field == b"data" {
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            data.push(b'\n');
        }
    }
    found
}

/// What is sent to clients comes back as it was, with a blank for a line end, which JSON has between tokens only.
#[test]
fn an_event_is_read_as_it_was_written() {
    check!(name = "sse_written")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let (one, other) = split(bytes);
            let mut out = BytesMut::new();
            push_event(&mut out, &[one, other]);
            let wanted: Vec<u8> = one
                .iter()
                .chain(other)
                .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })
                .collect();
            let found = reference(&out);
            if wanted.is_empty() {
                assert!(found.is_empty());
            } else {
                assert_eq!(found, [Bytes::from(wanted)]);
            }
        });
}

const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    " ",
    "null",
    "1",
    "7",
    "-7",
    "7.0",
    "7e0",
    "\"7\"",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":7",
    "\"id\":null",
    "\"id\":8",
    "\"method\":\"notifications/progress\"",
    "\"method\":\"notifications/tools/list_changed\"",
    "\"method\":\"x\"",
    "\"params\":{\"progressToken\":7,\"progress\":1}",
    "\"params\":{}",
    "\"result\":{}",
    "\"result\":{\"content\":[]}",
    "\"result\":1",
    "\"error\":{\"code\":-1,\"message\":\"m\"}",
    "\"error\":{}",
    "\"Result\":{}",
    "\"id\"",
    "\"result\"",
    "\"error\"",
    "\\u0000",
    "\\ud800",
    "\\",
    "\u{17f}",
    "\u{e9}",
    "\n",
    "{}",
];

#[test]
fn answers_are_passed_on_under_the_clients_id_alone() {
    check!(name = "upstream_message")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let token = Bytes::from_static(b"\"token\"");
            let outgoing = Outgoing::new(7, "tools/call", b"{}", &[], Some(token));
            let woven = weave(bytes, &WORDS);
            let wrapped = format!("{{\"jsonrpc\":\"2.0\",{woven}}}");
            let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{{woven}}}}}");
            for text in [bytes, woven.as_bytes(), wrapped.as_bytes(), answer.as_bytes()] {
                for refused in [false, true] {
                    let Ok(message) = Message::parse(Bytes::copy_from_slice(text), &outgoing, refused) else {
                        continue;
                    };
                    let theirs: Value = match serde_json::from_slice(text) {
                        Ok(theirs) => theirs,
                        // The inside of an answer is its client's affair.
                        Err(_) => continue,
                    };
                    match message {
                        Message::Reply(reply) => {
                            let passed = reply.with_id(b"\"client\"").concat();
                            let mut passed: Value = serde_json::from_slice(&passed).expect("it stays JSON");
                            assert_eq!(passed["id"], "client");
                            passed["id"] = theirs["id"].clone();
                            assert_eq!(passed, theirs);
                            assert_ne!(reply.result().is_some(), reply.error().is_some());
                        }
                        Message::Notification(passed) => {
                            let passed: Value = serde_json::from_slice(&passed).expect("it stays JSON");
                            assert_eq!(passed["method"], theirs["method"]);
                            assert!(passed.get("id").is_none());
                        }
                        Message::Request(request) => {
                            assert_eq!(theirs["method"], Value::from(&*request.method));
                            let id = request.id();
                            assert_eq!(theirs["id"], serde_json::from_slice::<Value>(&id).expect("it is JSON"));
                            let passed = request.with_id(b"\"gateway\"", None);
                            let mut passed: Value = serde_json::from_slice(&passed).expect("it stays JSON");
                            assert_eq!(passed["id"], "gateway");
                            passed["id"] = theirs["id"].clone();
                            if request.progress_token().is_some() {
                                assert_eq!(passed["params"]["_meta"]["progressToken"], "gateway");
                                passed["params"]["_meta"]["progressToken"] =
                                    theirs["params"]["_meta"]["progressToken"].clone();
                            }
                            assert_eq!(passed, theirs);
                        }
                        Message::Withdrawn { text, id } => {
                            let id: Value = serde_json::from_slice(&text[id]).expect("it is JSON");
                            assert_eq!(theirs["params"]["requestId"], id);
                        }
                        Message::Progress(_) | Message::ListChanged(_) | Message::Nothing => {}
                    }
                }
            }
        });
}
