//! Servers that do not start, misbehave or leave processes behind.

mod harness;

use std::{fs, io};

use harness::{Bridge, eventually};
use pretty_assertions::assert_eq;
use sandbox::Layers;
use serde_json::json;
use stdio_bridge::{EndReason, File, SECRET_HEADERS, STOP, Transport};

#[tokio::test]
async fn reports_a_command_that_is_missing_or_cannot_be_executed() {
    let mut bridge = Bridge::start("good", |spec| spec.command = "no-such-command-anywhere".to_owned()).await;
    let (reason, message, _) = bridge.ended().await;
    assert_eq!(reason, EndReason::CommandNotFound);
    assert!(message.contains("no-such-command-anywhere"), "{message}");
    let mut bridge = Bridge::start("good", |spec| spec.command = "/etc/passwd".to_owned()).await;
    assert_eq!(bridge.ended().await.0, EndReason::CommandNotExecutable);
}

#[tokio::test]
async fn reports_how_a_server_ended_at_once_and_what_it_wrote() {
    let mut bridge = Bridge::start("exit", |_| ()).await;
    let (reason, message, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(7)));
    assert_eq!(message, "The MCP server ended with exit code 7.");
    assert_eq!(bridge.logs, ["no configuration found"]);
}

#[tokio::test]
async fn much_garbage_is_not_mcp_and_a_little_is_logged() {
    let mut bridge = Bridge::start("garbage", |_| ()).await;
    assert_eq!(bridge.ended().await.0, EndReason::NotMcp);
    bridge.wait_until_nothing_is_left().await;

    let mut bridge = Bridge::start("banner", |spec| spec.limits.garbage_millis = 300).await;
    assert_eq!(bridge.ended().await.0, EndReason::NotMcp);
    assert_eq!(bridge.logs, ["Welcome!"]);

    let mut bridge = Bridge::ready("chatty").await;
    bridge.wait_for_log("[1, 2]").await;
    assert!(
        bridge.logs.contains(&"Server starting…".to_owned()),
        "{:?}",
        bridge.logs
    );
    assert_eq!(bridge.client().call(json!(1), "echo", json!({})).await["id"], 1);
}

#[tokio::test]
async fn initialize_has_a_time_limit() {
    let mut bridge = Bridge::start("silent", |spec| spec.limits.ready_millis = 500).await;
    let (reason, message, _) = bridge.ended().await;
    assert_eq!(
        (reason, message.as_str()),
        (
            EndReason::InitializeTimeout,
            "The server did not answer `initialize` within 0.5 s."
        )
    );
    bridge.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn kills_a_server_that_ignores_sigterm() {
    let mut bridge = Bridge::ready("stubborn").await;
    assert_eq!(bridge.marked().len(), 2);
    bridge.ask(STOP).await;
    bridge.wait_for_log("SIGTERM ignored").await;
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
    assert!(
        bridge.marked().is_empty(),
        "no process is left when the bridge reports the end"
    );
    assert!(bridge.process.wait().await.unwrap().success());
}

#[tokio::test]
async fn leaves_no_grandchild_when_the_parent_has_ended() {
    let mut bridge = Bridge::ready("family").await;
    assert_eq!(bridge.marked().len(), 2, "a server and its orphaned grandchild");
    // This is all that the bridge notices of a parent that was killed.
    drop(bridge.input.take());
    bridge.wait_until_nothing_is_left().await;
    assert!(bridge.process.wait().await.unwrap().success());
    assert!(!bridge.folder.path().join("s").exists());
}

#[tokio::test]
async fn reaps_orphans() {
    let bridge = Bridge::ready("family").await;
    let server = bridge.pid;
    let grandchild = bridge.marked().into_iter().find(|pid| *pid != server).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(grandchild),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually(|| !fs::exists(format!("/proc/{grandchild}")).unwrap()).await;
}

#[tokio::test]
async fn nothing_outlives_a_bridge_that_is_killed() {
    let all = harness::layers();
    let contained = Layers {
        namespaces: false,
        ..all.clone()
    };
    for layers in [all, contained, Layers::default()] {
        let mut bridge = Bridge::ready_with("family", |spec| spec.confinement.layers = layers.clone()).await;
        assert_eq!(
            bridge.marked().len(),
            2,
            "{layers:?}: a server and its orphaned grandchild"
        );
        bridge.process.kill().await.unwrap();
        bridge.wait_until_nothing_is_left().await;
    }
}

/// A stopped bridge kills nothing, like one that was killed.
#[tokio::test]
async fn without_namespaces_what_a_server_started_ends_with_it() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::{Pid, getsid},
    };
    for layers in [
        Layers {
            namespaces: false,
            ..harness::layers()
        },
        Layers::default(),
    ] {
        let bridge = Bridge::ready_with("family", |spec| spec.confinement.layers = layers.clone()).await;
        let all = bridge.marked();
        let leads_session = |pid: i32| getsid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pid));
        let (grandchild, server): (Vec<_>, Vec<_>) = all.into_iter().partition(|&pid| leads_session(pid));
        assert_eq!((server.len(), grandchild.len()), (1, 1), "{layers:?}");
        let pid = Pid::from_raw(i32::try_from(bridge.process.id().unwrap()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(server[0]), Signal::SIGKILL).unwrap();
        bridge.wait_until_nothing_is_left().await;
    }
}

