//! Measures what the gateway costs a tool call, compared with nginx as a plain reverse proxy and with the upstream
//! itself; what idle sessions cost it; and how long lists of many tools and searches take.
//!
//! `cargo bench -p integration-tests --bench proxy` takes about two minutes. Everything runs on 127.0.0.1, each in its
//! own process: the load (this process, limited in callers and time), an upstream (this program again), a release build
//! of `chandlery` that verifies a JWT and injects a credential, and nginx with keep-alive connections.
//! `CHANDLERY_BENCH_ROUNDS` sets how often each target is measured (default 10); a busy machine requires more. `-- '100
//! KB'` measures only the loads with that text in their names.

mod load;
mod report;
mod setup;
mod streams;
mod tools;

use std::{
    io::Write as _,
    os::unix::process::parent_id,
    time::{Duration, Instant},
};

use integration_tests::{Stack, stack, upstream::fast::FastUpstream};

use load::{Connections, Load, Target, load, resident, resident_of_children};
use report::{Report, Start};

/// The length of one round. There are many short rounds of all targets in turn, so that other load of the machine
/// affects all alike.
const ROUND: Duration = Duration::from_millis(700);
const WARM_UP: Duration = Duration::from_millis(400);
const ROUNDS: usize = 10;
/// The argument that makes this process the upstream.
const UPSTREAM: &str = "upstream";

const LOADS: [Load; 4] = [
    Load {
        title: "1 KB result, 64 callers",
        tool: "small",
        callers: 64,
    },
    Load {
        title: "1 KB result as SSE, 64 callers",
        tool: "streamed",
        callers: 64,
    },
    Load {
        title: "1 KB result, 1 caller",
        tool: "small",
        callers: 1,
    },
    Load {
        title: "100 KB result, 16 callers",
        tool: "large",
        callers: 16,
    },
];

fn main() {
    if std::env::args().nth(1).as_deref() == Some(UPSTREAM) {
        return be_upstream();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(measure());
    let _ = std::io::stdout().write_all(report.as_bytes());
}

/// Serves as the upstream and prints its address, until the parent process is gone.
fn be_upstream() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let parent = parent_id();
    runtime.block_on(async {
        let upstream = FastUpstream::start().await;
        let _ = writeln!(std::io::stdout(), "{}", upstream.address());
        while parent_id() == parent {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

async fn measure() -> String {
    let rounds = std::env::var("CHANDLERY_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    stack::binary();
    let (_upstream, direct) = setup::upstream(UPSTREAM).await;
    let (mut proxy, nginx) = setup::nginx(&direct.address).await;
    let (gateway_stack, gateway, with_data) = setup::gateway(&direct.address).await;
    let targets = [direct, nginx, gateway];
    let mut connections = Connections::to(&targets[0].address).await;
    let mut report = Report::default();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for load in LOADS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| load.title.contains(wanted)) {
            continue;
        }
        report.add(&load, measure_load(&targets, &mut connections, load, rounds).await);
    }
    // SIGKILL would leave its workers behind.
    proxy.terminate().await;
    let after_load = resident(gateway_stack.pid());
    drop(gateway_stack);
    report.add_idle(&streams::measure().await);
    report.add_tools(&tools::measure().await);

    let begin = Instant::now();
    let idle = Stack::builder().variable("RUST_LOG", "info").start().await;
    let first = begin.elapsed();
    // The program is idle only after the demo is running and its tools are discovered.
    tokio::time::sleep(Duration::from_secs(5)).await;
    report.finish(&Start {
        first,
        with_data,
        idle: resident(idle.pid()),
        idle_children: resident_of_children(idle.pid()),
        after_load,
    })
}

/// The figures of every target in every round.
async fn measure_load(
    targets: &[Target; 3],
    connections: &mut Connections,
    of: Load,
    rounds: usize,
) -> [Vec<load::Figures>; 3] {
    for target in targets {
        load(target.clone(), of, WARM_UP).await;
    }
    let mut figures = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (target, figures) in targets.iter().zip(&mut figures) {
            let before = connections.opened().await;
            let mut round = load(target.clone(), of, ROUND).await;
            round.connections = connections.opened().await - before;
            figures.push(round);
        }
    }
    figures
}
