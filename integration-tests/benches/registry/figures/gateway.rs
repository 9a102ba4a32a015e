//! Measures the start time and memory of a gateway in its own process.

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

/// The time in which the allocator returns free memory.
const SETTLE: Duration = Duration::from_secs(2);
/// The number of concurrent calls that build tables.
const CALLS: usize = 8;

/// The figures of one gateway.
struct Taken {
    start: f64,
    /// The increase of memory from before the gateway was built until it was ready, in MB.
    ready: f64,
    /// The same after all gateways' tools have been listed.
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

/// Measures the memory per installation, with a quarter and half of the installations.
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
    // The allocator keeps some MB more or less, so the whole range is the most accurate.
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

/// Lists all tools of all gateways, which builds their tables.
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
