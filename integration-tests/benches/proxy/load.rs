//! Callers on keep-alive connections, each of which waits for its response, and the figures of them and of the proxy's
//! processes.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use integration_tests::{process::descendants, upstream::fast::CONNECTIONS};
use serde_json::json;
use tokio::net::TcpStream;

/// The address under test.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tool_prefix: &'static str,
    /// The processes whose CPU time counts for the target.
    pub(crate) pids: Vec<i32>,
}

/// How many callers there are, and what they call.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) title: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) callers: usize,
}

/// The figures of one round.
pub(crate) struct Figures {
    pub(crate) calls: usize,
    pub(crate) rate: f64,
    /// Latencies in microseconds: p50, p99, p99.9.
    pub(crate) percentiles: [f64; 3],
    pub(crate) cpu: Duration,
    /// How many were opened to the upstream.
    pub(crate) connections: usize,
}

/// Runs the callers for `during`, on a separate thread.
pub(crate) async fn load(target: Target, load: Load, during: Duration) -> Figures {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(run(&target, load, during))
    };
    tokio::task::spawn_blocking(run)
        .await
        .expect("every call was answered well")
}

async fn run(target: &Target, load: Load, during: Duration) -> Figures {
    let mut senders = Vec::new();
    for _ in 0..load.callers {
        senders.push(connect(&target.address).await);
    }
    let mut running = tokio::task::JoinSet::new();
    let before = cpu(&target.pids);
    let begin = Instant::now();
    for (id, sender) in senders.into_iter().enumerate() {
        running.spawn(caller(sender, id, target.clone(), load.tool, begin + during));
    }
    let mut latencies = Vec::new();
    while let Some(joined) = running.join_next().await {
        latencies.extend(joined.expect("every call was answered well"));
    }
    let elapsed = begin.elapsed();
    let cpu = cpu(&target.pids) - before;
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = ((latencies.len() - 1) as f64 * share).round() as usize;
        latencies[index].as_secs_f64() * 1e6
    };
    Figures {
        calls: latencies.len(),
        rate: latencies.len() as f64 / elapsed.as_secs_f64(),
        percentiles: [0.5, 0.99, 0.999].map(percentile),
        cpu,
        connections: 0,
    }
}

/// A connection to the upstream, which is asked how many were opened to it.
pub(crate) struct Connections {
    sender: http1::SendRequest<Full<Bytes>>,
    address: String,
}

impl Connections {
    pub(crate) async fn to(upstream: &str) -> Self {
        Self {
            sender: connect(upstream).await,
            address: upstream.to_owned(),
        }
    }

    pub(crate) async fn opened(&mut self) -> usize {
        let request = Request::get(CONNECTIONS).header(header::HOST, &self.address);
        let request = request.body(Full::default()).expect("the headers are well formed");
        self.sender.ready().await.expect("the connection holds");
        let answer = self.sender.send_request(request).await.expect("the connection holds");
        let answer = answer.into_body().collect().await.expect("the answer is whole");
        let text = String::from_utf8(answer.to_bytes().into()).expect("it is ASCII");
        text.parse().expect("it is a number")
    }
}

async fn caller(
    mut sender: http1::SendRequest<Full<Bytes>>,
    id: usize,
    target: Target,
    tool: &'static str,
    until: Instant,
) -> Vec<Duration> {
    let minimum = if tool == "large" { 100_000 } else { 900 };
    // The callers share a session, in which each concurrent request must have its own id.
    let body = json!({
        "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": format!("{}{tool}", target.tool_prefix), "arguments": {"text": "x".repeat(900)}},
    });
    let body = Bytes::from(body.to_string());
    let mut latencies = Vec::new();
    loop {
        let mut request = Request::post(target.path)
            .header(header::HOST, &target.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        for (name, value) in &target.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body.clone()))
            .expect("the headers are well formed");
        let begin = Instant::now();
        if begin >= until {
            return latencies;
        }
        sender.ready().await.expect("the connection holds");
        let response = sender.send_request(request).await.expect("the connection holds");
        let status = response.status();
        let answer = response.into_body().collect().await.expect("the answer is whole");
        latencies.push(begin.elapsed());
        // A fast but wrong response must not count.
        let text = answer.to_bytes();
        assert!(
            status == StatusCode::OK && text.len() > minimum,
            "{}: {status} {text:?}",
            target.name
        );
    }
}

pub(crate) async fn connect(address: &str) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP stream");
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/1.1");
    tokio::spawn(connection);
    sender
}

/// User and system time of these processes: `/proc/PID/stat`, fields 14 and 15, in ticks of 10 ms.
pub(crate) fn cpu(pids: &[i32]) -> Duration {
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
pub(crate) fn resident(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

/// Resident memory of all descendants of a process, in MB.
pub(crate) fn resident_of_children(pid: i32) -> f64 {
    descendants(pid).iter().map(|process| resident(process.pid)).sum()
}
