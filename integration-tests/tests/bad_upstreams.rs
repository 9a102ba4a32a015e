//! Upstreams that are slow, broken or hostile affect only their own calls (lesson 7).

use std::time::{Duration, Instant};

use contracts::{gateway as g, registry::InstallationState};
use integration_tests::{
    Caller, Stack,
    caller::{reason, refused},
    upstream::{
        hostile::{HostileUpstream, refusing_url},
        recording::RecordingUpstream,
    },
    wait::eventually,
    walk,
};
use serde_json::json;
use tonic::Code;

/// A stack whose gateway gives an upstream five seconds, with one entry that behaves.
async fn beside_a_good_one() -> (Stack, RecordingUpstream, Caller, Caller) {
    let stack = Stack::builder().flag("--call-timeout", "5").start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let good = RecordingUpstream::start().await;
    admin.publish("good", walk::remote(&good.url())).await;
    alice.install("good", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "good", "echo").await;
    (stack, good, admin, alice)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_its_error_and_hurts_nobody_else() {
    let (stack, _good, admin, alice) = beside_a_good_one().await;
    let hostile = HostileUpstream::start().await;
    let cases = [
        ("hang", &["UPSTREAM_TIMEOUT"][..]),
        ("hang-body", &["UPSTREAM_TIMEOUT"]),
        ("close", &["UPSTREAM_INVALID", "UPSTREAM_UNREACHABLE"]),
        ("500", &["UPSTREAM_INVALID", "UPSTREAM_ERROR"]),
        ("html", &["UPSTREAM_INVALID"]),
        ("empty", &["UPSTREAM_INVALID"]),
        ("huge", &["UPSTREAM_INVALID"]),
        ("wrong-id", &["UPSTREAM_INVALID"]),
        ("redirect", &["UPSTREAM_INVALID"]),
        ("not-json-rpc", &["UPSTREAM_INVALID"]),
        ("huge-headers", &["UPSTREAM_INVALID", "UPSTREAM_UNREACHABLE"]),
    ];
    for (behaviour, _) in cases {
        let id = format!("bad-{behaviour}");
        admin.publish(&id, walk::remote(&hostile.url(behaviour))).await;
        alice.install(&id, None, &[]).await;
        admin.assign("team", &id, "go").await;
    }
    let client = stack.mcp("team", &alice).await;
    let misbehaving = futures::future::join_all(cases.iter().map(|(behaviour, reasons)| {
        let (client, alice) = (&client, &alice);
        async move {
            let tool = format!("bad-{behaviour}__go");
            let answer = tokio::time::timeout(Duration::from_secs(30), client.call(&tool, json!({}))).await;
            let answer = answer.unwrap_or_else(|_| panic!("{behaviour}: the gateway does not answer within 30 s"));
            let said = answer.to_string();
            assert!(
                answer["error"].is_object() || answer["result"]["isError"] == true,
                "{behaviour}: {said}"
            );
            assert!(
                said.len() < 5000,
                "{behaviour}: the error is no dump: {} bytes",
                said.len()
            );
            assert!(!said.contains("secret_internals"), "{behaviour}: {said}");
            let request = g::CallToolRequest {
                parent: "gateways/team".to_owned(),
                exposed_name: tool,
                arguments_json: "{}".to_owned(),
            };
            let status = alice.tools().call_tool(request).await.expect_err(behaviour);
            assert!(reasons.contains(&reason(&status).as_str()), "{behaviour}: {status:?}");
        }
    }));
    // Meanwhile everybody else's calls come and go.
    let others = async {
        let client = stack.mcp("team", &alice).await;
        for _ in 0..100 {
            let start = Instant::now();
            assert_eq!(client.call_text("good__echo", json!({"text": "fine"})).await, "fine");
            assert!(
                start.elapsed() < Duration::from_secs(4),
                "a call waited for another's upstream: {:?}",
                start.elapsed()
            );
        }
    };
    tokio::join!(misbehaving, others);
    assert_eq!(client.call_text("good__echo", json!({"text": "after"})).await, "after");
}

/// What is deep is passed on unread or refused, and never ends the process.
#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json() {
    let (stack, _good, admin, alice) = beside_a_good_one().await;
    let hostile = HostileUpstream::start().await;
    admin.publish("deep", walk::remote(&hostile.url("nested"))).await;
    alice.install("deep", None, &[]).await;
    admin.assign("team", "deep", "go").await;
    let client = stack.mcp("team", &alice).await;
    let (_, reply) = client
        .send("tools/call", json!({"name": "deep__go", "arguments": {}}))
        .await;
    assert!(
        reply.text.contains("[[[[[[") || reply.text.contains("error"),
        "{}",
        &reply.text[..200.min(reply.text.len())]
    );
    // A client may send such a thing, too.
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"good__echo","arguments":{{"text":{nested}}}}}}}"#
    );
    let reply = client.post_text(body).await;
    assert!(!reply.text.is_empty());
    assert_eq!(client.call_text("good__echo", json!({"text": "alive"})).await, "alive");
}

