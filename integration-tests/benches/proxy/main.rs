//! Measures what the gateway costs a tool call, compared with nginx as a plain reverse proxy and with the upstream
//! itself; what idle sessions cost it; and how long lists of many tools and searches take.
//!
//! `cargo bench -p integration-tests --bench proxy` takes about ten minutes. Everything runs on 127.0.0.1, each in its
//! own process: the load (this process, limited in callers and time), an upstream (this program again), a release build
//! of `chandlery` that verifies a JWT and injects a credential, and nginx with keep-alive connections. The load is
//! measured with the proxy on a core of its own, and with all processes on all cores. Each line at the end says whether
//! a figure is `met` or `MISSED`; plots are in `target/tmp/bench-proxy/`.
//!
//! `CHANDLERY_BENCH_ROUNDS` sets how often each target is measured (default 10); a busy machine requires more. `-- '100
//! KB'` measures only what has that text in its name. Another gateway is measured beside them with `CHANDLERY_BENCH_GATEWAY`
//! (its MCP endpoint) and the other variables of `options.rs`.

mod client;
mod cores;
mod load;
mod options;
mod report;
mod rounds;
mod scenario;
mod setup;
mod streams;
mod tools;
mod usage;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use integration_tests::{Stack, stack};

use cores::Cores;
use options::Options;
use report::{Report, Start};
use scenario::{Kind, Running};
use usage::{resident, resident_of_children};

/// After this time, the program is idle: the demo is running and its tools are discovered.
const IDLE: Duration = Duration::from_secs(60);
/// What is measured beside the loads.
const STREAMS: &str = "idle sessions";
const TOOLS: &str = "lists of many tools";
const START: &str = "start and memory";

fn main() {
    if setup::upstream::is_this_process() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(measure(&Options::read()));
    let _ = std::io::stdout().write_all(report.as_bytes());
}

async fn measure(options: &Options) -> String {
    stack::binary();
    let mut report = Report::default();
    let (with_data, after_load) = measure_loads(options, &mut report).await;
    if options.wants(STREAMS) {
        report.add_idle(&streams::measure().await);
    }
    if options.wants(TOOLS) {
        report.add_tools(&tools::measure().await);
    }
    if options.wants(START) {
        let begin = Instant::now();
        let idle = Stack::builder().variable("RUST_LOG", "info").start().await;
        let first = begin.elapsed();
        tokio::time::sleep(IDLE).await;
        report.add_start(&Start {
            first,
            with_data,
            idle: resident(idle.pid()),
            idle_children: resident_of_children(idle.pid()),
            after_load,
        });
    }
    report.finish(&options.plots)
}

/// Measures the loads. Returns how long the gateway took to start with data, and its memory after the loads.
async fn measure_loads(options: &Options, report: &mut Report) -> (Duration, f64) {
    let cores = Cores::of_this_process();
    let running = Running::start(options).await;
    for kind in Kind::ALL.into_iter().filter(|kind| options.wants(kind.title())) {
        report.add(rounds::measure(&running, &cores, kind, options.rounds).await);
    }
    let figures = (running.gateway.start, resident(running.gateway.stack.pid()));
    running.nginx.end().await;
    figures
}
