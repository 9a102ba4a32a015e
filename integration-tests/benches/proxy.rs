//! What the gateway costs a tool call, beside nginx as a plain reverse proxy and beside the upstream itself.
//!
//! `cargo bench -p integration-tests --bench proxy`. Everything is on 127.0.0.1: the load (bounded in count), the upstream of
//! ours, a release build of `chandlery` with its JWT checked and a credential injected, nginx with kept-alive connections.
//! `CHANDLERY_BENCH_CALLS` sets the calls of a run with 64 callers (default 40,000).

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::Command as StdCommand,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use integration_tests::{
    McpClient, Stack,
    process::{Program, descendants, free_port},
    tools::Tool,
    upstream::fast::FastUpstream,
    wait::eventually,
    walk,
};
use serde_json::json;
use tokio::net::TcpStream;

/// Where a load goes.
#[derive(Clone)]
struct Target {
    name: &'static str,
    address: String,
    path: String,
    headers: Vec<(String, String)>,
    tool_prefix: &'static str,
    /// The processes whose CPU time is the proxy's; none for the upstream, which is this process.
    pids: Vec<i32>,
}

/// What a load measured.
struct Figures {
    calls: usize,
    elapsed: Duration,
    latencies: Vec<Duration>,
    cpu: Option<Duration>,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&self, share: f64) -> f64 {
        let index = ((self.latencies.len() - 1) as f64 * share).round() as usize;
        self.latencies[index].as_secs_f64() * 1e6
    }

    fn cpu_per_call(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.calls as f64)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(measure());
    let _ = std::io::stdout().write_all(report.as_bytes());
}

async fn measure() -> String {
    let calls: usize = std::env::var("CHANDLERY_BENCH_CALLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40_000);
    let upstream = FastUpstream::start().await;
    let (_nginx, nginx_target) = nginx(&upstream).await;
    // What a person runs: no debug logging.
    let (stack, gateway_target, start) = gateway(&upstream).await;
    let direct = Target {
        name: "upstream",
        address: upstream.address().to_string(),
        path: "/mcp".to_owned(),
        headers: Vec::new(),
        tool_prefix: "",
        pids: Vec::new(),
    };
    let targets = [direct, nginx_target, gateway_target];
    let mut report = String::new();
    let loads = [
        ("1 KB, 64 callers", "small", 64, calls),
        ("1 KB, 1 caller", "small", 1, calls / 4),
        ("100 KB, 16 callers", "large", 16, calls / 8),
    ];
    for (title, tool, callers, count) in loads {
        for target in &targets {
            load(target, tool, callers, count / 8).await;
        }
        // Rounds are interleaved, so that what else the machine does hits all alike; the median round counts.
        let mut rounds: Vec<Vec<Figures>> = Vec::new();
        for _ in 0..3 {
            let mut round = Vec::new();
            for target in &targets {
                round.push(load(target, tool, callers, count).await);
            }
            rounds.push(round);
        }
        let _ = writeln!(report, "\ntools/call, {title}, {count} calls, median of 3 rounds");
        let _ = writeln!(
            report,
            "  {:<10} {:>10} {:>9} {:>9} {:>9} {:>12}",
            "", "req/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/call"
        );
        let mut chosen = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let mut of_target: Vec<&Figures> = rounds.iter().map(|round| &round[index]).collect();
            of_target.sort_by(|one, other| one.rate().total_cmp(&other.rate()));
            let figures = of_target[1];
            let cpu = figures
                .cpu_per_call()
                .map_or("-".to_owned(), |micros| format!("{micros:.1}"));
            let _ = writeln!(
                report,
                "  {:<10} {:>10.0} {:>9.0} {:>9.0} {:>9.0} {:>12}",
                target.name,
                figures.rate(),
                figures.percentile(0.5),
                figures.percentile(0.99),
                figures.percentile(0.999),
                cpu
            );
            chosen.push(figures);
        }
        let (direct, nginx, gateway) = (chosen[0], chosen[1], chosen[2]);
        let added = |figures: &Figures| figures.percentile(0.5) - direct.percentile(0.5);
        let _ = writeln!(
            report,
            "  gateway : nginx   throughput {:.2}",
            gateway.rate() / nginx.rate()
        );
        let _ = writeln!(
            report,
            "                    added median {:.2} ({:.0} µs : {:.0} µs)",
            added(gateway) / added(nginx),
            added(gateway),
            added(nginx)
        );
        if let (Some(ours), Some(theirs)) = (gateway.cpu_per_call(), nginx.cpu_per_call()) {
            let _ = writeln!(report, "                    CPU a call {:.2}", ours / theirs);
        }
    }
    let _ = writeln!(report, "\nstart to ready, with data   {} ms", start.as_millis());
    let _ = writeln!(report, "memory after the load       {:.1} MB", resident(stack.pid()));
    let idle = Stack::builder().start().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _ = writeln!(report, "memory when idle            {:.1} MB", resident(idle.pid()));
    let of_children: f64 = descendants(idle.pid())
        .iter()
        .map(|process| resident(process.pid))
        .sum();
    let _ = writeln!(report, "  and of its demo server    {of_children:.1} MB");
    report
}

