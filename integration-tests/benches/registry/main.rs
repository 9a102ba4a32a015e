//! What the registry and the gateway do at the size of a large company, beside what they should.
//!
//! `cargo bench -p integration-tests --bench registry`; it takes about half an hour, on SQLite and on PostgreSQL. The data set is made
//! anew in each run, in about a minute an engine ([`data`]): 10,000 entries, 100,000 installations (20,000 of one entry), 1,000 gateways, half of them
//! automatic, 1,000,000 assigned tools (one by one, or derived from labels; it is told how many of each), 20,000 definitions of tools,
//! 500 teams and 20,000 users. Each figure is one line that ends in `met` or `MISSED`; those that end in `told` have no limit.
//! Nothing fails because of a figure.
//!
//! `-- NAME…` measures only some: `lists`, `gateway` (in a process of its own), `watchers` (of a registry in a process of its own),
//! `labels`, `rollout`, `writes`, `program`, and `sqlite` or `postgres`. `CHANDLERY_BENCH_ENTRIES=1000` makes a smaller company, with
//! the rest in proportion.
//!
//! `CHANDLERY_BENCH_KEEP=1` leaves the databases there, for `EXPLAIN`, and says where they are.
//!
//! PostgreSQL: `CHANDLERY_TEST_POSTGRES_URL`, if it is set; else a server of this program's own, with `fsync` on and 256 MB of shared
//! buffers, from the programs in `CHANDLERY_TEST_POSTGRES_BIN` or `/usr/lib/postgresql`. The figure `writes` is one of a server with `fsync` on.
//!
//! `program` measures the release build of `chandlery`, `CHANDLERY_BIN` or what is in cargo's target folder: build it first, by `cargo build
//! --release -p chandlery`.

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

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A figure that takes longer is not measured.
const PATIENCE: Duration = Duration::from_secs(600);

/// The figures, in the order in which they are measured: what changes data comes last.
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

/// The program alone.
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

/// What is to be measured.
struct Asked {
    figures: Vec<Figure>,
    engines: Vec<Engine>,
    program: bool,
    size: Size,
}

impl Asked {
    fn parse() -> Result<Self> {
        // Cargo adds flags of its own.
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

/// A database with a data set in it.
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
        let failed = match tokio::time::timeout(PATIENCE, measured).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it takes more than {} s", PATIENCE.as_secs())),
        };
        if let Some(why) = failed {
            report.failed(Some(engine), figure.name(), &why);
        }
    }
    database::remove(&database, server.map(|server| &server.url)).await
}
