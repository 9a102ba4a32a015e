//! Upstreams with endless or expensive responses affect only their own calls, and the resources they used are released.
//! Upstreams that are merely broken are in `bad_upstreams.rs`.

use std::time::Duration;

use integration_tests::{
    Stack, eventually,
    figures::{Figures, Usage},
    upstream::{hostile::HostileUpstream, recording::RecordingUpstream},
    walk,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Concurrent calls of each bad tool.
const AT_A_TIME: usize = 4;
/// The duration of the calls, during which other calls are measured.
const ATTACK: Duration = Duration::from_secs(4);

/// A server that behaves until a tool is called, and then responds with endless headers.
async fn endless_headers() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    url
}

/// Responds to the requests of one connection.
async fn answer(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line).await.ok()? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let message: Value = serde_json::from_slice(&body).ok()?;
        let result = match message["method"].as_str()? {
            "initialize" => json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "hostile", "version": "1"},
            }),
            "tools/list" => json!({"tools": [{"name": "go", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
                for n in 0u64.. {
                    stream.write_all(format!("x-{n}: more\r\n").as_bytes()).await.ok()?;
                }
                return None;
            }
            _ => {
                stream
                    .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                    .await
                    .ok()?;
                continue;
            }
        };
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_affect_nobody_and_resources_are_released() {
    let stack = Stack::builder().flag("--call-timeout", "3").start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let (good, hostile) = (RecordingUpstream::start().await, HostileUpstream::start().await);
    admin.gateway("team").await;
    admin.publish("good", walk::remote(&good.url())).await;
    alice.install("good", None, &[]).await;
    admin.assign("team", "good", "echo").await;
    let behaviours = [
        "endless",
        "endless-headers",
        "drip",
        "giant-member",
        "endless-events",
        "hang-body",
    ];
    for behaviour in behaviours {
        let url = match behaviour {
            "endless-headers" => endless_headers().await,
            _ => hostile.url(behaviour),
        };
        admin.publish(behaviour, walk::remote(&url)).await;
        bob.install(behaviour, None, &[]).await;
        admin.assign("team", behaviour, "go").await;
    }
    let client = stack.mcp("team", &alice).await;
    // Warms up, so that what is allocated once is allocated before the first measurement.
    Figures::of(&stack, &client, "good__echo", ATTACK / 2).await;
    let before = Usage::of(&stack);
    let quiet = Figures::of(&stack, &client, "good__echo", ATTACK).await;
    quiet.report("every upstream is good");
    for behaviour in behaviours {
        let calls: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (url, token) = (stack.mcp_url("team"), bob.token().to_owned());
                let tool = format!("{behaviour}__go");
                tokio::spawn(async move {
                    let client = integration_tests::McpClient::connect(&url, Some(&token), Default::default());
                    let client = client.await.expect("bob may call");
                    loop {
                        let answer = client.call(&tool, json!({})).await;
                        let failed = answer["error"].is_object() || answer["result"]["isError"] == true;
                        assert!(failed, "{tool}: {:.200}", answer.to_string());
                    }
                })
            })
            .collect();
        let figures = Figures::of(&stack, &client, "good__echo", ATTACK).await;
        figures.report(behaviour);
        for call in calls {
            assert!(
                !call.is_finished(),
                "{behaviour}: each call should fail, and nothing else"
            );
            call.abort();
        }
        eventually(&format!("{behaviour}: resources are released; {before:?}"), || async {
            let usage = Usage::of(&stack);
            (usage.descriptors < before.descriptors + 50 && usage.memory < before.memory + 300).then_some(())
        })
        .await;
    }
    assert_eq!(client.call_text("good__echo", json!({"text": "after"})).await, "after");
}
