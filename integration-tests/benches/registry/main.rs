//! Measures the registry and the gateway at the size of a large company, and compares the figures with their limits.
//!
//! `cargo bench -p integration-tests --bench registry` takes about half an hour, on SQLite and on PostgreSQL. Each run
//! creates the data set anew, in about a minute per engine ([`data`]): 10,000 entries, 100,000 installations (20,000 of
//! one entry), 1,000 gateways, half of them automatic, 1,000,000 assigned tools (assigned individually or derived from
//! labels; the output says how many of each), 20,000 definitions of tools, 500 teams and 20,000 users. Each figure is
//! one line that ends in `met` or `MISSED`, or in `told` if it has no limit. No figure makes the benchmark fail.
//!
//! `-- NAME…` measures only some figures: `lists`, `gateway` (in its own process), `watchers` (of a registry in its own
//! process), `labels`, `rollout`, `writes`, `program`; and only on `sqlite` or `postgres`.
//! `CHANDLERY_BENCH_ENTRIES=1000` makes a smaller company, with the rest in proportion.
//!
//! `CHANDLERY_BENCH_KEEP=1` keeps the databases, for `EXPLAIN`, and prints where they are.
//!
//! PostgreSQL is the server of `CHANDLERY_TEST_POSTGRES_URL`. If that is not set, the benchmark starts a server with
//! `fsync` on and 256 MB of shared buffers, from the programs in `CHANDLERY_TEST_POSTGRES_BIN` or
//! `/usr/lib/postgresql`. The figure `writes` requires a server with `fsync` on.
//!
//! `program` measures the release build of `chandlery`: `CHANDLERY_BIN`, or the one in cargo's target folder. Build it
//! first, with `cargo build --release -p chandlery`.

mod child;
mod data;
mod database;
mod figures;
mod report;
mod stack;

use std::{env, io::Write as _, path::Path, time::Duration};

use integration_tests::Result;
use registry_svc::Database;
use service_kit::{Clock, testing::TestIssuer};

use data::{Plan, Size};
use database::{Engine, Server};
use figures::{gateway, labels, lists, program, rollout, watchers, writes};
use report::{Report, say};
use stack::{World, make_schema};

/// The same allocator as in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The timeout of a figure.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The figures, in the order in which they are measured. Those that change data come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Lists,
    Gateway,
    Watchers,
    Labels,
    Rollout,
    Writes,
}

impl Figure {
    const ALL: [Self; 6] = [
        Self::Lists,
        Self::Gateway,
        Self::Watchers,
        Self::Labels,
        Self::Rollout,
        Self::Writes,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lists => "lists",
            Self::Gateway => "gateway",
            Self::Watchers => "watchers",
            Self::Labels => "labels",
            Self::Rollout => "rollout",
            Self::Writes => "writes",
        }
    }
}

/// The name of the figure of the program.
const PROGRAM: &str = "program";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some(played) = child::play().await {
            return played;
        }
        let report = measure(&Asked::parse()?).await?;
        write!(std::io::stdout(), "\n{}", report.finish())?;
        Ok(())
    })
}

/// What to measure.
struct Asked {
    figures: Vec<Figure>,
    engines: Vec<Engine>,
    program: bool,
    size: Size,
}

impl Asked {
    fn parse() -> Result<Self> {
        // Cargo adds its own flags.
        let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        let has = |name: &str| words.iter().any(|word| word == name);
        let mut engines: Vec<_> = Engine::ALL
            .into_iter()
            .filter(|engine| has(&engine.to_string()))
            .collect();
        let mut figures: Vec<_> = Figure::ALL.into_iter().filter(|figure| has(figure.name())).collect();
        let program = has(PROGRAM);
        let known = engines.len() + figures.len() + usize::from(program);
        if known < words.len() {
            let names: Vec<_> = Figure::ALL.into_iter().map(Figure::name).collect();
            return Err(format!("not all of {words:?} are among {names:?}, {PROGRAM}, sqlite and postgres").into());
        }
        let some = program || !figures.is_empty();
        if !some {
            figures = Figure::ALL.to_vec();
        }
        let all_engines = engines.is_empty();
        if all_engines {
            engines = Engine::ALL.to_vec();
        }
        let size = match env::var("CHANDLERY_BENCH_ENTRIES") {
            Ok(entries) => Size::of(entries.parse()?),
            Err(_) => Size::FULL,
        };
        Ok(Self {
            program: program || (!some && all_engines),
            figures,
            engines,
            size,
        })
    }
}

async fn measure(asked: &Asked) -> Result<Report> {
    let mut report = Report::default();
    let mut folder = tempfile::tempdir()?;
    folder.disable_cleanup(database::are_kept());
    let issuer = TestIssuer::start().await?;
    for &engine in asked.engines.iter().filter(|_| !asked.figures.is_empty()) {
        let server = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Server::start().await?),
        };
        measure_on(engine, server.as_ref(), asked, &issuer, folder.path(), &mut report).await?;
    }
    if asked.program {
        say("\nprogram");
        if let Err(error) = program::measure(&mut report).await {
            report.failed(None, PROGRAM, &error.to_string());
        }
    }
    Ok(report)
}

/// Creates a database and fills it with a data set.
async fn make(plan: Plan, server: Option<&Server>, folder: &Path, issuer: &TestIssuer) -> Result<(Plan, Database)> {
    let database = match server {
        Some(server) => database::postgres(&server.url).await?,
        None => database::sqlite(folder),
    };
    say(&format!("  {:?}", plan.size));
    make_schema(&database, issuer.verifier(Clock::System)).await?;
    plan.fill(&database).await?;
    say(&format!(
        "  its database has {} MB",
        database::bytes(&database).await? / 1_000_000
    ));
    Ok((plan, database))
}

async fn measure_on(
    engine: Engine,
    server: Option<&Server>,
    asked: &Asked,
    issuer: &TestIssuer,
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    match server {
        Some(server) => say(&format!("\n{}", server.describe().await?)),
        None => say(&format!("\n{engine}")),
    }
    let new = async |size| make(Plan::new(size, issuer.issuer()), server, folder, issuer).await;
    let (plan, database) = new(asked.size).await?;
    let world = World {
        plan: &plan,
        database: &database,
        issuer,
    };
    for &figure in &asked.figures {
        say(&format!("{engine}: {}", figure.name()));
        database::forget_watchers(&database).await?;
        let measured = async {
            match figure {
                Figure::Lists => {
                    let (plan, database) = new(Size::of(Size::SMALL)).await?;
                    let small = World {
                        plan: &plan,
                        database: &database,
                        issuer,
                    };
                    let measured = lists::measure(engine, &world, &small, report).await;
                    database::remove(&database, server.map(|server| &server.url)).await?;
                    measured
                }
                Figure::Gateway => gateway::measure(engine, &world, folder, report).await,
                Figure::Watchers => watchers::measure(engine, &world, report).await,
                Figure::Labels => labels::measure(engine, &world, report).await,
                Figure::Rollout => rollout::measure(engine, &world, report).await,
                Figure::Writes => writes::measure(engine, &world, report).await,
            }
        };
        let failed = match tokio::time::timeout(TIMEOUT, measured).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it takes more than {} s", TIMEOUT.as_secs())),
        };
        if let Some(why) = failed {
            report.failed(Some(engine), figure.name(), &why);
        }
    }
    database::remove(&database, server.map(|server| &server.url)).await
}