#[tokio::test]
async fn processes_that_are_left_are_found_by_their_marker() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().to_str().unwrap();
    let leave = |mark: String| {
        let mut command = std::process::Command::new("sleep");
        command.arg("600").env(stdio_bridge::MARKER, mark).spawn().unwrap()
    };
    let reaped = ["", "#1", "#12"].map(|session| {
        let mut left = leave(format!("{mark}{session}"));
        std::thread::spawn(move || left.wait().unwrap())
    });
    let mut others = ["more", "#a", "#1/x"].map(|more| leave(format!("{mark}{more}")));
    stdio_bridge::kill_marked(|marker| marker == mark, || false).unwrap();
    for reaped in reaped {
        assert!(!reaped.join().unwrap().success());
    }
    for other in &mut others {
        assert!(other.try_wait().unwrap().is_none(), "it is another server's");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn without_namespaces_a_server_ends_and_is_ended_as_with_them() {
    let contained = Layers {
        namespaces: false,
        ..harness::layers()
    };
    let mut bridge = Bridge::start("exit", |spec| spec.confinement.layers = contained.clone()).await;
    let (reason, _, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(7)));
    let mut bridge = Bridge::ready_with("good", |spec| spec.confinement.layers = contained.clone()).await;
    let answer = bridge.client().call(json!(1), "signal", json!({"signal": 9})).await;
    assert_eq!(
        answer["error"]["message"],
        "The MCP server was ended by the signal SIGKILL."
    );
    bridge.ended().await;
    let mut bridge = Bridge::ready_with("stubborn", |spec| spec.confinement.layers = contained.clone()).await;
    bridge.ask(STOP).await;
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
    assert!(
        bridge.marked().is_empty(),
        "no process is left when the bridge reports the end"
    );
}

#[tokio::test]
async fn signals_of_the_terminal_do_not_end_it_but_sigterm_does() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let mut bridge = Bridge::ready("good").await;
    let pid = Pid::from_raw(i32::try_from(bridge.process.id().unwrap()).unwrap());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGINT] {
        kill(pid, signal).unwrap();
    }
    assert_eq!(bridge.client().call(json!(1), "echo", json!({})).await["id"], 1);
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
}