async fn nginx(upstream: &FastUpstream) -> (Program, Target) {
    let folder = tempfile::tempdir().expect("a place for temporary files").keep();
    let port = free_port();
    let path = folder.display();
    let configuration = format!(
        "worker_processes 2;\nerror_log stderr warn;\npid {path}/nginx.pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {path}/b;\n  proxy_temp_path {path}/p;\n  fastcgi_temp_path {path}/f;\n\
         uwsgi_temp_path {path}/u;\n  scgi_temp_path {path}/s;\n  keepalive_requests 1000000;\n\
         upstream mcp {{ server {}; keepalive 128; keepalive_requests 1000000; }}\n\
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://mcp;\n      proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n      proxy_buffers 16 16k;\n    }}\n  }}\n}}\n",
        upstream.address()
    );
    fs::write(folder.join("nginx.conf"), configuration).expect("it can be written");
    let mut command = tokio::process::Command::new(Tool::Nginx.path());
    command
        .arg("-p")
        .arg(&folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .args(["-g", "daemon off;"]);
    if StdCommand::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
    {
        // Its workers would be another user's, who cannot use the folder.
        command.args(["-g", "daemon off; user root;"]);
    }
    let program = Program::start(command);
    eventually("nginx listens", || async {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let pids = descendants(program.pid()).iter().map(|process| process.pid).collect();
    let target = Target {
        name: "nginx",
        address: format!("127.0.0.1:{port}"),
        path: "/mcp".to_owned(),
        headers: Vec::new(),
        tool_prefix: "",
        pids,
    };
    (program, target)
}

async fn gateway(upstream: &FastUpstream) -> (Stack, Target, Duration) {
    let mut stack = Stack::builder().variable("RUST_LOG", "info").start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "fast",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    alice.install("fast", None, &[("key", "a-secret-of-hers")]).await;
    admin.gateway("bench").await;
    for tool in ["small", "large"] {
        admin.assign("bench", "fast", tool).await;
    }
    stack.stop().await;
    let start = Instant::now();
    stack.start_again().await;
    let start = start.elapsed();
    let alice = stack.caller(Some(alice.token().to_owned()));
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
        path: "/mcp/bench".to_owned(),
        headers,
        tool_prefix: "fast__",
        pids: vec![stack.pid()],
    };
    (stack, target, start)
}

/// Calls `count` times in all from `callers` kept-alive connections, each of which waits for its answer.
async fn load(target: &Target, tool: &str, callers: usize, count: usize) -> Figures {
    let left = Arc::new(AtomicUsize::new(count));
    let minimum = if tool == "large" { 100_000 } else { 900 };
    let mut senders = Vec::new();
    for _ in 0..callers {
        senders.push(connect(&target.address).await);
    }
    let before = cpu(&target.pids);
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for mut sender in senders {
        let (target, left) = (target.clone(), Arc::clone(&left));
        let body = json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": format!("{}{tool}", target.tool_prefix), "arguments": {"text": "x".repeat(900)}},
        })
        .to_string();
        let body = Bytes::from(body);
        running.spawn(async move {
            let mut latencies = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let mut request = Request::post(&target.path)
                    .header(header::HOST, &target.address)
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::ACCEPT, "application/json, text/event-stream");
                for (name, value) in &target.headers {
                    request = request.header(name, value);
                }
                let request = request
                    .body(Full::new(body.clone()))
                    .expect("the headers are well formed");
                let start = Instant::now();
                let response = sender.send_request(request).await.expect("the connection holds");
                let status = response.status();
                let text = response
                    .into_body()
                    .collect()
                    .await
                    .expect("the answer is whole")
                    .to_bytes();
                latencies.push(start.elapsed());
                // A wrong answer that is fast is no figure.
                assert!(
                    status == StatusCode::OK && text.len() > minimum,
                    "{}: {status} {text:?}",
                    target.name
                );
            }
            latencies
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(joined) = running.join_next().await {
        latencies.extend(joined.expect("every call was answered well"));
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    let cpu = (!target.pids.is_empty()).then(|| cpu(&target.pids) - before);
    Figures {
        calls: latencies.len(),
        elapsed,
        latencies,
        cpu,
    }
}

async fn connect(address: &str) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP stream");
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/1.1");
    tokio::spawn(connection);
    sender
}

/// User and system time of some processes: `/proc/PID/stat`, fields 14 and 15, in ticks of 10 ms.
fn cpu(pids: &[i32]) -> Duration {
    let ticks: u64 = pids
        .iter()
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory in MB.
fn resident(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kilobytes| kilobytes.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}
