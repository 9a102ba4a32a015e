//! Hostile clients affect nobody else, and the resources they used are released.

use std::time::Duration;

use futures::future::BoxFuture;
use integration_tests::{
    Caller, Stack, eventually,
    figures::{Figures, Usage},
    upstream::recording::RecordingUpstream,
    walk,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The duration of an attack, during which other calls are measured.
const ATTACK: Duration = Duration::from_secs(4);
/// A timeout that no response exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Connects, and sends these bytes.
async fn sent(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it is listened on");
    stream.write_all(bytes).await.expect("it is accepted");
    stream
}

/// Everything that arrives until the connection ends or is reset.
async fn everything(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection should end: {bytes:?}");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

/// An HTTP/2 request with no flow-control window for its response (RFC 9113, section 6.9).
fn reads_nothing(fields: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let length = |length: usize| u8::try_from(length).expect("it is short");
    let mut block = Vec::new();
    for (name, value) in [(":scheme", "http"), (":authority", "localhost")].iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.push(length(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let flags = if data.is_empty() { 5 } else { 4 };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, length(block.len()), 1, flags, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    if !data.is_empty() {
        bytes.extend_from_slice(&[0, 0, length(data.len()), 0, 1, 0, 0, 0, 1]);
        bytes.extend_from_slice(data);
    }
    bytes
}

/// Creates a gateway `team` with the tool `good__echo`, and a caller who may use it.
async fn with_a_tool(stack: &Stack) -> (RecordingUpstream, Caller) {
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let good = RecordingUpstream::start().await;
    admin.publish("good", walk::remote(&good.url())).await;
    alice.install("good", None, &[]).await;
    admin.gateway("team").await;
    admin.assign("team", "good", "echo").await;
    (good, alice)
}

/// Regression: with a limit of 1,024 descriptors, 1,100 idle connections made `/livez` fail.
#[tokio::test(flavor = "multi_thread")]
async fn more_idle_connections_than_the_initial_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be read");
    setrlimit(Resource::RLIMIT_NOFILE, 1024, hard).expect("it can be lowered");
    let stack = Stack::start().await;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("it can be raised again");
    let mut idle = Vec::new();
    for _ in 0..1_200 {
        idle.push(sent(stack.http(), b"").await);
    }
    let answer = everything(sent(stack.http(), get("/livez").as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(stack.lines().contain("the limit of descriptors was raised"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_listener_accepts_new_connections() {
    let stack = Stack::builder().flag("--max-connections", "40").start().await;
    let (_good, alice) = with_a_tool(&stack).await;
    // Idle connections are closed to make room.
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(sent(stack.http(), b"").await);
    }
    // All of them must be old enough to be closed, not only the first.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    eventually("idle ones are closed", || async {
        let answer = everything(sent(stack.http(), get("/install/good").as_bytes()).await).await;
        answer.starts_with("HTTP/1.1 303").then_some(())
    })
    .await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(client.call_text("good__echo", json!({"text": "here"})).await, "here");
    // Connections with requests in progress are not closed.
    let mut streams = Vec::new();
    let refused = loop {
        let answer = everything(sent(stack.http(), get("/install/good").as_bytes()).await).await;
        // Before that, an idle connection may be too young to be closed.
        if streams.len() >= 38 && answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        if let Some(stream) = client.try_open_stream().await
            && stream.status().is_success()
        {
            streams.push(stream);
        }
        assert!(streams.len() <= 40, "at most 40 connections have a place");
    };
    assert!(refused.contains("retry-after: 1"), "{refused}");
    for path in ["/livez", "/readyz"] {
        let answer = everything(sent(stack.http(), get(path).as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    drop(streams);
    eventually("the streams are gone", || async {
        let answer = everything(sent(stack.http(), get("/install/good").as_bytes()).await).await;
        answer.starts_with("HTTP/1.1 303").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_limited() {
    let stack = Stack::builder()
        .flag("--proxies", "192.0.2.0/24")
        .flag("--max-connections-per-address", "8")
        .start()
        .await;
    let mut idle = Vec::new();
    let refused = loop {
        assert!(idle.len() <= 8, "the ninth connection has a place");
        let mut stream = sent(stack.http(), b"").await;
        let mut first = [0; 12];
        // A connection that has a place receives no bytes.
        match timeout(Duration::from_millis(500), stream.read_exact(&mut first)).await {
            Ok(Ok(_)) => break first,
            _ => idle.push(stream),
        }
    };
    assert_eq!(&refused, b"HTTP/1.1 503");
    // A client with another address is served.
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other
        .bind("127.0.0.2:0".parse().expect("an address"))
        .expect("loopback has it");
    let mut other = other
        .connect(stack.http().parse().expect("an address"))
        .await
        .expect("it is accepted");
    other.write_all(get("/livez").as_bytes()).await.expect("it is accepted");
    assert!(everything(other).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_disconnected_but_streams_are_not() {
    let stack = Stack::builder()
        .flag("--client-timeout", "1")
        .flag("--idle-timeout", "2")
        .start()
        .await;
    let (_good, alice) = with_a_tool(&stack).await;
    let client = stack.mcp("team", &alice).await;
    let mut stream = client.open_stream().await;
    assert!(stream.status().is_success());

    let half_body = format!(
        "POST /mcp/team HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         accept: application/json\r\ncontent-length: 1000\r\n\r\n{{\"jsonrpc\"",
        alice.token()
    );
    let reads_nothing = reads_nothing(&[(":method", "GET"), (":path", "/livez")], b"");
    let of_grpc = [
        (":method", "POST"),
        (":path", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // The message is ServerReflectionRequest.list_services = "".
    let reads_nothing_of_grpc = self::reads_nothing(&of_grpc, b"\0\0\0\0\x02\x3a\0");
    let cases: [(&str, &str, &[u8]); 9] = [
        ("nothing", stack.http(), b""),
        (
            "half a head",
            stack.http(),
            b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a",
        ),
        ("half a body", stack.http(), half_body.as_bytes()),
        (
            "an idle connection",
            stack.http(),
            b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ),
        ("half a preface", stack.http(), b"PRI * HTTP"),
        (
            "HTTP/2 without a request",
            stack.http(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        ("a silent gRPC client", stack.grpc(), b""),
        ("HTTP/2 that reads no response", stack.http(), &reads_nothing),
        (
            "a gRPC client that reads no response",
            stack.grpc(),
            &reads_nothing_of_grpc,
        ),
    ];
    for (case, address, bytes) in cases {
        let answer = everything(sent(address, bytes).await).await;
        match case {
            "half a body" => assert!(answer.starts_with("HTTP/1.1 408"), "{case}: {answer}"),
            "an idle connection" => assert!(answer.starts_with("HTTP/1.1 200"), "{case}: {answer}"),
            _ => assert!(!answer.starts_with("HTTP/1.1 2"), "{case}: {answer}"),
        }
    }
    // One byte of a request head at a time.
    let (mut read, mut write) = sent(stack.http(), b"GET / HTTP/1.1\r\nx: ").await.into_split();
    let drip = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = async { while matches!(read.read(&mut [0; 64]).await, Ok(1..)) {} };
    timeout(TIMEOUT, async { tokio::join!(drip, ended) })
        .await
        .expect("it is cut off");

    // All of this took longer than both timeouts, and the stream is still open.
    let next = timeout(Duration::from_millis(500), stream.chunk()).await;
    assert!(!matches!(next, Ok(Ok(None) | Err(_))), "the stream was cut: {next:?}");
}

/// Neither a page with a rebound host name nor one with a foreign origin gets any response but an error.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_are_refused() {
    let stack = Stack::start().await;
    let paths = [
        "/livez",
        "/readyz",
        "/dev/jwks.json",
        "/dev/authorize",
        "/dev/.well-known/openid-configuration",
        "/.well-known/oauth-protected-resource",
        "/mcp/default",
        "/agents/default/mcp",
        "/install/demo",
        "/signin",
        "/static/pages.css",
        "/nothing",
    ];
    for path in paths {
        let of =
            |host: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
        let cases = [
            (of("rebound.evil.example:8080", ""), "HTTP/1.1 421"),
            (of("10.1.2.3.evil.example", ""), "HTTP/1.1 421"),
            (of("localhost", "origin: http://evil.example\r\n"), "HTTP/1.1 403"),
        ];
        for (request, status) in cases {
            let answer = everything(sent(stack.http(), request.as_bytes()).await).await;
            assert!(answer.starts_with(status), "{request}{answer}");
        }
    }
    // A health probe may use an address as its host, for the health endpoints only.
    let probe = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: 10.1.2.3:8080\r\nconnection: close\r\n\r\n");
    let answer = everything(sent(stack.http(), probe("/readyz").as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = everything(sent(stack.http(), probe("/dev/jwks.json").as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

/// An attack, given the HTTP address and a token.
type Attack = fn(String, String) -> BoxFuture<'static, ()>;

/// During each attack, another caller's calls succeed. After it, the resources are released.
#[tokio::test(flavor = "multi_thread")]
async fn attacks_affect_nobody_and_resources_are_released() {
    let attacks: [(&str, usize, Attack); 9] = [
        ("heads that drip", 400, |http, _| Box::pin(drip(http))),
        ("half bodies, signed in", 50, |http, token| {
            Box::pin(half_body(http, Some(token)))
        }),
        ("half bodies", 100, |http, _| Box::pin(half_body(http, None))),
        ("forms of 8 MiB without a session", 100, |http, _| {
            Box::pin(half_form(http))
        }),
        ("idle connections", 3_000, |http, _| Box::pin(idle(http))),
        ("resets", 200, |http, _| Box::pin(reset(http))),
        ("streams that are reset", 4, |http, _| Box::pin(reset_streams(http))),
        ("responses that are not read", 400, |http, _| {
            Box::pin(read_nothing(http))
        }),
        ("floods of headers", 8, |http, _| Box::pin(flood(http))),
    ];
    // Whose calls are measured makes as many as they take time for.
    let stack = Stack::builder()
        .flag("--client-timeout", "5")
        .flag("--max-requests-per-minute", "1000000")
        .start()
        .await;
    let (_good, alice) = with_a_tool(&stack).await;
    let client = stack.mcp("team", &alice).await;
    // Warms up, so that what is allocated once is allocated before the first measurement.
    Figures::of(&stack, &client, "good__echo", ATTACK / 2).await;
    let before = Usage::of(&stack);
    let quiet = Figures::of(&stack, &client, "good__echo", ATTACK).await;
    quiet.report("no attack");
    for (name, attackers, attack) in attacks {
        let attackers: Vec<_> = (0..attackers)
            .map(|_| {
                let (http, token) = (stack.http().to_owned(), alice.token().to_owned());
                tokio::spawn(async move {
                    loop {
                        attack(http.clone(), token.clone()).await;
                        // Pauses, so that the test does not measure how fast the machine copies bytes.
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                })
            })
            .collect();
        let figures = Figures::of(&stack, &client, "good__echo", ATTACK).await;
        figures.report(name);
        let usage = Usage::of(&stack);
        assert!(
            figures.peak_memory < before.memory + 400,
            "{name}: {} MiB, before {}",
            figures.peak_memory,
            before.memory
        );
        for attacker in &attackers {
            attacker.abort();
        }
        drop(attackers);
        eventually(
            &format!("{name}: resources are released; {before:?}, then {usage:?}"),
            || async {
                let usage = Usage::of(&stack);
                (usage.descriptors < before.descriptors + 50 && usage.memory < before.memory + 200).then_some(())
            },
        )
        .await;
    }
    assert_eq!(client.call_text("good__echo", json!({"text": "after"})).await, "after");
}

/// Reads until the end, and ignores everything, as an attacker would.
async fn wait_for_the_end(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

async fn drip(http: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn half(http: String, head: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    let piece = vec![b'x'; 64 << 10];
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    for _ in 0..32 {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    wait_for_the_end(stream).await;
}

async fn half_body(http: String, token: Option<String>) {
    let token = token
        .map(|token| format!("authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let head = format!(
        "POST /mcp/team HTTP/1.1\r\nhost: localhost\r\n{token}content-type: application/json\r\ncontent-length: 4000000\r\n\r\n"
    );
    half(http, head).await;
}

async fn half_form(http: String) {
    let head = "POST /install/good HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n\
                content-type: application/x-www-form-urlencoded\r\ncontent-length: 8388608\r\n\r\n";
    half(http, head.to_owned()).await;
}

async fn idle(http: String) {
    if let Ok(stream) = TcpStream::connect(http).await {
        wait_for_the_end(stream).await;
    }
}

async fn reset(http: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    let _ = stream.write_all(get("/install/good").as_bytes()).await;
    let _ = stream.set_zero_linger();
}

/// CVE-2023-44487: opens streams and resets them immediately, until the connection ends.
async fn reset_streams(http: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for n in 0..1_000u32 {
        let id = (2 * n + 1).to_be_bytes();
        // GET http://localhost/ (RFC 7541, appendix A), followed by RST_STREAM with CANCEL.
        bytes.extend_from_slice(&[0, 0, 14, 1, 5]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(b"\x82\x86\x84\x41\x09localhost");
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&8u32.to_be_bytes());
    }
    if stream.write_all(&bytes).await.is_ok() {
        wait_for_the_end(stream).await;
    }
}

async fn read_nothing(http: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    let bytes = reads_nothing(&[(":method", "GET"), (":path", "/static/pages.css")], b"");
    if stream.write_all(&bytes).await.is_ok() {
        wait_for_the_end(stream).await;
    }
}

async fn flood(http: String) {
    let Ok(mut stream) = TcpStream::connect(http).await else {
        return;
    };
    let header = format!("x-{}: {}\r\n", "n".repeat(100), "v".repeat(1000));
    let mut head = "GET /livez HTTP/1.1\r\nhost: localhost\r\n".to_owned();
    for _ in 0..1_000 {
        head.push_str(&header);
    }
    let _ = stream.write_all(head.as_bytes()).await;
    wait_for_the_end(stream).await;
}
