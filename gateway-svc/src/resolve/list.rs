//! What a caller sees.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{access, choose};
use crate::{
    domain::{CallError, Caller, ConsumerRef, ExposedTool, Installation},
    snapshot::Snapshot,
};

/// Every tool of a gateway or agent whose entry the caller sees, sorted by exposed name; also where nothing resolves for them yet.
/// A tool that no server has defined any more has no definition to show, and is left out.
pub(crate) fn list(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Vec<ExposedTool>, CallError> {
    let access::Entered { consumer, table, teams } = access::enter(snapshot, caller, name)?;
    // Where a route is not pinned, all tools of an entry resolve alike.
    let mut resolved: HashMap<&str, Option<&Arc<Installation>>> = HashMap::new();
    let mut tools = Vec::with_capacity(table.routes().len());
    for route in table.routes() {
        let Some(entry) = snapshot
            .entry(&route.entry_uid)
            .filter(|entry| access::sees(caller, &teams, entry))
        else {
            continue;
        };
        let choose = || choose::choose(snapshot, caller, &teams, consumer, route).map(|(_, installation)| installation);
        let installation = if route.pinned.is_some() {
            choose()
        } else {
            *resolved.entry(&route.entry_uid).or_insert_with(choose)
        };
        let Some(definition) =
            choose::definition(snapshot, installation, route).and_then(|(hash, json)| route.expose(hash, json))
        else {
            continue;
        };
        let connected = installation
            .is_some_and(|installation| choose::fault(snapshot, entry, installation, &route.tool).is_none());
        tools.push(ExposedTool {
            exposed_name: Arc::clone(&route.exposed_name),
            entry: Arc::clone(&entry.slug),
            tool: Arc::clone(&route.tool),
            definition,
            connected,
        });
    }
    Ok(tools)
}

/// A number that differs where two lists would look different to an MCP client: names and definitions, in order.
pub(crate) fn fingerprint(tools: &[ExposedTool]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tool in tools {
        tool.definition.hash(&mut hasher);
    }
    hasher.finish()
}
