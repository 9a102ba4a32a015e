//! A gateway in a process of its own: how long it takes to be ready, and what it holds in memory.

use std::{sync::Arc, time::Duration};

use contracts::gateway::ListToolsRequest;
use futures::{StreamExt as _, TryStreamExt as _};
use integration_tests::{Caller, Result};
use service_kit::{Clock, Workload};

use crate::{
    child::{Child, Granted},
    data::{Plan, Size, consumers::gateway_name},
    database::{self, Engine},
    report::{Report, Wanted, say},
    stack::{Registry, World, make_schema},
};

/// The allocator gives back what is free in this time.
const SETTLE: Duration = Duration::from_secs(2);
/// Tables are built by so many calls at once.
const CALLS: usize = 8;

/// What one gateway took.
struct Taken {
    start: f64,
    /// MB more than before it was built, when it was ready.
    ready: f64,
    /// The same once every gateway's tools have been listed.
    used: f64,
    peak: f64,
}

pub(crate) async fn measure(
    engine: Engine,
    world: &World<'_>,
    folder: &std::path::Path,
    report: &mut Report,
) -> Result<()> {
    let taken = take(world).await?;
    report.figure(
        Some(engine),
        "gateway: from start to ready",
        taken.start,
        "s",
        Wanted::AtMost(5.0),
    );
    report.figure(
        Some(engine),
        "gateway: memory of its state, once all tools were listed",
        taken.used,
        "MB",
        Wanted::AtMost(600.0),
    );
    report.figure(
        Some(engine),
        "gateway: the same when it is ready",
        taken.ready,
        "MB",
        Wanted::Nothing,
    );
    report.figure(
        Some(engine),
        "gateway: most that its process ever took",
        taken.peak,
        "MB",
        Wanted::Nothing,
    );
    if engine == Engine::Sqlite {
        slope(world, &taken, folder, report).await?;
    }
    Ok(())
}

/// What an installation takes: the same company with a quarter and a half of the installations.
async fn slope(world: &World<'_>, whole: &Taken, folder: &std::path::Path, report: &mut Report) -> Result<()> {
    let size = world.plan.size;
    let mut held = Vec::new();
    for part in [4, 2] {
        let installations = size.installations / part;
        if installations < size.installations / 20 + size.entries * 2 {
            return Ok(());
        }
        say(&format!("  the same with {installations} installations"));
        let plan = Plan::new(Size { installations, ..size }, &world.plan.issuer);
        let database = database::sqlite(folder);
        make_schema(&database, world.issuer.verifier(Clock::System)).await?;
        plan.fill(&database).await?;
        let smaller = World {
            plan: &plan,
            database: &database,
            issuer: world.issuer,
        };
        held.push((installations, take(&smaller).await?.ready));
        database::remove(&database, None).await?;
    }
    held.push((size.installations, whole.ready));
    // What the allocator keeps for later is some MB, more or less: the whole span says most.
    let bytes =
        |(few, less): (usize, f64), (many, more): (usize, f64)| (more - less) * 1024.0 * 1024.0 / (many - few) as f64;
    if let [quarter, half, whole] = held[..] {
        say(&format!(
            "  an installation takes {:.0} bytes from {} to {}, and {:.0} from there to {}",
            bytes(quarter, half),
            quarter.0,
            half.0,
            bytes(half, whole),
            whole.0
        ));
        let what = format!(
            "gateway: memory of an installation, from {} to {} of them",
            quarter.0, whole.0
        );
        report.figure(
            Some(Engine::Sqlite),
            &what,
            bytes(quarter, whole),
            "bytes",
            Wanted::Nothing,
        );
    }
    Ok(())
}

async fn take(world: &World<'_>) -> Result<Taken> {
    let verifier = world.issuer.verifier(Clock::System);
    let registry = Registry::start(world.database, Arc::clone(&verifier)).await?;
    let granted = Granted::to(registry.pipe(Workload::Gateway)).await?;
    let gateway = Child::gateway(granted.address, world.issuer.issuer()).await;
    tokio::time::sleep(SETTLE).await;
    let ready = gateway.memory("VmRSS") - gateway.before;
    let listed = list_all(
        &Caller::new(&gateway.address, Some(world.admin())),
        world.plan.size.gateways,
    )
    .await?;
    tokio::time::sleep(SETTLE).await;
    let taken = Taken {
        start: gateway.start,
        ready,
        used: gateway.memory("VmRSS") - gateway.before,
        peak: gateway.memory("VmHWM"),
    };
    say(&format!(
        "  ready after {:.2} s; before it {:.1} MB, its state {:.1} MB when ready and {:.1} MB once {listed} gateways were listed",
        taken.start, gateway.before, taken.ready, taken.used
    ));
    drop(gateway);
    drop(granted);
    registry.stop().await;
    Ok(taken)
}

/// Has every gateway's table built, as callers do.
async fn list_all(caller: &Caller, gateways: usize) -> Result<usize> {
    futures::stream::iter(0..gateways)
        .map(|gateway| async move {
            let request = ListToolsRequest {
                parent: gateway_name(gateway),
                page_size: 1,
                page_token: String::new(),
            };
            caller.tools().list_tools(request).await.map(drop)
        })
        .buffer_unordered(CALLS)
        .try_fold(0, async |count, ()| Ok(count + 1))
        .await
        .map_err(Into::into)
}
