//! Many clients of one stdio server.

mod harness;

use std::time::Instant;

use harness::{Bridge, PATIENCE};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use stdio_bridge::{EndReason, Event, NOT_TAKEN_HEADER, STOP, STOP_NOW};
use tokio::time::timeout;

#[tokio::test]
async fn initializes_the_server_once_without_capabilities_and_each_client_by_itself() {
    let mut bridge = Bridge::ready("good").await;
    let (mut one, mut two) = (bridge.client(), bridge.client());
    let first = one.initialize("2025-06-18").await;
    assert_eq!(first["id"], "init");
    assert_eq!(first["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(first["result"]["capabilities"]["unknown"], json!({"n": 1.0}));
    assert_eq!(first["result"]["instructions"], "kept");
    assert_eq!(
        two.initialize("2025-11-25").await["result"]["protocolVersion"],
        "2025-11-25"
    );
    assert_eq!(
        two.initialize("1999-01-01").await["result"]["protocolVersion"],
        "2025-11-25"
    );
    assert_ne!(one.session, two.session);
    one.call(json!(1), "say", json!({"text": "after"})).await;
    bridge.wait_for_log("after").await;
    let initialized: Vec<_> = bridge.logs.iter().filter(|l| l.starts_with("initialize ")).collect();
    assert_eq!(initialized.len(), 1);
    assert!(initialized[0].contains(r#""capabilities": {}"#), "{initialized:?}");
}

#[tokio::test]
async fn answers_for_an_older_server_with_a_revision_of_http() {
    let bridge = Bridge::ready("old").await;
    assert_eq!(
        bridge.client().initialize("2025-11-25").await["result"]["protocolVersion"],
        "2025-06-18"
    );
}

#[tokio::test]
async fn keeps_apart_concurrent_requests_with_equal_ids() {
    let bridge = Bridge::ready("good").await;
    let calls = (0..40).map(|i| {
        let client = bridge.client();
        async move {
            // The server answers these once it has received all of them, so the calls run at the same time.
            let met = client.call(json!(1), "meet", json!({"calls": 40})).await;
            assert_eq!(met["result"]["met"], true);
            client.call(json!("same"), "echo", json!({"i": i})).await
        }
    });
    for (i, answer) in futures::future::join_all(calls).await.iter().enumerate() {
        assert_eq!(answer["id"], "same");
        assert_eq!(answer["result"]["echo"]["i"], i);
        assert_ne!(answer["result"]["id"], "same");
    }
}

#[tokio::test]
async fn changes_nothing_in_a_message_except_the_id() {
    let bridge = Bridge::ready("good").await;
    let body = "{\n\"jsonrpc\": \"2.0\",\r\n\"id\": 1, \"method\": \"tools/call\", \"params\": {\"name\": \"echo\", \"arguments\": {\"big\": 123456789012345678901234567890, \"text\": \"a\\nb\"}}}";
    let response = bridge.client().send("POST", &[], body.to_owned()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.contains("123456789012345678901234567890") && text.contains(r#""a\nb""#),
        "{text}"
    );
    assert!(
        text.contains(r#""_meta": {"kept": true}"#),
        "members of the result are kept: {text}"
    );
}

#[tokio::test]
async fn sends_progress_to_the_caller_of_its_request() {
    let bridge = Bridge::ready("good").await;
    let call = |token: Value| {
        let client = bridge.client();
        let params = json!({"name": "progress", "_meta": {"progressToken": token}});
        async move {
            client
                .post(&json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}))
                .await
        }
    };
    let (one, two) = tokio::join!(call(json!("a")), call(json!(7)));
    for ((_, headers, body), token) in [(one, json!("a")), (two, json!(7))] {
        assert_eq!(headers["content-type"], "text/event-stream");
        let messages: Vec<Value> = body
            .lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .map(|d| serde_json::from_str(d).unwrap())
            .collect();
        assert_eq!(messages.len(), 4, "{body}");
        for (i, message) in messages[..3].iter().enumerate() {
            assert_eq!(message["params"], json!({"progressToken": token, "progress": i}));
        }
        assert_eq!(
            messages[3],
            json!({"jsonrpc": "2.0", "id": 5, "result": {"done": true}})
        );
    }
}

#[tokio::test]
async fn queues_little_for_callers_that_do_not_read() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let call = |arguments: Value| {
        let params = json!({"name": "flood", "arguments": arguments, "_meta": {"progressToken": 1}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
    };
    let mut unread = Vec::new();
    let mut flood = async |bytes: usize, count: usize| {
        let body = call(json!({"bytes": bytes, "count": count}));
        unread.push(client.send("POST", &[], body).await);
        bridge.wait_for_log("flooded").await;
        bridge.logs.clear();
    };
    for _ in 0..4 {
        flood(4_000_000, 20).await;
    }
    for _ in 0..30 {
        flood(60_000, 60).await;
    }
    let pid = bridge.process.id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 96 << 10, "{kibibytes} KiB");
    drop(unread);
    // The messages for clients that have disconnected take no room from others.
    let start = Instant::now();
    loop {
        let body = client
            .send("POST", &[], call(json!({"bytes": 60_000, "count": 3})))
            .await;
        let body = body.into_body().collect().await.unwrap().to_bytes();
        let arrived = String::from_utf8_lossy(&body).matches("notifications/progress").count();
        if arrived == 4 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{arrived} of 4");
    }
}

#[tokio::test]
async fn routes_a_cancellation_to_the_request_of_the_same_client() {
    let mut bridge = Bridge::ready("good").await;
    let (mut one, mut two) = (bridge.client(), bridge.client());
    one.initialize("2025-11-25").await;
    two.initialize("2025-11-25").await;
    let waiting: Vec<_> = [one.clone(), two.clone()]
        .into_iter()
        .map(|c| tokio::spawn(async move { c.call(json!(1), "wait", json!({})).await }))
        .collect();
    bridge.wait_for_log("waiting").await;
    bridge.logs.clear();
    bridge.wait_for_log("waiting").await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(two.post(&cancel).await.0, 202);
    bridge.wait_for_log("cancelled").await;
    let [first, second] = <[_; 2]>::try_from(waiting).unwrap();
    assert_eq!(second.await.unwrap()["error"]["message"], "The request was cancelled.");
    assert!(!first.is_finished(), "the request of the other client goes on");
    first.abort();
}

#[tokio::test]
async fn sends_notifications_to_every_stream() {
    let bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = client.send("GET", &[], String::new()).await.into_body();
        stream.frame().await.unwrap().unwrap();
        streams.push(stream);
    }
    client.call(json!(1), "changed", json!({})).await;
    for mut stream in streams {
        let frame = timeout(PATIENCE, stream.frame())
            .await
            .expect("the notification is relayed")
            .unwrap()
            .unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        assert!(text.contains("notifications/tools/list_changed"), "{text}");
    }
}

#[tokio::test]
async fn reports_changes_of_the_tools_at_a_limited_rate() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    client.call(json!(1), "changed", json!({})).await;
    bridge.wait_for(|event| *event == Event::ToolsChanged).await;
    // All that follow at once are reported as one.
    for _ in 0..50 {
        client.call(json!(1), "changed", json!({})).await;
    }
    client.call(json!(1), "say", json!({"text": "all said"})).await;
    let (mut told, mut said) = (0, false);
    bridge
        .wait_for(|event| {
            told += usize::from(*event == Event::ToolsChanged);
            said |= matches!(event, Event::Log { line, .. } if line == "all said");
            said && told > 0
        })
        .await;
    assert!(told < 10, "{told} for 50");
}

#[tokio::test]
async fn answers_requests_of_the_server() {
    let bridge = Bridge::ready("good").await;
    let client = bridge.client();
    assert_eq!(
        client.call(json!(1), "ask", json!({"method": "ping"})).await["result"]["result"],
        json!({})
    );
    for method in ["roots/list", "sampling/createMessage"] {
        let answer = client.call(json!(1), "ask", json!({"method": method})).await;
        let error = &answer["result"]["error"];
        assert_eq!(error["code"], -32601);
        assert!(error["message"].as_str().unwrap().contains("process model"), "{error}");
    }
}

#[tokio::test]
async fn pending_requests_fail_when_the_server_ends() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(json!(1), "wait", json!({})).await }
    });
    bridge.wait_for_log("waiting").await;
    let answer = client.call(json!(2), "exit", json!({"code": 3})).await;
    for answer in [answer, waiting.await.unwrap()] {
        assert_eq!(answer["error"]["message"], "The MCP server ended with exit code 3.");
    }
    let (reason, _, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(3)));
    assert!(bridge.process.wait().await.unwrap().success());
}

