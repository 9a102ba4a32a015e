//! Upstreams that are slow, broken or hostile affect only their own calls.
//!
//! Tools: node

use std::{net::IpAddr, time::Duration};

use contracts::{gateway as g, registry::InstallationState};
use futures::FutureExt as _;
use integration_tests::{
    Caller, Stack,
    caller::{reason, refused},
    relayed::Relayed,
    upstream::{
        hostile::{HostileUpstream, refusing_url},
        recording::RecordingUpstream,
        sessions::SessionServer,
    },
    wait::{TIMEOUT, eventually},
    walk,
};
use serde_json::json;
use service_kit::not_run::not_run;
use tonic::Code;

/// A stack with this upstream timeout, and one entry whose server works.
async fn with_a_working_upstream(call_timeout: &str) -> (Stack, RecordingUpstream, Caller, Caller) {
    let stack = Stack::builder().flag("--call-timeout", call_timeout).start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let good = RecordingUpstream::start().await;
    admin.publish("good", walk::remote(&good.url())).await;
    alice.install("good", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "good", "echo").await;
    (stack, good, admin, alice)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_its_error_and_affects_no_other_call() {
    let (stack, _good, admin, alice) = with_a_working_upstream("5").await;
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
    // Meanwhile, other callers' calls succeed.
    let others = async {
        let client = stack.mcp("team", &alice).await;
        for _ in 0..100 {
            assert_eq!(client.call_text("good__echo", json!({"text": "fine"})).await, "fine");
        }
    };
    tokio::join!(misbehaving, others);
    assert_eq!(client.call_text("good__echo", json!({"text": "after"})).await, "after");
}

/// Other calls succeed while one waits for an upstream that never responds.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_upstream_delays_no_other_call() {
    let (stack, _good, admin, alice) = with_a_working_upstream("30").await;
    let hostile = HostileUpstream::start().await;
    admin.publish("hang", walk::remote(&hostile.url("hang"))).await;
    alice.install("hang", None, &[]).await;
    admin.assign("team", "hang", "go").await;
    let client = stack.mcp("team", &alice).await;
    let others = async {
        let client = stack.mcp("team", &alice).await;
        for _ in 0..100 {
            assert_eq!(client.call_text("good__echo", json!({"text": "fine"})).await, "fine");
        }
    };
    tokio::select! {
        biased;
        answer = client.call("hang__go", json!({})) => panic!("the other calls were to end first: {answer}"),
        () = others => {}
    }
}

/// Calls do not wait for a server that is away one after another, its tools stay listed, and it gets calls once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_given_up_until_it_is_back() {
    let mut server = SessionServer::start().await;
    let gateway = Relayed::start(&server.url).await;
    let client = gateway.stack.mcp("all", &gateway.alice).await;
    let work = async || client.call("work", json!({"how": "answer"})).await["result"].take();
    assert_eq!(work().await["content"][0]["text"], "done");
    server.kill().await;
    eventually("the server is given up", || async {
        let failed = work().await;
        assert_eq!(failed["structuredContent"]["error"], "upstream_unreachable", "{failed}");
        let text = failed["content"][0]["text"].as_str().expect("it says why");
        (text.contains("times in a row") && text.contains("tried again")).then_some(())
    })
    .await;
    assert_eq!(client.tool_names().await, ["work"]);
    server.start_again().await;
    eventually("the server gets calls", || async {
        (work().await["content"][0]["text"] == "done").then_some(())
    })
    .await;
}

/// JSON that is nested too deeply is rejected, from an upstream and from a client, and never crashes the process.
#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json() {
    const TOO_DEEP: &str = "nested more than 100 levels deep";
    let (stack, _good, admin, alice) = with_a_working_upstream("5").await;
    let hostile = HostileUpstream::start().await;
    admin.publish("deep", walk::remote(&hostile.url("nested"))).await;
    alice.install("deep", None, &[]).await;
    admin.assign("team", "deep", "go").await;
    let client = stack.mcp("team", &alice).await;
    let (_, reply) = client
        .send("tools/call", json!({"name": "deep__go", "arguments": {}}))
        .await;
    assert!(
        reply.text.contains(TOO_DEEP) && !reply.text.contains("[["),
        "{} {:.400}",
        reply.status,
        reply.text
    );
    // A client may send such JSON, too.
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"good__echo","arguments":{{"text":{nested}}}}}}}"#
    );
    let reply = client.post_text(body).await;
    assert!(
        reply.text.contains(TOO_DEEP) && !reply.text.contains("[["),
        "{} {:.400}",
        reply.status,
        reply.text
    );
    assert_eq!(client.call_text("good__echo", json!({"text": "alive"})).await, "alive");
}

/// If an upstream misbehaves from the first request on, the installation's condition says how.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_reports_the_fault() {
    let (stack, _good, admin, alice) = with_a_working_upstream("5").await;
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

/// Private addresses are rejected when an entry is saved.
#[tokio::test(flavor = "multi_thread")]
async fn private_addresses() {
    let stack = Stack::builder().without_loopback_upstreams().start().await;
    let admin = stack.admin();
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
}

/// A host name is accepted when an entry is saved, and its addresses are checked at each connect. The machine's own
/// name resolves to a private address.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_private_addresses_are_not_connected_to() {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux tells it");
    let name = name.trim();
    // Listens on all addresses, so that the connection would succeed.
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0))
        .await
        .expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let Ok(meant) = tokio::net::lookup_host((name, port))
        .await
        .map(Iterator::collect::<Vec<_>>)
    else {
        not_run("requires that the machine's own name resolves");
        return;
    };
    let networks = meant.iter().map(|address| match address.ip() {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    });
    let networks = networks.collect::<Vec<_>>().join(",");
    let url = format!("http://{name}:{port}/mcp");

    let install = async |stack: &Stack| {
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        admin.publish("inside", walk::remote(&url)).await;
        let made = alice.create_installation("inside", None, &[]).await;
        (alice, made.expect("she may install"))
    };

    let stack = Stack::builder().without_loopback_upstreams().start().await;
    let (alice, made) = install(&stack).await;
    let failed = alice.until_state(&made.name, InstallationState::Failed).await;
    let said = failed.conditions.iter().map(|condition| condition.message.as_str());
    let said = said.collect::<Vec<_>>().join("\n");
    assert!(said.contains("--allow-upstream-cidr"), "{said}");
    assert!(listener.accept().now_or_never().is_none(), "it was connected to");

    // Only the policy prevented it: after an operator has allowed the address, the connection succeeds.
    let stack = Stack::builder()
        .without_loopback_upstreams()
        .flag("--allow-upstream-cidr", networks)
        .start()
        .await;
    install(&stack).await;
    let connected = tokio::time::timeout(TIMEOUT, listener.accept()).await;
    connected.expect("it is connected to").expect("it is there");
}
