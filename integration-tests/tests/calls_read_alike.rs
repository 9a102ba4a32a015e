//! An upstream receives exactly the call that was authorized: whatever a client sends, every JSON parser behind the
//! gateway parses the same tool and arguments, or the gateway rejects the message.
//!
//! Tools: go, node, python

use std::fs;

use integration_tests::{
    Stack,
    chance::Chance,
    script::{go, node, python},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::{Value, json};

/// Members that some parser may mistake for one of a call, and their values.
const LOOKALIKES: [&str; 24] = [
    r#""Params":{"name":"headers","arguments":{}}"#,
    r#""paramſ":{"name":"headers","arguments":{}}"#,
    r#""param\u017f":{"name":"headers","arguments":{}}"#,
    r#""params_":{"name":"headers"}"#,
    r#""METHOD":"tools/list""#,
    r#""method ":"tools/list""#,
    r#""Name":"headers""#,
    r#""NAME":"headers""#,
    r#""n\u0061me":"headers""#,
    r#""name":"headers""#,
    r#""na-me":"headers""#,
    r#""Arguments":{"text":"other"}"#,
    r#""argumentſ":{"text":"other"}"#,
    r#""arguments":{"text":"other"}"#,
    r#""task":{"ttl":1}"#,
    r#""Task":{"ttl":1}"#,
    r#""tasK":{"ttl":1}"#,
    r#""_Meta":{}"#,
    r#""meta":{"progressToken":9}"#,
    r#""İd":7"#,
    r#""later":{"name":"headers"}"#,
    r#""io.example/x":[1,2]"#,
    r#""params":{"name":"headers"}"#,
    r#""jsonRPC":"1.0""#,
];
const VALUES: [&str; 22] = [
    r#""plain""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\udc00\ud83d""#,
    r#""\u0000""#,
    "\"\u{2028}\"",
    "1",
    "-0",
    "1.0",
    "1e3",
    "1E+3",
    "1e400",
    "-1e999",
    "1e-400",
    "12345678901234567890",
    "0.1000000000000000055511151231257827",
    "01",
    "NaN",
    r#"{"a":1,"a":2}"#,
    r#"{"a":{"b":1},"a":{"c":2}}"#,
    r#"[{"x":1,"\u0078":2}]"#,
    "[[[[[[1]]]]]]",
];
const NAMES: [&str; 8] = ["text", "Text", "name", "method", "é", "e\\u0301", "\\u0074ext", ""];

fn members(chance: &mut Chance, known: Vec<String>) -> String {
    let mut all = known;
    if chance.below(3) == 0 {
        let at = chance.below(all.len() + 1);
        all.insert(at, chance.of(&LOOKALIKES).to_owned());
    }
    format!("{{{}}}", all.join(chance.often(",", &[" , ", ",,", "\t,\r"])))
}

fn envelope(chance: &mut Chance, id: usize) -> String {
    let arguments: Vec<_> = (0..chance.below(4))
        .map(|_| format!("\"{}\":{}", chance.of(&NAMES), chance.of(&VALUES)))
        .collect();
    let arguments = members(chance, arguments);
    let name = chance.often(
        r#""good__echo""#,
        &[r#""good\u005f_echo""#, r#""good__ECHO""#, r#""good__headers""#, "1"],
    );
    let mut params = vec![format!("\"name\":{name}"), format!("\"arguments\":{arguments}")];
    if chance.below(4) == 0 {
        params.push(format!("\"_meta\":{}", members(chance, vec![r#""k":1"#.to_owned()])));
    }
    let params = members(chance, params);
    let method = chance.often(
        r#""method":"tools/call""#,
        &[r#""method":"tools\/call""#, r#""m\u0065thod":"tools/call""#],
    );
    let text = members(
        chance,
        vec![
            r#""jsonrpc":"2.0""#.to_owned(),
            format!("\"id\":{id}"),
            method.to_owned(),
            format!("\"params\":{params}"),
        ],
    );
    format!(
        "{}{text}{}",
        chance.often("", &[" ", "\u{feff}", "// a\n"]),
        chance.often("", &["\n", "x", "{}"])
    )
}

/// Parses the message with serde_json, in the format of `go/read_calls/main.go`.
fn read(text: &str) -> Value {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Number(number) => {
                let number = number.as_f64().expect("every number here is a double");
                // Parsers differ in the sign of zero.
                json!(format!("{:016x}", if number == 0.0 { 0.0 } else { number }.to_bits()))
            }
            Value::Array(values) => values.iter().map(plain).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
            other => other.clone(),
        }
    }
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return Value::Null;
    };
    let params = &message["params"];
    json!([
        message["jsonrpc"],
        message["method"],
        params["name"],
        plain(&params["arguments"]),
        params["task"]
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parser_sees_the_authorized_call() {
    let stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let upstream = RecordingUpstream::start().await;
    admin.publish("good", walk::remote(&upstream.url())).await;
    alice.install("good", None, &[]).await;
    admin.gateway("team").await;
    // Only this one of the two tools is assigned.
    admin.assign("team", "good", "echo").await;
    let client = stack.mcp("team", &alice).await;
    let mut chance = Chance(1);
    let (mut sent, mut forwarded) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for id in 1..=600 {
        let text = envelope(&mut chance, id);
        upstream.forget();
        let reply = client.post_text(text.clone()).await;
        let mut calls = upstream.calls();
        match calls.pop() {
            Some(call) => {
                assert!(calls.is_empty(), "one message made several calls: {text}");
                forwarded.push(String::from_utf8(call.body.to_vec()).expect("the gateway sends UTF-8"));
                sent.push(text);
            }
            None => {
                refused += 1;
                let said = reply.messages.first().unwrap_or(&Value::Null);
                assert!(
                    said["error"]["message"].is_string() || said["result"].is_object(),
                    "{text}: {reply:?}"
                );
            }
        }
    }
    // Both cases must occur for the test to be meaningful.
    assert!(
        forwarded.len() > 80 && refused > 160,
        "{} forwarded, {refused} refused",
        forwarded.len()
    );
    let file = tempfile::NamedTempFile::new().expect("there is room");
    fs::write(
        file.path(),
        forwarded.iter().map(|line| format!("{line}\n")).collect::<String>(),
    )
    .expect("it can be written");
    let readers = [
        ("Go", go("read_calls", [file.path()]).await.json()),
        ("Python", python("read_calls.py", [file.path()]).await.json()),
        ("Node", node("read_calls.mjs", [file.path()]).await.json()),
    ];
    for (index, (sent, forwarded)) in sent.iter().zip(&forwarded).enumerate() {
        assert!(!forwarded.contains('\n'), "{forwarded}");
        let expected = read(forwarded);
        assert_eq!(expected[2], "echo", "{sent}\n{forwarded}");
        assert_eq!(expected[3], read(sent)[3], "{sent}\n{forwarded}");
        assert_eq!(expected[4], read(sent)[4], "{sent}\n{forwarded}");
        for (reader, all) in &readers {
            let seen = &all[index];
            assert!(
                seen.is_null() || *seen == expected,
                "{reader} reads {seen}, not {expected}\n{forwarded}"
            );
            // No parser rejects what the gateway forwards.
            assert!(!seen.is_null(), "{reader} refuses {forwarded}");
        }
    }
}
