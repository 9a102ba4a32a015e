//! A stop waits for the calls in progress, and for nothing else.

use std::time::Duration;

use contracts::gateway::CallToolRequest;
use integration_tests::{McpClient, Stack, eventually, relayed::Relayed, upstream::recording::RecordingUpstream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// A call takes longer than anything else that a stop waits for.
const LONG: Duration = Duration::from_secs(6);
/// A stop may wait for longer than a test does for a condition.
const DRAIN: &str = "3600";

/// A gateway before a server that answers no call until it is told to.
struct Journey {
    upstream: RecordingUpstream,
    gateway: Relayed,
}

impl Journey {
    async fn start(drain: &str) -> Self {
        let upstream = RecordingUpstream::start().await;
        let stack = Stack::builder().flag("--drain", drain).start().await;
        let gateway = Relayed::with(stack, &upstream.url()).await;
        upstream.hold(true);
        Self { upstream, gateway }
    }

    async fn client(&self) -> McpClient {
        self.gateway.stack.mcp("all", &self.gateway.alice).await
    }

    async fn carries_out(&self, calls: usize) {
        eventually("the server has the calls", || async {
            (self.upstream.calls().len() == calls).then_some(())
        })
        .await;
    }

    fn signal(&self) {
        kill(Pid::from_raw(self.gateway.stack.pid()), Signal::SIGTERM).expect("it runs");
    }

    async fn listens_no_more(&self) {
        for address in [self.gateway.stack.http(), self.gateway.stack.grpc()] {
            eventually("it refuses connections", || async {
                TcpStream::connect(address).await.is_err().then_some(())
            })
            .await;
        }
    }
}

async fn is_closed(connection: &mut TcpStream) {
    assert_eq!(connection.read(&mut [0]).await.expect("it is not reset"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_progress_are_answered() {
    let mut journey = Journey::start(DRAIN).await;
    let client = journey.client().await;
    let mut standing = client.open_stream().await;
    let http = journey.gateway.stack.http();
    let mut silent = TcpStream::connect(http).await.expect("it listens");
    let mut idle = TcpStream::connect(http).await.expect("it listens");
    let request = format!("GET /livez HTTP/1.1\r\nhost: {http}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = [0; 1024];
    assert!(idle.read(&mut answer).await.expect("it answers") > 0);

    let mut tools = journey.gateway.alice.tools();
    let over_grpc = tools.call_tool(CallToolRequest {
        parent: "gateways/all".to_owned(),
        exposed_name: "echo".to_owned(),
        arguments_json: json!({"text": "late"}).to_string(),
    });
    let meanwhile = async {
        journey.carries_out(2).await;
        journey.signal();
        is_closed(&mut idle).await;
        is_closed(&mut silent).await;
        while standing.chunk().await.expect("it ends well").is_some() {}
        journey.listens_no_more().await;
        sleep(LONG).await;
        journey.upstream.hold(false);
    };
    let call = client.send("tools/call", json!({"name": "echo", "arguments": {"text": "late"}}));
    let ((id, reply), over_grpc, ()) = tokio::join!(call, over_grpc, meanwhile);
    let answer = reply.answer(id);
    assert_eq!(answer["result"]["content"][0]["text"], "late", "{reply:?}");
    assert_eq!(reply.headers["connection"], "close");
    let over_grpc = over_grpc.expect("it is answered").into_inner();
    assert!(over_grpc.result_json.contains("late"), "{over_grpc:?}");
    assert!(journey.gateway.stack.ends().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_interrupted_in_the_end() {
    let mut journey = Journey::start("2").await;
    let client = journey.client().await;
    let stopped = async {
        journey.carries_out(1).await;
        journey.signal();
    };
    let (answer, ()) = tokio::join!(client.call("echo", json!({})), stopped);
    let error = &answer["result"]["structuredContent"]["error"];
    assert_eq!(error, "call_interrupted", "{answer}");
    assert!(journey.gateway.stack.ends().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut journey = Journey::start(DRAIN).await;
    let client = journey.client().await;
    let call = tokio::spawn(async move {
        client
            .send("tools/call", json!({"name": "echo", "arguments": {}}))
            .await
    });
    journey.carries_out(1).await;
    journey.signal();
    journey.listens_no_more().await;
    journey.signal();
    assert!(!journey.gateway.stack.ends().await.success());
    call.abort();
}