#[tokio::test]
async fn limits_time_size_and_number() {
    let bridge = Bridge::ready_with("good", |spec| {
        spec.limits.request_millis = 700;
        spec.limits.message_bytes = 100_000;
        spec.limits.pending_requests = 4;
    })
    .await;
    let client = bridge.client();
    let answer = client.call(json!(1), "large", json!({"bytes": 200_000})).await;
    assert_eq!(
        answer["error"]["message"],
        "The MCP server is at fault: its answer is longer than 100000 bytes."
    );
    let answers = futures::future::join_all((0..5).map(|i| client.call(json!(i), "never", json!({})))).await;
    let said = |part: &str| {
        answers
            .iter()
            .filter(|a| a["error"]["message"].as_str().unwrap().contains(part))
            .count()
    };
    assert_eq!(
        (said("did not answer within"), said("too many unanswered")),
        (4, 1),
        "{answers:?}"
    );
    let response = client.send("POST", &[], " ".repeat(100_001)).await;
    assert_eq!(response.status(), 413);
    assert_eq!(client.call(json!(9), "echo", json!({})).await["id"], 9, "and goes on");
}

#[tokio::test]
async fn a_request_with_an_invalid_answer_fails_at_once() {
    let mut bridge = Bridge::ready_with("good", |spec| spec.limits.message_bytes = 100_000).await;
    let client = bridge.client();
    // Other requests are pending, whose ids are inside the answers.
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(json!(1), "wait", json!({})).await })
        })
        .collect();
    let nested: String = (0..20)
        .map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}},"#))
        .collect();
    let members: String = (0..1000).map(|n| format!(r#","x{n}":1"#)).collect();
    for (text, why) in [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":null}"#.to_owned(),
            "has both a result and an error",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID}"#.to_owned(),
            "has neither a result nor an error",
        ),
        (
            r#"{"jsonrpc":"1.0","id":ID,"result":{}}"#.to_owned(),
            "is not JSON-RPC 2.0",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"n":NaN}}"#.to_owned(),
            "is not valid JSON (column ",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{},"result":{}}"#.to_owned(),
            "has a member twice",
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{}}{members}}}"#),
            "has more than 1000 members",
        ),
        (
            format!(
                r#"[{{"jsonrpc":"2.0","method":"notifications/x"}},{{"jsonrpc":"2.0","id":ID,"result":[{nested}1],"error":1}}]"#
            ),
            "has both a result and an error",
        ),
        (
            format!("{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{\"a\":[{nested}1]}},\"x\":NaN}}"),
            "is not valid JSON",
        ),
        (
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"result\": {\n    \"id\": 3\n  }\n}".to_owned(),
            "is spread over several lines",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\nthe server goes on with other lines".to_owned(),
            "is spread over several lines",
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"a":[{nested}1],"b":"LONG"}}}}"#),
            "is longer than 100000 bytes",
        ),
        (
            format!(r#"{{"result":{{"b":"LONG","a":[{nested}1]}},"jsonrpc":"2.0","id":ID}}"#),
            "is longer than 100000 bytes",
        ),
        (
            "{\n\"result\": \"LONG\",\n\"jsonrpc\":\"2.0\",\n\"id\":ID}".to_owned(),
            "is spread over several lines",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}"
                .to_owned(),
            "breaks off",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}".to_owned() + "\n{\n\"jsonrpc\":\"2.0\"\n}",
            "breaks off",
        ),
    ] {
        let answer = client.call(json!(7), "raw", json!({"text": text})).await;
        let message = answer["error"]["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{text}: {answer}"));
        assert!(
            message.starts_with("The MCP server is at fault: its answer ") && message.contains(why),
            "{text}: {message}"
        );
    }
    let answer = client
        .call(
            json!(7),
            "raw",
            json!({"text": "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":\"\u{ff}\"}", "encoding": "latin-1"}),
        )
        .await;
    assert_eq!(
        answer["error"]["message"],
        "The MCP server is at fault: its answer is not UTF-8."
    );
    for usable in [
        // 2.0 is 2.
        r#"{"jsonrpc":"2.0","id":ID.0,"result":{"a":1}}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"a\":1}}",
        r#"[{"jsonrpc":"2.0","id":ID,"result":{"a":1}}]"#,
    ] {
        let answer = client.call(json!(7), "raw", json!({"text": usable})).await;
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}),
            "{usable}"
        );
    }
    assert!(
        waiting.iter().all(|call| !call.is_finished()),
        "nobody else's call is answered"
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    // No content of the answers is in the log.
    client.call(json!(1), "say", json!({"text": "the end"})).await;
    bridge.wait_for_log("the end").await;
    assert!(
        bridge.logs.iter().all(|line| !line.contains("result")
            || line.contains("both a result")
            || line.contains("neither a result")),
        "{:?}",
        bridge.logs
    );
}

