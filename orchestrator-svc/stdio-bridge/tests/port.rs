//! Servers that speak streamable HTTP on a port of their own.

mod harness;

use std::fs;

use harness::{Bridge, eventually};
use pretty_assertions::assert_eq;
use serde_json::json;
use stdio_bridge::{EndReason, NOT_TAKEN_HEADER, SECRET_HEADERS, Transport};

const HTTP_SERVER: &str = r#"
import http.server, os, json
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        out = json.dumps({"path": self.path, "key": self.headers["x-api-key"], "host": self.headers["host"], "body": json.loads(body)}).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(out))); self.end_headers(); self.wfile.write(out)
print("listening soon", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"#;

#[tokio::test]
async fn proxies_a_server_with_a_port_of_its_own() {
    let bridge = Bridge::ready_with("", |spec| {
        spec.arguments = vec!["-c".to_owned(), HTTP_SERVER.to_owned()];
        spec.transport = Transport::StreamableHttp {
            port: 0,
            path: "/custom".to_owned(),
        };
    })
    .await;
    let response = bridge
        .client()
        .send("POST", &[("x-api-key", "k")], r#"{"a":1}"#.to_owned())
        .await;
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&seen["path"], &seen["key"], &seen["body"]),
        (&json!("/custom"), &json!("k"), &json!({"a": 1}))
    );
    assert!(seen["host"].as_str().unwrap().starts_with("127.0.0.1:"));
}

/// Servers also end because they are stopped: that is no answer that cannot be used.
#[tokio::test]
async fn a_call_whose_server_ends_is_answered() {
    let bridge = Bridge::ready_with("", |spec| {
        let ends = HTTP_SERVER.replace("self.send_response(200)", "os._exit(3)");
        spec.arguments = vec!["-c".to_owned(), ends];
        spec.transport = Transport::StreamableHttp {
            port: 0,
            path: String::new(),
        };
    })
    .await;
    let response = bridge.client().send("POST", &[], r#"{"a":1}"#.to_owned()).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(null), &json!(-32000))
    );
    let why = answer["error"]["message"].as_str().unwrap();
    assert!(why.contains("before it had answered"), "{why}");
}

/// A server that no longer listens since it was called, and ends when there is a file `end`.
async fn deaf(grace_millis: u64) -> Bridge {
    let bridge = Bridge::ready_with("", |spec| {
        let stops = HTTP_SERVER.replace(
            "self.send_response(200)",
            "self.server.socket.shutdown(2); self.send_response(200); self.send_header('connection', 'close')",
        );
        let ends = stops.replace(
            "http.server.ThreadingHTTPServer",
            r#"
import threading, time
def end():
    while not os.path.exists("end"):
        time.sleep(0.005)
    os._exit(0)
threading.Thread(target=end).start()
http.server.ThreadingHTTPServer"#,
        );
        spec.arguments = vec!["-c".to_owned(), ends];
        spec.limits.grace_millis = grace_millis;
        spec.transport = Transport::StreamableHttp {
            port: 0,
            path: String::new(),
        };
    })
    .await;
    let before = bridge.descriptors();
    let (status, ..) = bridge.client().post(&json!({})).await;
    assert_eq!(status, 200);
    eventually(|| bridge.descriptors() == before).await;
    bridge
}

/// It can be sent again, to the server that is started next.
#[tokio::test]
async fn a_call_to_a_server_that_has_just_ended_was_not_sent_to_it() {
    let mut bridge = deaf(20_000).await;
    let before = bridge.descriptors();
    let client = bridge.client();
    let call = tokio::spawn(async move { client.send("POST", &[], "{}".to_owned()).await });
    eventually(|| bridge.descriptors() > before).await;
    fs::write(bridge.folder.path().join("end"), "").unwrap();
    let response = call.await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[NOT_TAKEN_HEADER], "stopping");
    assert_eq!(bridge.ended().await.0, EndReason::Exited);
}

#[tokio::test]
async fn a_call_to_a_server_that_no_longer_listens_fails() {
    let bridge = deaf(100).await;
    let (status, _, body) = bridge.client().post(&json!({})).await;
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("no longer listens on its port"), "{body}");
}

/// Secrets that the server gets with each request, not when it starts.
#[tokio::test]
async fn masks_the_headers_that_the_gateway_names_as_secret() {
    let mut bridge = Bridge::ready_with("", |spec| {
        let prints = HTTP_SERVER.replace(
            "self.send_response(200)",
            "print('headers', dict(self.headers), flush=True); self.send_response(200)",
        );
        spec.arguments = vec!["-c".to_owned(), prints];
        spec.transport = Transport::StreamableHttp {
            port: 0,
            path: "/mcp".to_owned(),
        };
    })
    .await;
    let headers = [
        ("authorization", "Bearer canary-bearer"),
        ("x-api-key", "canary-key"),
        ("x-region", "europe"),
        (SECRET_HEADERS, "authorization,x-api-key"),
    ];
    bridge.client().send("POST", &headers, "{}".to_owned()).await;
    let line = bridge.wait_for_log("headers").await;
    assert!(line.contains("europe") && line.contains("[redacted]"), "{line}");
    assert!(!line.contains("canary") && !line.contains(SECRET_HEADERS), "{line}");
}

