//! Servers, and bridges in front of them, whose connection ends before their answer does.

use pretty_assertions::assert_eq;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Reads one request with a body of stated length; `None` when there is no more.
pub(super) async fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if text.len() == end + 4 + length {
            return serde_json::from_slice(&text[end + 4..]).ok();
        }
    }
}

/// A server that answers as it should, until it ends the connection when it has sent `answer` to a request of this method.
async fn breaks_off(at: &'static str, answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Some(message) = read(&mut stream).await {
                    let response = match message["method"].as_str() {
                        Some(method) if method == at => {
                            stream.write_all(answer.as_bytes()).await.unwrap();
                            return;
                        }
                        Some("initialize") => {
                            let result = json!({"protocolVersion": "2025-11-25"});
                            let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                            let length = body.len();
                            format!(
                                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                            )
                        }
                        _ => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    };
                    stream.write_all(response.as_bytes()).await.unwrap();
                }
            });
        }
    });
    url
}

/// What a call makes of it, of a server that the orchestrator runs and of a remote one.
async fn failures(answer: &'static str) -> [UpstreamError; 2] {
    let url = breaks_off("tools/call", answer).await;
    let hosted = target_at(Endpoint::hosted(&url).unwrap(), 1, HeaderMap::new(), Scope::Shared);
    let upstreams = upstreams(patient());
    [
        call(&upstreams, &hosted).await.unwrap_err(),
        call(&upstreams, &target(&url)).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_runtime_that_ends_during_a_call_is_no_fault_of_the_servers() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-ty",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"jsonrpc\"",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"jso",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\n: open\n\r\n",
    ] {
        let [hosted, remote] = failures(answer).await;
        assert_eq!(hosted, UpstreamError::RuntimeEnded, "{answer:?}");
        assert!(matches!(remote, UpstreamError::Invalid(_)), "{answer:?}: {remote:?}");
    }
}

/// The call itself was not sent: a successor of the server can get it.
#[tokio::test]
async fn a_runtime_that_ends_before_the_call_is_unreachable() {
    let url = breaks_off("initialize", "").await;
    let hosted = target_at(Endpoint::hosted(&url).unwrap(), 1, HeaderMap::new(), Scope::Shared);
    let failure = call(&upstreams(patient()), &hosted).await.unwrap_err();
    assert_eq!(failure, UpstreamError::Unreachable("its runtime ended".to_owned()));
}

#[tokio::test]
async fn what_is_not_http_is_the_servers_fault_wherever_it_runs() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
    ] {
        for failure in failures(answer).await {
            assert!(matches!(failure, UpstreamError::Invalid(_)), "{answer:?}: {failure:?}");
        }
    }
}

#[test]
fn the_message_names_the_runtime_and_what_to_do() {
    let told = UpstreamError::RuntimeEnded.for_caller("Mail");
    for part in [
        "The runtime of the MCP server of Mail ended during the call",
        "call it again",
        "an admin",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("fault"), "{told}");
}
