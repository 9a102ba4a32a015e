//! Measures sixteen people who install entries one after another, while one gateway applies each installation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::registry::{CreateInstallationRequest, Installation};
use integration_tests::{Caller, Result};
use service_kit::{Clock, Workload};
use tokio::task::JoinSet;
use tonic::Status;
use uuid::Uuid;

use crate::{
    database::Engine,
    report::{Report, Times, Wanted, say},
    stack::{Gateway, Registry, World, lags},
};

const CALLERS: usize = 16;
const DURING: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) async fn measure(engine: Engine, world: &World<'_>, report: &mut Report) -> Result<()> {
    let verifier = world.issuer.verifier(Clock::System);
    let registry = Registry::start(world.database, Arc::clone(&verifier)).await?;
    let gateway = Gateway::start(registry.pipe(Workload::Gateway), verifier).await?;
    let measured = install(engine, world, &registry, report).await;
    gateway.stop().await;
    registry.stop().await;
    measured
}

async fn install(engine: Engine, world: &World<'_>, registry: &Registry, report: &mut Report) -> Result<()> {
    let plan = world.plan;
    let entries = (0..plan.size.entries).filter(|&entry| plan.is_for_everybody(entry));
    let entries: Arc<[String]> = entries.map(|entry| plan.entry_name(entry)).collect();
    // Each run has new users, who have no installations.
    let run = Uuid::new_v4().simple().to_string();
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let token = world.newcomer(&format!("newcomer-{caller}-{run}"));
        callers.spawn(install_all(registry.caller(token), Arc::clone(&entries), caller, begin));
    }
    let (mut times, mut late) = (Times::default(), 0);
    while let Some(ended) = callers.join_next().await {
        let (these, lagged) = ended??;
        times.add(these);
        late += lagged;
    }
    let rate = times.count() as f64 / DURING.as_secs_f64();
    say(&format!(
        "  {} installations made in {} s; {late} returned before the gateway had them; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        times.count(),
        DURING.as_secs(),
        times.percentile(0.5),
        times.percentile(0.99),
        times.longest()
    ));
    let wanted = match engine {
        Engine::Postgres => Wanted::AtLeast(500.0),
        Engine::Sqlite => Wanted::Nothing,
    };
    let what = format!("installations made by {CALLERS} callers, one gateway acknowledging");
    report.figure(Some(engine), &what, rate, "/s", wanted);
    Ok(())
}

/// Records the latency of each call, and how many returned before the gateway had acknowledged.
async fn install_all(
    caller: Caller,
    entries: Arc<[String]>,
    first: usize,
    begin: Instant,
) -> Result<(Times, usize), Status> {
    let (mut times, mut late) = (Times::default(), 0);
    let (from, until) = (begin + WARM_UP, begin + WARM_UP + DURING);
    // The callers start at different entries.
    let offset = first * entries.len() / CALLERS;
    for index in 0..entries.len() {
        let called = Instant::now();
        if called >= until {
            break;
        }
        let request = CreateInstallationRequest {
            installation: Some(Installation {
                entry: entries[(offset + index) % entries.len()].clone(),
                ..Installation::default()
            }),
            request_id: String::new(),
        };
        let answer = caller.installations().create_installation(request).await?;
        if called >= from && Instant::now() < until {
            times.since(called);
            late += usize::from(lags(&answer));
        }
    }
    Ok((times, late))
}
