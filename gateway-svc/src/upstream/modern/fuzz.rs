//! What hostile servers answer, and odd clients send, across the two eras.

use bolero::check;
use bytes::Bytes;
use serde_json::{Value, json};
use service_kit::fuzz::{ITERATIONS, weave};

use super::{
    reply::{Judged, judge},
    request::{Speaker, prepare},
};
use crate::upstream::{
    client::Profile,
    message::{Message, Outgoing},
};

/// Up to five of these members, and what is woven of them, which is seldom JSON.
fn texts(bytes: &[u8], members: &[&str]) -> [String; 2] {
    let some = bytes
        .iter()
        .take(5)
        .map(|byte| members[usize::from(*byte) % members.len()]);
    let some: Vec<&str> = some.collect();
    [some.join(","), weave(bytes, members)]
}

const ANSWERED: [&str; 21] = [
    "{",
    "}",
    ":",
    ",",
    "\"a\":null",
    "\"b\":[{ \"x\" : 1.0 }]",
    "\"c\" : -1e3",
    "\"_meta\":{\"k\":2}",
    "\"resultType\":\"complete\"",
    "\"resultType\":\"input_required\"",
    "\"result\\u0054ype\":\"complete\"",
    "\"inputRequests\":{\"k\":{\"method\":\"roots/list\"}}",
    "\"inputRequests\":",
    "{\"method\":\"elicitation/create\",\"params\":{\"mode\":\"url\"}}",
    "\"requestState\":\"s\\u0000\"",
    "\"ttlMs\":1",
    "\"cacheScope\":\"public\"",
    "\"content\":[]",
    "\"k\"",
    "\"\u{e9}\":\"\\n\"",
    "\"\\ud800\":1",
];

#[test]
fn older_clients_get_all_of_a_result_but_what_is_newer() {
    check!(name = "modern_answer")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let request = Outgoing::new(7, "tools/call", b"{}", &[], None);
            let around = |inner: &String| {
                [
                    format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{{inner}}}}}"),
                    format!("{{\"result\":{{{inner}}},\"jsonrpc\":\"2.0\",\"id\":7}}"),
                ]
            };
            for text in texts(bytes, &ANSWERED).iter().flat_map(around) {
                // What this parser refuses is the client's affair.
                let Ok(mut theirs) = serde_json::from_str::<Value>(&text) else {
                    continue;
                };
                let Ok(Message::Reply(reply)) = Message::parse(text.into(), &request, false) else {
                    continue;
                };
                match judge(reply) {
                    Ok(Judged::Complete(reply)) => {
                        let result = theirs["result"].as_object_mut().expect("it is one");
                        for name in ["resultType", "ttlMs", "cacheScope"] {
                            result.remove(name);
                        }
                        theirs["id"] = "client".into();
                        let passed = reply.with_id(b"\"client\"").concat();
                        assert_eq!(serde_json::from_slice::<Value>(&passed).expect("it stays JSON"), theirs);
                    }
                    Ok(Judged::Asks(mut questions)) => {
                        assert_eq!(theirs["result"]["resultType"], "input_required");
                        while let Some(question) = questions.next() {
                            let asked: Value = serde_json::from_slice(&question.with_id(b"1")).expect("it is JSON");
                            assert_eq!(asked["id"], 1);
                        }
                    }
                    Err(_) => {}
                }
            }
        });
}

const SENT: [&str; 20] = [
    "{",
    "}",
    ":",
    ",",
    "\"",
    "1",
    "null",
    "\"name\":\"t\\n\"",
    "\"arguments\":{\"a\":1}",
    "\"_meta\":{\"progressToken\":7}",
    "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":1,\"k\":2}",
    "\"_meta\":",
    "\"io.modelcontextprotocol/logLevel\":\"error\"",
    "\"requestState\":1",
    "\"inputResponses\":{}",
    "\"\\u005fmeta\":{}",
    "\"k\"",
    "\u{e9}",
    "\\ud800",
    "\n",
];

#[test]
fn modern_servers_get_all_of_a_request_and_what_is_the_gateways_to_say() {
    let profile = Profile::new("{}", r#"{"name":"c"}"#);
    check!(name = "modern_request")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for params in texts(bytes, &SENT).map(|inner| format!("{{{inner}}}")) {
                let Ok(mut theirs) = serde_json::from_str::<Value>(&params) else {
                    continue;
                };
                let request = Outgoing::new(7, "tools/call", params.as_bytes(), &[], Some(Bytes::from_static(b"1")));
                for request in [
                    request.clone(),
                    request.again(8, Bytes::from_static(b"\"requestState\":\"s\"")),
                ] {
                    let speaker = Speaker {
                        profile: &profile,
                        level: Some("\"debug\""),
                    };
                    let Ok(prepared) = prepare(&request, speaker) else {
                        continue;
                    };
                    let body: Value = serde_json::from_slice(&prepared.body).expect("it is JSON");
                    assert_eq!(body["id"], request.id);
                    let params = theirs.as_object_mut().expect("it is one");
                    if request.inputs.is_some() {
                        params.remove("inputResponses");
                        params.insert("requestState".to_owned(), "s".into());
                    }
                    let meta = params.entry("_meta").or_insert_with(|| json!({}));
                    let meta = meta.as_object_mut().expect("else it is refused");
                    meta.entry("io.modelcontextprotocol/logLevel")
                        .or_insert_with(|| "debug".into());
                    meta.insert(
                        "io.modelcontextprotocol/protocolVersion".to_owned(),
                        "2026-07-28".into(),
                    );
                    meta.insert("io.modelcontextprotocol/clientCapabilities".to_owned(), json!({}));
                    meta.insert("io.modelcontextprotocol/clientInfo".to_owned(), json!({"name": "c"}));
                    if let Some(token) = meta.get_mut("progressToken") {
                        *token = request.id.into();
                    }
                    assert_eq!(body["params"], theirs);
                }
            }
        });
}