/// Misbehaving from the first request on: the installation says what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_says_what_is_wrong() {
    let (stack, _good, admin, alice) = beside_a_good_one().await;
    let hostile = HostileUpstream::start().await;
    let mut urls = vec![("refuse", refusing_url())];
    for behaviour in ["close", "500", "html", "empty", "wrong-id", "redirect", "not-json-rpc"] {
        urls.push((behaviour, hostile.always(behaviour)));
    }
    for (behaviour, url) in &urls {
        let id = format!("bad-{behaviour}");
        admin.publish(&id, walk::remote(url)).await;
        let made = alice
            .create_installation(&id, None, &[])
            .await
            .expect("she may install");
        let failed = eventually(&format!("{behaviour} is reported"), || async {
            let installation = alice.installation(&made.name).await.ok()?;
            (installation.state() == InstallationState::Failed).then_some(installation)
        })
        .await;
        let condition = failed
            .conditions
            .iter()
            .find(|condition| condition.r#type() == contracts::registry::ConditionType::ToolsDiscovered)
            .unwrap_or_else(|| panic!("{behaviour}: {failed:?}"));
        assert!(
            !condition.reason.is_empty() && condition.message.len() > 10,
            "{behaviour}: {condition:?}"
        );
        assert!(
            !condition.message.contains("secret_internals"),
            "{behaviour}: {condition:?}"
        );
    }
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.call_text("good__echo", json!({"text": "fine"})).await, "fine");
}

/// Addresses inside are refused when they are saved, and when a name turns out to mean one.
#[tokio::test(flavor = "multi_thread")]
async fn private_addresses() {
    let stack = Stack::builder().without_loopback_upstreams().start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let upstream = RecordingUpstream::start().await;
    for url in [
        upstream.url().as_str(),
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/mcp",
        "http://[::1]/mcp",
        "http://[::ffff:127.0.0.1]/mcp",
        "http://2130706433/mcp",
        "http://localhost/mcp",
        "http://0.0.0.0/mcp",
        "http://[fd00::1]/mcp",
    ] {
        let status = refused(
            admin.create_entry("inside", walk::remote(url)).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
        );
        assert!(
            format!("{status:?}").contains("allow-upstream-cidr"),
            "{url}: {status:?}"
        );
    }
    // A name passes when it is saved; every connection looks at what it means then. This machine's own name means itself.
    let port = upstream
        .url()
        .rsplit(':')
        .next()
        .and_then(|rest| rest.split('/').next())
        .expect("a port")
        .to_owned();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let entry = walk::remote(&format!("http://{host}:{port}/mcp"));
    if let Ok(entry) = admin.create_entry("inside", entry).await {
        let request = contracts::registry::ApproveEntryRequest {
            name: entry.name,
            etag: String::new(),
        };
        admin.entries().approve_entry(request).await.expect("an admin may");
        let made = alice
            .create_installation("inside", None, &[])
            .await
            .expect("she may install");
        alice.until_state(&made.name, InstallationState::Failed).await;
        assert!(upstream.requests().is_empty(), "it was connected to");
    }
}
