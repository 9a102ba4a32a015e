//! What whoever runs the benchmark may choose.

use std::{env, net::SocketAddr, path::PathBuf, str::FromStr};

/// How often each target is measured. A busy machine requires more.
const ROUNDS: usize = 10;

/// The options: environment variables, and arguments for what is measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// `CHANDLERY_BENCH_ROUNDS`.
    pub(crate) rounds: usize,
    /// `CHANDLERY_BENCH_UPSTREAM`: the address of the upstream, which an external gateway must know.
    pub(crate) upstream: SocketAddr,
    pub(crate) external: Option<External>,
    /// `CHANDLERY_BENCH_PLOTS`: the folder for the plots.
    pub(crate) plots: PathBuf,
    wanted: Vec<String>,
}

/// A gateway that runs already.
#[derive(Debug)]
pub(crate) struct External {
    /// `CHANDLERY_BENCH_GATEWAY`: its MCP endpoint, an http URL.
    pub(crate) url: http::Uri,
    /// `CHANDLERY_BENCH_GATEWAY_TOKEN`: a bearer token, if it requires one.
    pub(crate) token: Option<String>,
    /// `CHANDLERY_BENCH_GATEWAY_PREFIX`: what it puts before the names of the upstream's tools.
    pub(crate) prefix: String,
    /// `CHANDLERY_BENCH_GATEWAY_PIDS`: its processes, separated by commas. Without them, its CPU time is not measured, nor is it pinned.
    pub(crate) processes: Vec<i32>,
}

impl Options {
    /// Those of this process.
    ///
    /// # Panics
    /// If one is malformed.
    pub(crate) fn read() -> Self {
        let external = variable::<http::Uri>("CHANDLERY_BENCH_GATEWAY").map(|url| External {
            url,
            token: variable("CHANDLERY_BENCH_GATEWAY_TOKEN"),
            prefix: variable("CHANDLERY_BENCH_GATEWAY_PREFIX").unwrap_or_default(),
            processes: variable::<String>("CHANDLERY_BENCH_GATEWAY_PIDS")
                .map(|pids| pids.split(',').map(|pid| parse("a pid", pid)).collect())
                .unwrap_or_default(),
        });
        Self {
            rounds: variable("CHANDLERY_BENCH_ROUNDS").unwrap_or(ROUNDS),
            upstream: variable("CHANDLERY_BENCH_UPSTREAM").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            external,
            plots: variable("CHANDLERY_BENCH_PLOTS")
                .unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-proxy")),
            wanted: env::args()
                .skip(1)
                .filter(|argument| !argument.starts_with('-'))
                .collect(),
        }
    }

    /// Whether what has this title is measured: all, or what contains the text of an argument.
    pub(crate) fn wants(&self, title: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| title.contains(wanted))
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| parse(name, &text))
}

fn parse<T: FromStr>(name: &str, text: &str) -> T {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{name} is malformed: {text:?}"))
}
