//! Callers on keep-alive connections, each of which waits for its answer, and the figures of one round of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use crate::{
    client::{Client, SESSION, message},
    usage::Cpu,
};

/// Who answers the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// The upstream itself.
    Upstream,
    Nginx,
    Gateway,
    /// A gateway that was started by whoever runs the benchmark.
    External,
}

impl Party {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Nginx => "nginx",
            Self::Gateway => "gateway",
            Self::External => "external",
        }
    }
}

/// What is called, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) party: Party,
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) path: Uri,
    /// The headers of each client; each call is of the next.
    pub(crate) clients: Arc<[HeaderMap]>,
    /// The names of the tools; each call is of the next.
    pub(crate) tools: Arc<[String]>,
    /// The processes whose CPU time counts for the target; none for the upstream, whose time is measured anyway.
    pub(crate) processes: Vec<i32>,
}

/// What one caller does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One call.
    Call,
    /// It begins a session and makes one call in it, which together count as one.
    Session,
}

/// How many callers there are, and what they do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) callers: usize,
    pub(crate) work: Work,
    /// The number of bytes that an answer has at least.
    pub(crate) answer: usize,
}

/// The figures of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) calls: usize,
    pub(crate) elapsed: Duration,
    /// Latencies in microseconds: p50, p99, p99.9.
    pub(crate) percentiles: [f64; 3],
    /// Of the target's processes.
    pub(crate) proxy: Cpu,
    pub(crate) upstream: Cpu,
    /// How many were opened to the upstream.
    pub(crate) connections: usize,
}

/// Runs the callers for `during`, on a separate thread.
pub(crate) async fn load(target: Target, load: Load, upstream: i32, during: Duration) -> Figures {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(run(&target, load, upstream, during))
    };
    tokio::task::spawn_blocking(run)
        .await
        .expect("every call was answered well")
}

async fn run(target: &Target, load: Load, upstream: i32, during: Duration) -> Figures {
    let mut clients = Vec::new();
    for _ in 0..load.callers {
        clients.push(Client::connect(&target.address).await);
    }
    let calls = calls(target, load.callers);
    let mut running = tokio::task::JoinSet::new();
    let usage = || (Cpu::of(&target.processes), Cpu::of(&[upstream]));
    let (proxy_before, upstream_before) = usage();
    let begin = Instant::now();
    for (number, client) in clients.into_iter().enumerate() {
        let caller = Caller {
            number,
            client,
            target: target.clone(),
            load,
            calls: Arc::clone(&calls),
        };
        running.spawn(caller.run(begin + during));
    }
    let mut latencies = Vec::new();
    while let Some(joined) = running.join_next().await {
        latencies.extend(joined.expect("every call was answered well"));
    }
    let elapsed = begin.elapsed();
    let (proxy, upstream) = usage();
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * share).round() as usize;
        latencies
            .get(index)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    Figures {
        calls: latencies.len(),
        elapsed,
        percentiles: [0.5, 0.99, 0.999].map(percentile),
        proxy: proxy - proxy_before,
        upstream: upstream - upstream_before,
        connections: 0,
    }
}

/// A call of each tool, and at least one for each caller: callers that share a session must have different ids in it.
fn calls(target: &Target, callers: usize) -> Arc<[Bytes]> {
    let call = |id: usize| {
        let name = &target.tools[id % target.tools.len()];
        let parameters = json!({"name": name, "arguments": {"text": "x".repeat(900)}});
        message(id, "tools/call", &parameters)
    };
    (0..target.tools.len().max(callers)).map(call).collect()
}

struct Caller {
    number: usize,
    client: Client,
    target: Target,
    load: Load,
    calls: Arc<[Bytes]>,
}

impl Caller {
    /// Works until then, and returns how long each call took.
    async fn run(mut self, until: Instant) -> Vec<Duration> {
        let mut latencies = Vec::new();
        for turn in 0.. {
            let next = self.number + turn * self.load.callers;
            let call = self.calls[next % self.calls.len()].clone();
            let headers = &self.target.clients[next % self.target.clients.len()];
            let begin = Instant::now();
            if begin >= until {
                break;
            }
            let answer = match self.load.work {
                Work::Call => self.client.post(&self.target.path, headers, call).await,
                Work::Session => {
                    let mut headers = headers.clone();
                    headers.remove(SESSION);
                    let headers = self.client.initialize(&self.target.path, &headers).await;
                    self.client.post(&self.target.path, &headers, call).await
                }
            };
            latencies.push(begin.elapsed());
            // A fast but wrong response must not count.
            assert!(
                answer.status == StatusCode::OK && answer.body.len() > self.load.answer,
                "{}: {} {:?}",
                self.target.party.name(),
                answer.status,
                answer.body
            );
        }
        latencies
    }
}