#[tokio::test]
async fn a_stop_loses_no_call() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let calls: Vec<_> = (0..30)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                client.call(json!(i), "say", json!({"text": "begun"})).await;
                client.call(json!(i), "slow", json!({"seconds": 1})).await
            })
        })
        .collect();
    for _ in 0..30 {
        bridge.wait_for_log("begun").await;
        bridge.logs.clear();
    }
    client.call(json!(1), "say", json!({"text": "all begun"})).await;
    bridge.wait_for_log("all begun").await;
    bridge.ask(STOP).await;
    // Requests that follow are not lost either: the answer says that they were not sent to the server.
    let start = Instant::now();
    let refused = loop {
        let body = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/list"}).to_string();
        let response = client.send("POST", &[], body).await;
        if response.status() == 503 {
            break response;
        }
        assert!(start.elapsed() < PATIENCE, "requests are still taken");
    };
    assert!(refused.headers().contains_key(NOT_TAKEN_HEADER) && refused.headers().contains_key("retry-after"));
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}});
    assert_eq!(
        client.post(&cancelled).await.0,
        202,
        "what concerns calls under way is taken"
    );
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer["result"], json!({"slept": 1}), "{answer}");
    }
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
}

#[tokio::test]
async fn a_stop_has_a_time_limit() {
    // Until the limit, and until the second request to stop.
    for hurry in [false, true] {
        let mut bridge = Bridge::ready_with("good", |spec| {
            spec.limits.drain_millis = if hurry { 600_000 } else { 300 };
        })
        .await;
        let client = bridge.client();
        let waiting = tokio::spawn(async move { client.call(json!(1), "wait", json!({})).await });
        bridge.wait_for_log("waiting").await;
        bridge.ask(STOP).await;
        if hurry {
            bridge.ask(STOP_NOW).await;
        }
        assert_eq!(bridge.ended().await.0, EndReason::Stopped);
        let answer = waiting.await.unwrap();
        assert_eq!(
            answer["error"]["message"],
            "The MCP server was stopped before it had answered."
        );
    }
}

