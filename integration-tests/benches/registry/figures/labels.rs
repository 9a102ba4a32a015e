//! Measures label changes of an entry, which add its tools to gateways or remove them. A call returns when a gateway
//! has applied the change.

use std::{sync::Arc, time::Instant};

use contracts::{
    gateway::ListToolsRequest,
    registry::{Entry, GetEntryRequest, UpdateEntryRequest},
};
use integration_tests::{Caller, Result};
use prost_types::FieldMask;
use service_kit::{Clock, Workload};

use crate::{
    data::entries::{MOVING_LABEL, MOVING_TOOLS},
    database::Engine,
    report::{Report, Times, Wanted, say},
    stack::{Gateway, Registry, World, lags},
};

const CHANGES: usize = 200;
const WARM_UP: usize = 10;
/// The gateway's tools are listed once in this many changes.
const ASKED: usize = 20;

pub(crate) async fn measure(engine: Engine, world: &World<'_>, report: &mut Report) -> Result<()> {
    let verifier = world.issuer.verifier(Clock::System);
    let registry = Registry::start(world.database, Arc::clone(&verifier)).await?;
    let gateway = Gateway::start(registry.pipe(Workload::Gateway), verifier).await?;
    let measured = changes(engine, world, &registry, &gateway, report).await;
    gateway.stop().await;
    registry.stop().await;
    measured
}

async fn changes(
    engine: Engine,
    world: &World<'_>,
    registry: &Registry,
    gateway: &Gateway,
    report: &mut Report,
) -> Result<()> {
    let (admin, asker) = (registry.caller(world.admin()), gateway.caller(world.admin()));
    let name = world.plan.entry_name(world.plan.moving());
    let gateways = world.plan.moved_to();
    let entry = admin.entries().get_entry(GetEntryRequest { name }).await?.into_inner();
    let (mut times, mut late) = (Times::default(), 0);
    for change in 0..WARM_UP + CHANGES {
        let here = change % 2 == 0;
        let begin = Instant::now();
        let answer = admin.entries().update_entry(relabelled(&entry, here)).await?;
        if change >= WARM_UP {
            times.since(begin);
            late += usize::from(lags(&answer));
        }
        if change % ASKED < 2 {
            // A fast change that is not in force must not count.
            let asked = &gateways[change % gateways.len()];
            let expected = if here { MOVING_TOOLS } else { 0 };
            let listed = tools(&asker, asked).await?;
            if listed != expected {
                return Err(format!("{asked} lists {listed} tools, not {expected}, when the call has returned").into());
            }
        }
    }
    say(&format!(
        "  {CHANGES} changes of {} tools in {} gateways; {late} returned before the gateway had them; longest {:.1} ms",
        gateways.len() * MOVING_TOOLS,
        gateways.len(),
        times.longest()
    ));
    for (what, share, limit) in [("p50", 0.5, 20.0), ("p99", 0.99, 50.0)] {
        let what = format!(
            "label change, {} tools in {} gateways: {what}",
            gateways.len() * MOVING_TOOLS,
            gateways.len()
        );
        report.figure(
            Some(engine),
            &what,
            times.percentile(share),
            "ms",
            Wanted::AtMost(limit),
        );
    }
    Ok(())
}

fn relabelled(entry: &Entry, here: bool) -> UpdateEntryRequest {
    let mut entry = Entry {
        etag: String::new(),
        ..entry.clone()
    };
    let (key, value) = MOVING_LABEL;
    let value = if here { value } else { "elsewhere" };
    entry.labels.insert(key.to_owned(), value.to_owned());
    UpdateEntryRequest {
        entry: Some(entry),
        update_mask: Some(FieldMask {
            paths: vec!["labels".to_owned()],
        }),
    }
}

/// The number of tools of a gateway.
async fn tools(caller: &Caller, gateway: &str) -> Result<usize> {
    let request = ListToolsRequest {
        parent: gateway.to_owned(),
        page_size: 100,
        page_token: String::new(),
    };
    Ok(caller.tools().list_tools(request).await?.into_inner().tools.len())
}
