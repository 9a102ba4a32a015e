//! Resource usage and latencies of the program. Journeys report latencies but never assert them.

use std::{
    fmt, fs,
    io::Write as _,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{mcp::McpClient, stack::Stack};

/// The resource usage of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory, in MiB.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// The usage of the program.
    ///
    /// # Panics
    /// If the program does not run.
    pub fn of(stack: &Stack) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", stack.pid())).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            memory: kib.expect("Linux reports it") / 1024,
            descriptors: fs::read_dir(format!("/proc/{}/fd", stack.pid()))
                .expect("it runs")
                .count(),
        }
    }
}

/// Latencies of `/livez` and of a tool call.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    livez: Vec<Duration>,
    calls: Vec<Duration>,
    /// The highest memory usage during the measurement, in MiB.
    pub peak_memory: u64,
}

impl Figures {
    /// Requests `/livez` and calls `tool`, which must be an echo, repeatedly for `during`. Every response must be
    /// correct.
    ///
    /// # Panics
    /// If a response is wrong.
    pub async fn of(stack: &Stack, client: &McpClient, tool: &str, during: Duration) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client without TLS settings");
        let mut figures = Self::default();
        let start = Instant::now();
        for n in 0.. {
            if start.elapsed() >= during {
                break;
            }
            let asked = Instant::now();
            let answer = http.get(stack.url("/livez")).send().await.expect("/livez is answered");
            assert_eq!(answer.text().await.ok().as_deref(), Some("ok\n"));
            figures.livez.push(asked.elapsed());
            let text = format!("call {n}");
            let asked = Instant::now();
            assert_eq!(client.call_text(tool, json!({"text": text})).await, text);
            figures.calls.push(asked.elapsed());
            figures.peak_memory = figures.peak_memory.max(Usage::of(stack).memory);
        }
        figures
    }

    /// Prints the figures even if the test succeeds.
    pub fn report(&self, what: &str) {
        let _ = writeln!(std::io::stderr(), "{what:<40} {self}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort();
            times
                .get(times.len() * 99 / 100)
                .copied()
                .unwrap_or_default()
                .as_secs_f64()
                * 1000.0
        };
        write!(
            f,
            "p99 of {} /livez {:7.1} ms, of {} calls {:7.1} ms, at most {} MiB",
            self.livez.len(),
            p99(&self.livez),
            self.calls.len(),
            p99(&self.calls),
            self.peak_memory
        )
    }
}