#[tokio::test]
async fn a_line_of_a_log_is_not_an_answer() {
    let mut bridge = Bridge::ready("good").await;
    let client = bridge.client();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(json!(1), "wait", json!({})).await }
    });
    bridge.wait_for_log("waiting").await;
    for text in [
        r#"{"level":"error","id":ID,"error":"x"}"#,
        "{\n  \"id\": 2,\n  \"level\": \"info\"\n}",
        "{ id: 2 }",
        "{",
    ] {
        let text = format!("{text}\n{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{}}}}");
        assert_eq!(
            client.call(json!(2), "raw", json!({"text": text})).await["result"],
            json!({}),
            "{text}"
        );
    }
    bridge.wait_for_log("\"level\":\"error\"").await;
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn refuses_what_is_not_a_message() {
    let bridge = Bridge::ready("good").await;
    let client = bridge.client();
    for bad in [
        "",
        "{",
        "[]",
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "{}",
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
    ] {
        assert_eq!(client.send("POST", &[], bad.to_owned()).await.status(), 400, "{bad}");
    }
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned();
    assert_eq!(
        client
            .send("POST", &[("content-type", "text/plain")], ping.clone())
            .await
            .status(),
        415
    );
    assert_eq!(
        client
            .send("POST", &[("mcp-protocol-version", "2026-07-28")], ping.clone())
            .await
            .status(),
        400
    );
    assert_eq!(
        client
            .send("POST", &[("mcp-session-id", "of-an-earlier-run")], ping.clone())
            .await
            .status(),
        404
    );
    assert_eq!(
        client
            .send("GET", &[("accept", "application/json")], String::new())
            .await
            .status(),
        406
    );
    assert_eq!(client.send("DELETE", &[], String::new()).await.status(), 204);
    assert_eq!(client.send("PUT", &[], ping.clone()).await.status(), 405);
    let (_, _, body) = client
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}))
        .await;
    assert!(body.contains("-32601"), "{body}");
    assert_eq!(client.send("POST", &[], ping).await.status(), 200);
}