/// The gateway's log and conditions quote errors.
#[tokio::test]
async fn errors_of_a_server_with_a_port_have_no_secrets() {
    for (kind, before, after) in [
        ("application/json", "", ""),
        ("text/event-stream", "event: message\\ndata: ", "\\n\\n"),
    ] {
        let error = r#"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"no s3cr3t-canary\"}}"#;
        let server = HTTP_SERVER.replace("application/json", kind).replace(
            "self.send_response",
            &format!("out = b'{before}{error}{after}'; self.send_response"),
        );
        let bridge = Bridge::ready_with("", |spec| {
            spec.arguments = vec!["-c".to_owned(), server];
            spec.secrets.push("s3cr3t-canary".to_owned());
            spec.transport = Transport::StreamableHttp {
                port: 0,
                path: String::new(),
            };
        })
        .await;
        let (_, headers, body) = bridge.client().post(&json!({})).await;
        assert_eq!(headers["content-type"], kind);
        assert!(body.contains(r#"{"code":1,"message":"no [redacted]"}"#), "{body}");
    }
}

/// Others than the installation's owner see the tools in the registry. Results are for their callers.
#[tokio::test]
async fn lists_of_a_server_with_a_port_have_no_secrets() {
    let lists = HTTP_SERVER.replace(
        "self.send_response",
        r#"key = os.environ["KEY"] + self.headers["x-api-key"]
        out = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "get", "description": key}]}}).encode()
        self.send_response"#,
    );
    let lists = lists.replacen("self.send_response(200); ", "self.send_response(200)\n        ", 1);
    // A long one is masked on a thread of its own.
    for times in [1, 6_000] {
        let bridge = Bridge::ready_with("", |spec| {
            spec.arguments = vec!["-c".to_owned(), lists.clone()];
            spec.secrets.push("s3cr3t-canary".to_owned());
            spec.environment
                .insert("KEY".to_owned(), "s3cr3t-canary.".repeat(times));
            spec.transport = Transport::StreamableHttp {
                port: 0,
                path: String::new(),
            };
        })
        .await;
        let headers = [("x-api-key", "header-canary"), (SECRET_HEADERS, "x-api-key")];
        for (method, secret, header) in [
            ("tools/list", "[redacted].", "[redacted]"),
            ("tools/call", "s3cr3t-canary.", "header-canary"),
        ] {
            let request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
            let response = bridge.client().send("POST", &headers, request.to_string()).await;
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            let shown = secret.repeat(times) + header;
            assert_eq!(answer["result"]["tools"][0]["description"], shown, "{method}");
        }
    }
}

#[tokio::test]
async fn reports_a_port_that_is_not_open_or_is_in_use() {
    let mut bridge = Bridge::start("silent", |spec| {
        spec.transport = Transport::StreamableHttp {
            port: 0,
            path: String::new(),
        };
        spec.limits.ready_millis = 400;
    })
    .await;
    assert_eq!(bridge.ended().await.0, EndReason::PortNotOpen);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut bridge = Bridge::start("silent", |spec| {
        spec.transport = Transport::StreamableHttp {
            port,
            path: String::new(),
        }
    })
    .await;
    assert_eq!(bridge.ended().await.0, EndReason::PortInUse);
}

#[tokio::test]
async fn a_server_that_listens_on_all_interfaces_is_refused() {
    for address in ["0.0.0.0", "::"] {
        let family = if address == "::" { "AF_INET6" } else { "AF_INET" };
        let server = HTTP_SERVER
            .replace(
                "http.server.ThreadingHTTPServer((\"127.0.0.1\"",
                &format!("S((\"{address}\""),
            )
            .replace(
                "print(",
                &format!(
                    "import socket\nclass S(http.server.ThreadingHTTPServer): address_family = socket.{family}\nprint("
                ),
            );
        let mut bridge = Bridge::start("", |spec| {
            spec.arguments = vec!["-c".to_owned(), server];
            spec.transport = Transport::StreamableHttp {
                port: 0,
                path: "/mcp".to_owned(),
            };
        })
        .await;
        let (reason, message, _) = bridge.ended().await;
        assert_eq!(reason, EndReason::PortExposed, "{message}");
        assert!(message.contains("HOST=127.0.0.1"), "{message}");
        bridge.wait_until_nothing_is_left().await;
    }
}
