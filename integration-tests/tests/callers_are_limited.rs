//! A caller who exceeds a quota is refused, learns when to retry, and does not affect others. For sessions, streams and
//! batches, see `gateway-svc/src/mcp/tests/limits.rs`.

use std::time::Duration;

use contracts::registry::GetEntryRequest;
use http::StatusCode;
use integration_tests::{
    Stack, caller::refused, eventually, mcp::McpOptions, upstream::hostile::HostileUpstream, walk,
};
use reqwest::redirect::Policy;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_are_limited_per_caller() {
    let upstream = HostileUpstream::start().await;
    let stack = Stack::builder().flag("--max-calls", "3").start().await;
    let admin = stack.admin();
    admin.publish("slow", walk::remote(&upstream.url("hang"))).await;
    let installation = admin.create_installation("slow", None, &[]).await.expect("she may");
    admin.until_ready(&installation.name).await;
    admin
        .create_gateway("team", Default::default())
        .await
        .expect("an admin may");
    admin.assign("team", "slow", "go").await;

    let (alice, bob) = (stack.member("alice"), stack.member("bob"));
    for who in [&alice, &bob] {
        let installation = who.create_installation("slow", None, &[]).await.expect("they may");
        who.until_ready(&installation.name).await;
    }
    let client = std::sync::Arc::new(stack.mcp("team", &alice).await);
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let client = std::sync::Arc::clone(&client);
        hanging.spawn(async move {
            client
                .send("tools/call", json!({"name": "slow__go", "arguments": {}}))
                .await
        });
    }
    let reply = eventually("all of her calls are under way", || async {
        let asked = client.send("tools/call", json!({"name": "none", "arguments": {}}));
        let (_, reply) = asked.await;
        (reply.status == StatusCode::TOO_MANY_REQUESTS).then_some(reply)
    })
    .await;
    assert_eq!(reply.headers["retry-after"], "1");
    let message = reply.messages[0]["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        message.contains("3 of your calls are under way, as many as one caller may have"),
        "{message}"
    );
    // The limit also applies over gRPC, whichever token the caller uses.
    let entry = || GetEntryRequest {
        name: "entries/slow".to_owned(),
    };
    let status = refused(
        alice.entries().get_entry(entry()).await,
        Code::ResourceExhausted,
        "QUOTA_EXCEEDED",
    );
    assert_eq!(
        status.get_details_retry_info().and_then(|info| info.retry_delay),
        Some(Duration::from_secs(1))
    );
    // Other callers have their own limits.
    bob.entries().get_entry(entry()).await.expect("bob has done nothing");
    let theirs = stack.mcp("team", &bob).await;
    assert_eq!(
        theirs
            .send("tools/call", json!({"name": "none", "arguments": {}}))
            .await
            .1
            .status,
        StatusCode::OK
    );
    // A call that has ended does not count.
    hanging.abort_all();
    eventually("her calls have ended", || async {
        alice.entries().get_entry(entry()).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_writes_are_limited_per_caller() {
    let stack = Stack::builder()
        .flag("--max-requests-per-minute", "50")
        .flag("--max-writes-per-minute", "5")
        .start()
        .await;
    let (alice, bob) = (stack.member("alice"), stack.member("bob"));
    let mut writes = 0;
    let refusal = loop {
        match alice.create_installation("none", None, &[]).await {
            Err(status) if status.code() == Code::NotFound && writes < 20 => writes += 1,
            other => break refused(other, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        }
    };
    assert!((5..=6).contains(&writes), "{writes}: {refusal:?}");
    assert!(refusal.message().contains("--max-writes-per-minute"), "{refusal:?}");
    assert!(refusal.get_details_retry_info().is_some());
    // A caller without writes left can still read.
    let read = || GetEntryRequest {
        name: "entries/demo".to_owned(),
    };
    alice.entries().get_entry(read()).await.expect("she may read");
    let mut reads = 0;
    let refusal = loop {
        match alice.entries().get_entry(read()).await {
            Err(status) if status.code() == Code::ResourceExhausted || reads > 60 => break status,
            _ => reads += 1,
        }
    };
    assert!(refusal.message().contains("--max-requests-per-minute"), "{refusal:?}");
    // Over MCP it is the same caller.
    let client = stack
        .mcp_with("default", &alice, McpOptions::default())
        .await
        .expect_err("she has none left");
    assert!(format!("{client:?}").contains("429"), "{client:?}");
    stack.mcp("default", &bob).await.list_tools().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_are_limited_by_address() {
    let stack = Stack::builder().flag("--max-sign-ins-per-minute", "3").start().await;
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .build()
        .expect("a client");
    let from = |address: &'static str| {
        let request = browser.get(stack.url("/signin?return=%2Finstall%2Fdemo&here=1"));
        let request = request.header("x-forwarded-for", address);
        async move { request.send().await.expect("it answers") }
    };
    for _ in 0..5 {
        // A foreign page that requests the sign-in as an image does not use up the limit.
        let image = browser.get(stack.url("/signin?return=%2Finstall%2Fdemo&here=1"));
        let image = image
            .header("x-forwarded-for", "203.0.113.1")
            .header("sec-fetch-dest", "image");
        let refused = image.send().await.expect("it answers");
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
    for _ in 0..3 {
        // The client may forge entries before the one that the proxy appends.
        assert_eq!(from("198.51.100.7, 203.0.113.1").await.status(), StatusCode::SEE_OTHER);
    }
    let refused = from("198.51.100.8, 203.0.113.1").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let page = refused.text().await.expect("a page");
    assert!(
        page.contains("3 sign-ins have come from your address within a minute"),
        "{page}"
    );
    assert_eq!(from("203.0.113.2").await.status(), StatusCode::SEE_OTHER);
}