/// The gateway's log and conditions quote errors. Results are for their callers.
#[tokio::test]
async fn errors_of_a_server_have_no_secrets_and_results_are_as_they_are() {
    let bridge = Bridge::ready_with("good", |spec| spec.secrets.push("s3cr3t-canary".to_owned())).await;
    let client = bridge.client();
    let raw = async |text: &str| client.call(json!("a"), "raw", json!({"text": text})).await;
    for said in [
        "s3cr3t-canary",
        r"s3cr3t\u0000-canary",
        r"\u00733cr\r3t-canary",
        "czNjcjN0LWNhbmFyeQ==",
    ] {
        let error = format!(r#"{{"code":-32001,"message":"401 for token {said}","data":["{said}"]}}"#);
        assert_eq!(
            raw(&format!(r#"{{"jsonrpc":"2.0","id":ID,"error":{error}}}"#)).await,
            json!({"jsonrpc": "2.0", "id": "a", "error": {"code": -32001, "message": "401 for token [redacted]", "data": ["[redacted]"]}}),
        );
    }
    assert_eq!(
        raw(r#"{"jsonrpc":"2.0","id":ID,"result":{"error":"s3cr3t-canary"}}"#).await["result"]["error"],
        "s3cr3t-canary"
    );
}

/// Others than the installation's owner see what a server says about itself.
#[tokio::test]
async fn lists_of_a_server_have_no_secrets() {
    // A long one is masked on a thread of its own.
    for times in [1, 6_000] {
        let bridge = Bridge::ready_with("good", |spec| {
            spec.secrets.push("s3cr3t-canary".to_owned());
            spec.environment
                .insert("KEY".to_owned(), "s3cr3t-canary.".repeat(times));
        })
        .await;
        let (_, _, body) = bridge
            .client()
            .post(&json!({"jsonrpc": "2.0", "id": "a", "method": "prompts/list"}))
            .await;
        let expected = format!(r#""description": "with {}""#, "[redacted].".repeat(times));
        assert!(body.contains(&expected) && !body.contains("s3cr3t"), "{body}");
    }
}

/// The server has one client, the bridge: what one client of the bridge no longer needs, others may.
#[tokio::test]
async fn tells_of_a_resource_those_who_have_subscribed_to_it() {
    let bridge = Bridge::ready("good").await;
    let (mut one, mut other) = (bridge.client(), bridge.client());
    for client in [&mut one, &mut other] {
        client.initialize("2025-11-25").await;
    }
    let (mut ones, mut others) = (one.listen().await, other.listen().await);
    let notification = |method: &str| json!({"jsonrpc": "2.0", "method": format!("notifications/resources/{method}"), "params": {"uri": "x:/a"}});
    let (updated, changed) = (notification("updated"), notification("list_changed"));
    let says = async || {
        for message in [&updated, &changed] {
            one.call(json!(1), "send", json!({"message": message})).await;
        }
    };
    let ask = async |client: &harness::Client, method: &str| {
        let message = json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": {"uri": "x:/a"}});
        let (_, _, body) = client.post(&message).await;
        serde_json::from_str::<Value>(&body).unwrap()["result"].clone()
    };
    let by_server = |method: &str| json!({"method": method});
    assert_eq!(ask(&one, "resources/subscribe").await, by_server("resources/subscribe"));
    says().await;
    for expected in [&updated, &changed] {
        assert_eq!(ones.next().await.as_ref(), Some(expected));
    }
    assert_eq!(others.next().await.as_ref(), Some(&changed));

    assert_eq!(
        ask(&other, "resources/subscribe").await,
        by_server("resources/subscribe")
    );
    assert_eq!(ask(&one, "resources/unsubscribe").await, json!({}));
    says().await;
    assert_eq!(ones.next().await.as_ref(), Some(&changed));
    for expected in [&updated, &changed] {
        assert_eq!(others.next().await.as_ref(), Some(expected));
    }
    assert_eq!(
        ask(&other, "resources/unsubscribe").await,
        by_server("resources/unsubscribe")
    );
}
