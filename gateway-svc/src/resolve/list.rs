//! What a caller sees.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{
    access,
    choose::{self, Chosen},
};
use crate::{
    domain::{CallError, Caller, ConsumerRef, ExposedTool},
    snapshot::Snapshot,
};

/// Every tool of a gateway or agent whose entry the caller sees, sorted by exposed name; also where nothing resolves for them yet.
/// A tool that no server has defined any more has no definition to show, and is left out.
pub(crate) fn list(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Vec<ExposedTool>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    // Where a route is not pinned, all tools of an entry resolve alike.
    let mut resolved: HashMap<&str, Option<Chosen<'_>>> = HashMap::new();
    let mut tools = Vec::with_capacity(entered.table.routes().len());
    for route in entered.table.routes() {
        let Some(entry) = entered.entry(route) else { continue };
        let choose = || choose::choose(&entered, route, entry);
        let pinned;
        let chosen = if route.pinned.is_some() {
            pinned = choose();
            pinned.as_ref()
        } else {
            resolved.entry(&route.entry_uid).or_insert_with(choose).as_ref()
        };
        let installation = chosen.map(|chosen| chosen.installation);
        let Some((hash, definition)) = choose::definition(&entered, installation, entry, &route.tool) else {
            continue;
        };
        tools.push(ExposedTool {
            exposed_name: Arc::clone(&route.exposed_name),
            entry: Arc::clone(&entry.slug),
            tool: Arc::clone(&route.tool),
            hash: Arc::clone(hash),
            definition: Arc::clone(definition),
            connected: chosen.is_some_and(|chosen| chosen.can_call(&entered, &route.tool)),
        });
    }
    Ok(tools)
}

/// A number that differs where two lists would look different to an MCP client: names and definitions, in order.
pub(crate) fn fingerprint(tools: &[ExposedTool]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tool in tools {
        (&tool.exposed_name, &tool.hash).hash(&mut hasher);
    }
    hasher.finish()
}
