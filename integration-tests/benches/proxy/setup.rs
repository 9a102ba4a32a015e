//! Starts the upstream, nginx and the gateway.

use std::{
    fs,
    process::Command as StdCommand,
    time::{Duration, Instant},
};

use contracts::registry::{CustomHeader, injection::Kind};
use integration_tests::{
    McpClient, Stack,
    process::{Program, descendants, free_port},
    tools::Tool,
    wait::eventually,
    walk,
};
use serde_json::json;
use tokio::{net::TcpStream, process::Command};

use crate::load::Target;

/// Starts this program again as the upstream.
pub(crate) async fn upstream(part: &str) -> (Program, Target) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg(part);
    let program = Program::start(command);
    let lines = program.lines().clone();
    let address = eventually("the upstream listens", || async { lines.all().first().cloned() }).await;
    let target = Target {
        name: "upstream",
        address,
        path: "/mcp",
        headers: Vec::new(),
        tool_prefix: "",
        pids: vec![program.pid()],
    };
    (program, target)
}

/// Starts nginx with as many workers as the gateway has threads, and with buffers for the largest response.
pub(crate) async fn nginx(upstream: &str) -> (Program, Target) {
    let folder = tempfile::tempdir().expect("a place for temporary files").keep();
    let port = free_port();
    let path = folder.display();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let configuration = format!(
        "worker_processes {workers};\nerror_log stderr warn;\npid {path}/nginx.pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {path}/b;\n  proxy_temp_path {path}/p;\n  fastcgi_temp_path {path}/f;\n  \
         uwsgi_temp_path {path}/u;\n  scgi_temp_path {path}/s;\n  keepalive_requests 1000000;\n  \
         upstream mcp {{ server {upstream}; keepalive 128; keepalive_requests 1000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://mcp;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffers 16 16k;\n    }}\n  }}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), configuration).expect("it can be written");
    let mut command = Command::new(Tool::Nginx.path());
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
    let root = StdCommand::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    // Otherwise its workers would run as another user, who cannot use the folder.
    command.args(["-g", if root { "daemon off; user root;" } else { "daemon off;" }]);
    let program = Program::start(command);
    eventually("nginx listens", || async {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let pids = descendants(program.pid()).iter().map(|process| process.pid).collect();
    let target = Target {
        name: "nginx",
        address: format!("127.0.0.1:{port}"),
        path: "/mcp",
        headers: Vec::new(),
        tool_prefix: "",
        pids,
    };
    (program, target)
}

/// Starts the gateway and installs the upstream. Also returns how long a start on these data took until it was ready.
pub(crate) async fn gateway(upstream: &str) -> (Stack, Target, Duration) {
    // Logs as a user would configure it, not at debug level. The quotas are raised because one caller makes all calls.
    let mut stack = Stack::builder()
        .variable("RUST_LOG", "info")
        .flag("--max-requests-per-minute", "1000000000")
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let injection = Kind::CustomHeader(CustomHeader {
        name: "x-api-key".to_owned(),
    });
    let entry = walk::remote(&format!("http://{upstream}/mcp"));
    admin.publish("fast", walk::with_static(entry, "key", injection)).await;
    alice.install("fast", None, &[("key", "a-secret-of-hers")]).await;
    admin.gateway("bench").await;
    for tool in ["small", "streamed", "large"] {
        admin.assign("bench", "fast", tool).await;
    }
    stack.stop().await;
    let begin = Instant::now();
    stack.start_again().await;
    let start = begin.elapsed();
    let client = McpClient::connect(&stack.mcp_url("bench"), Some(alice.token()), Default::default())
        .await
        .expect("it is taken");
    client.call_text("fast__small", json!({})).await;
    let mut headers = vec![
        ("authorization".to_owned(), format!("Bearer {}", alice.token())),
        ("mcp-protocol-version".to_owned(), "2025-11-25".to_owned()),
    ];
    headers.extend(
        client
            .session()
            .map(|session| ("mcp-session-id".to_owned(), session.to_owned())),
    );
    let target = Target {
        name: "gateway",
        address: stack.http().to_owned(),
        path: "/mcp/bench",
        headers,
        tool_prefix: "fast__",
        pids: vec![stack.pid()],
    };
    (stack, target, start)
}
