//! Measures the rollout of a change of what an entry runs to all its installations, and the latency of other writes
//! during it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::registry::{
    CreateGatewayRequest, DeleteGatewayRequest, EntryRollout, Gateway as GatewayMessage, GetEntryRequest, RemoteServer,
    UpdateEntryRequest, entry::Server,
};
use integration_tests::{Caller, Result};
use prost_types::FieldMask;
use service_kit::{Clock, Workload};
use uuid::Uuid;

use crate::{
    data::entries::POPULAR,
    database::Engine,
    report::{Report, Times, Wanted, say},
    stack::{Gateway, Registry, World},
};

const EDITS: usize = 2;
/// How long writes without a rollout are measured.
const ALONE: Duration = Duration::from_secs(3);
/// The timeout of a rollout.
const TIMEOUT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn measure(engine: Engine, world: &World<'_>, report: &mut Report) -> Result<()> {
    let verifier = world.issuer.verifier(Clock::System);
    let registry = Registry::start(world.database, Arc::clone(&verifier)).await?;
    let gateway = Gateway::start(registry.pipe(Workload::Gateway), verifier).await?;
    let measured = edits(engine, world, &registry, report).await;
    gateway.stop().await;
    registry.stop().await;
    measured
}

async fn edits(engine: Engine, world: &World<'_>, registry: &Registry, report: &mut Report) -> Result<()> {
    let admin = registry.caller(world.admin());
    let alone = Probe::start(registry.caller(world.admin()));
    tokio::time::sleep(ALONE).await;
    let alone = alone.stop().await?;
    say(&format!(
        "  {} writes without an edit: p50 {:.1} ms, longest {:.1} ms",
        alone.count(),
        alone.percentile(0.5),
        alone.longest()
    ));
    let (mut waited, mut answered, mut moved) = (Times::default(), Times::default(), Times::default());
    for edit in 0..EDITS {
        let probe = Probe::start(registry.caller(world.admin()));
        let begin = Instant::now();
        let rollout = change(&admin, world, edit).await?;
        answered.since(begin);
        let installations = rollout.moved + rollout.held + rollout.left;
        let moving = wait(&admin, world, begin).await?;
        moved.since(begin);
        let others = probe.stop().await?;
        say(&format!(
            "  edit {}: answered with {} of {installations} left; none left after {:.1} s (moved {}, held {}); {} other writes: \
             p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            edit + 1,
            rollout.left,
            begin.elapsed().as_secs_f64(),
            moving.moved,
            moving.held,
            others.count(),
            others.percentile(0.5),
            others.percentile(0.99),
            others.longest()
        ));
        waited.add(others);
    }
    let count = world.plan.popular();
    let what = |what: &str| format!("edit of an entry with {count} installations: {what}");
    report.figure(
        Some(engine),
        &what("longest other write"),
        waited.longest(),
        "ms",
        Wanted::AtMost(50.0),
    );
    report.figure(
        Some(engine),
        &what("all moved"),
        moved.longest() / 1e3,
        "s",
        Wanted::AtMost(30.0),
    );
    report.figure(
        Some(engine),
        &what("its call returns"),
        answered.longest() / 1e3,
        "s",
        Wanted::Nothing,
    );
    Ok(())
}

/// Changes the URL of the entry.
async fn change(admin: &Caller, world: &World<'_>, edit: usize) -> Result<EntryRollout> {
    let mut entry = read(admin, world).await?;
    entry.etag.clear();
    entry.server = Some(Server::Remote(RemoteServer {
        url: format!("https://mcp-0.example.com/mcp/{edit}/{}", Uuid::new_v4()),
        ..RemoteServer::default()
    }));
    let request = UpdateEntryRequest {
        entry: Some(entry),
        update_mask: Some(FieldMask {
            paths: vec!["remote".to_owned()],
        }),
    };
    let entry = admin.entries().update_entry(request).await?.into_inner();
    Ok(entry.rollout.unwrap_or_default())
}

/// Waits until no installation is left.
async fn wait(admin: &Caller, world: &World<'_>, begin: Instant) -> Result<EntryRollout> {
    loop {
        let rollout = read(admin, world).await?.rollout.unwrap_or_default();
        if rollout.left == 0 {
            return Ok(rollout);
        }
        if begin.elapsed() > TIMEOUT {
            return Err(format!("{} installations left after {} s", rollout.left, TIMEOUT.as_secs()).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read(admin: &Caller, world: &World<'_>) -> Result<contracts::registry::Entry> {
    let name = world.plan.entry_name(POPULAR);
    Ok(admin.entries().get_entry(GetEntryRequest { name }).await?.into_inner())
}

/// A client that creates a gateway and deletes it, repeatedly.
struct Probe {
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<Result<Times, tonic::Status>>,
}

impl Probe {
    fn start(caller: Caller) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writing = tokio::spawn(async move {
            let mut times = Times::default();
            while !stopped.load(Ordering::Relaxed) {
                let request = CreateGatewayRequest {
                    gateway_id: format!("probe-{}", &Uuid::new_v4().simple().to_string()[..12]),
                    gateway: Some(GatewayMessage::default()),
                    request_id: String::new(),
                };
                let begin = Instant::now();
                let GatewayMessage { name, .. } = caller.gateways().create_gateway(request).await?.into_inner();
                times.since(begin);
                let request = DeleteGatewayRequest {
                    name,
                    etag: String::new(),
                };
                let begin = Instant::now();
                caller.gateways().delete_gateway(request).await?;
                times.since(begin);
            }
            Ok(times)
        });
        Self { stop, writing }
    }

    async fn stop(self) -> Result<Times> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.writing.await??)
    }
}