#[tokio::test]
async fn gives_the_server_its_environment_and_files_and_nothing_else() {
    let mut bridge = Bridge::ready_with("good", |spec| {
        spec.environment
            .insert("API_KEY".to_owned(), "hunter2-secret".to_owned());
        spec.secrets.push("hunter2-secret".to_owned());
        let file = |path: &str, secret| File {
            path: path.to_owned(),
            content: "hunter2-secret".to_owned(),
            secret,
        };
        spec.files = vec![file("conf/key.pem", true), file("conf/plain", false)];
    })
    .await;
    let client = bridge.client();
    let environment = client.call(json!(1), "environment", json!({})).await;
    let seen = environment["result"].as_object().unwrap();
    assert_eq!(seen["API_KEY"], "hunter2-secret");
    // An interpreter may add variables; of the environment of this test, the server gets only PATH.
    let inherited: Vec<_> = std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO") && seen.contains_key(name))
        .collect();
    assert_eq!(inherited, [], "the server inherits nothing");
    assert!(!seen.contains_key("HOME"));
    let bridge_pid = bridge.process.id().unwrap();
    for file in ["environ", "cmdline"] {
        match fs::read(format!("/proc/{bridge_pid}/{file}")) {
            Ok(bytes) => assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{file}"),
            // The bridge is not dumpable: only processes of root can read its environment.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{file}"),
        }
    }
    let read = client.call(json!(1), "read", json!({"path": "conf/key.pem"})).await;
    assert_eq!(read["result"], json!({"text": "hunter2-secret", "mode": "0o600"}));
    client
        .call(
            json!(1),
            "say",
            json!({"text": "my key is hunter2-secret, or aHVudGVyMi1zZWNyZXQ="}),
        )
        .await;
    assert_eq!(
        bridge.wait_for_log("my key").await,
        "my key is [redacted], or [redacted]",
        "no secret is in a log"
    );
    bridge.input.take();
    bridge.ended().await;
    assert!(!bridge.folder.path().join("conf/key.pem").exists());
    assert!(bridge.folder.path().join("conf/plain").exists());
}

#[tokio::test]
async fn lines_beyond_the_rate_are_dropped_and_counted() {
    const LINES: usize = 20_000;
    for stream in ["stderr", "stdout"] {
        let mut bridge = Bridge::ready_with("good", |spec| {
            spec.limits.log_burst_bytes = 20_000;
            spec.limits.log_bytes_per_second = 10_000;
        })
        .await;
        let client = bridge.client();
        client
            .call(json!(1), "noise", json!({"stream": stream, "lines": LINES}))
            .await;
        let (mut shown, mut dropped) = (0, 0);
        while shown + dropped < LINES {
            let line = bridge.wait_for_log("").await;
            bridge.logs.clear();
            shown += usize::from(line.starts_with("noise "));
            if let Some((count, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(' ')) {
                dropped += count.parse::<usize>().unwrap();
                assert!(
                    rest.starts_with("lines (") && rest.ends_with("more than 10000 bytes a second]"),
                    "{line}"
                );
            }
        }
        assert_eq!(shown + dropped, LINES);
        assert!((100..1_000).contains(&shown), "{shown} shown");
        assert_eq!(client.call(json!(2), "echo", json!({})).await["id"], 2);
    }
}

#[tokio::test]
async fn refuses_a_file_outside_its_folder() {
    for path in ["../x", "/etc/x", "a/../../x", ""] {
        let file = File {
            path: path.to_owned(),
            content: String::new(),
            secret: false,
        };
        let mut bridge = Bridge::start("good", |spec| spec.files.push(file)).await;
        assert_eq!(bridge.ended().await.0, EndReason::NotStarted, "{path}");
    }
}

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

/// Starts a bridge as the service does, sends it the spec, and waits.
const PARENT: &str = r#"
import subprocess, sys, time
bridge = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, process_group=0)
bridge.stdin.write(open(sys.argv[2], "rb").read()); bridge.stdin.flush()
time.sleep(600)
"#;

#[tokio::test]
async fn nothing_outlives_a_parent_that_is_killed() {
    use tokio::io::AsyncBufReadExt as _;
    let folder = tempfile::tempdir().unwrap();
    let spec = harness::spec(folder.path(), "family");
    let file = folder.path().join("spec");
    fs::write(&file, serde_json::to_string(&spec).unwrap() + "\n").unwrap();
    let mut parent = tokio::process::Command::new("python3")
        .args(["-c", PARENT, env!("CARGO_BIN_EXE_stdio-bridge")])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut events = tokio::io::BufReader::new(parent.stdout.take().unwrap()).lines();
    while !events.next_line().await.unwrap().unwrap().contains("ready") {}
    assert_eq!(harness::marked(folder.path()).len(), 2);
    parent.kill().await.unwrap();
    eventually(|| harness::marked(folder.path()).is_empty()).await;
    eventually(|| !spec.socket.exists()).await;
}
